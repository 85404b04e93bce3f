"""Runs side by side, and runs that must not be."""

import json
import random
import re

import pytest
from stored_results import as_read

from ovvol_bench import api
from ovvol_bench.api.result import Result
from ovvol_bench.errors import OvvolError
from ovvol_bench.results.statistics import holm


def compare(records, columns=None, style="text", correct=False):
    results = map(Result, as_read(records))
    return api.result.compare(*results, columns=columns, best_first=True, correct=correct).table(style)


def differences(text):
    """Cells of the lower table: pair, number, value, interval, share, p."""
    lines = text.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("first row minus"))
    return [re.split(r"  +", line.strip()) for line in lines[start + 4 :] if line and "bootstrap" not in line]


def test_two_runs_are_ranked_and_subtracted(make_result):
    runs = [
        make_result(scores={"ap50": 0.3}, speed=2.0),
        make_result(grouper="kmeans", scores={"ap50": 0.5}, speed=5.0),
    ]
    text = compare(runs, ["grouper", "ap50", "clips_per_s"])
    assert [line.split()[1:4] for line in text.splitlines()[4:6]] == [
        ["kmeans", "50.0", "5.00"],
        ["slot_attention", "30.0", "2.00"],
    ]
    assert [cells[:4] for cells in differences(text)[:2]] == [
        ["kmeans − slot_attention", "ap50 %", "+20.0", "–"],
        ["kmeans − slot_attention", "clips_per_s", "+3.00", "–"],
    ]
    assert "no intervals" in text


def test_a_difference_has_an_interval_over_videos(make_result):
    values = [0.3 + 0.1 * (index % 5) for index in range(30)]
    runs = [
        make_result(grouper="a", by_video={"ap50": [value + 0.05 for value in values]}),
        make_result(grouper="b", by_video={"ap50": values}),
    ]
    text = compare(runs, ["ap50"])
    assert differences(text) == [["a − b", "ap50 %", "+5.0", "+5.0 to +5.0", "1.000", "0.000"]]
    assert "bootstrap over 30 videos" in text
    (record,) = json.loads(compare(runs, ["ap50"], "json"))
    assert record["low"] == pytest.approx(0.05)
    assert (record["first"], record["other"], record["videos"]) == ("a", "b", 30)
    assert compare(runs, ["ap50"], "csv").splitlines()[1].startswith("a,b,ap50@vid-reference,0.05")


def test_several_comparisons_are_corrected_on_request(make_result):
    rng = random.Random(0)
    runs = [
        make_result(grouper=name, by_video={"ap50": [shift + rng.gauss(0.5, 0.1) for _ in range(30)]})
        for name, shift in (("a", 0.05), ("b", 0.0), ("c", 0.0))
    ]
    plain, corrected = (json.loads(compare(runs, ["ap50"], "json", correct=each)) for each in (False, True))
    p_values = [each["p_value"] for each in plain]
    assert [each["p_value"] for each in corrected] == pytest.approx(holm(p_values))
    assert "Holm p" in compare(runs, ["ap50"], correct=True)


def test_seeds_are_averaged_where_combinations_differ(make_result):
    runs = [make_result(grouper=name, seed=seed) for name in ("a", "b") for seed in (0, 1)]
    assert len(differences(compare(runs, ["ap50"]))) - 1 == 1


def test_seeds_of_one_combination_stay_apart_and_differ_by_plain_zero(make_result):
    runs = [make_result(seed=0), make_result(seed=1)]
    text = compare(runs, ["ap50"])
    assert all(run["id"] in text for run in runs)
    assert "seed 0 − seed 1" in text
    assert "+0.0" in text
    assert "-0.0" not in text


def test_the_first_is_compared_with_each_other(make_result):
    runs = [make_result(grouper=name) for name in ("a", "b", "c")]
    pairs = [each["first"] + each["other"] for each in json.loads(compare(runs, ["ap50"], "json"))]
    assert pairs == ["ab", "ac"]


def test_what_only_one_run_has_is_not_subtracted(make_result):
    runs = [make_result(scores={"ap50": 0.3}), make_result(grouper="kmeans", scores={"ap50": None})]
    assert differences(compare(runs, ["ap50"]))[0][2] == "–"


def test_speeds_of_two_machines_are_not_subtracted(make_result):
    runs = [make_result(), make_result(grouper="kmeans", machine={"gpu": "H100"})]
    assert [cells[2] for cells in differences(compare(runs, ["clips_per_s"]))[:2]] == ["–", "–"]


def test_a_failed_run_can_stand_beside_a_finished_one(make_result):
    runs = [make_result(grouper="broken", error="no weights"), make_result()]
    assert "no weights" in compare(runs)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"fingerprint": "beef" * 16}, "fingerprint (f00df00df00df00d and beefbeefbeefbeef)"),
        ({"protocol": "vid-devkit"}, "protocols (vid-reference and vid-devkit)"),
        ({"dataset": {"name": "shapes", "fingerprint": "f00d" * 16, "clips": 48}}, "split (test and none)"),
    ],
)
def test_runs_whose_numbers_do_not_compare_are_refused_with_the_reason(make_result, other, reason):
    with pytest.raises(OvvolError) as caught:
        compare([make_result(), make_result(grouper="kmeans", **other)])
    assert reason in str(caught.value)


def test_one_run_is_not_enough(make_result):
    with pytest.raises(OvvolError, match="expected at least two"):
        compare([make_result()])


def test_filters_leave_what_is_to_be_compared(make_result, tmp_path):
    from click.testing import CliRunner

    from ovvol_bench.cli import main
    from ovvol_bench.files import write_json

    for number, (grouper, fingerprint) in enumerate([("kmeans", "a"), ("grid", "a"), ("kmeans", "b")]):
        result = make_result(grouper=grouper, fingerprint=fingerprint * 64, options={"n": fingerprint})
        write_json(tmp_path / f"{number}.json", result)
    call = lambda *words: CliRunner().invoke(main, ["compare", str(tmp_path), *words])  # noqa: E731
    assert call().exit_code == 2
    done = call("grouper.n=a")
    assert done.exit_code == 0, done.output
    assert "kmeans" in done.output and "grid" in done.output
