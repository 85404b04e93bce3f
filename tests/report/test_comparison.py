"""Runs side by side, and runs that must not be."""

import json

import pytest

from ovvol_bench.errors import OvvolError
from ovvol_bench.report.comparison import compare


def test_two_runs_are_ranked_and_subtracted(make_result):
    runs = [
        make_result(scores={"ap50": 0.3}, speed=2.0),
        make_result(grouper="kmeans", scores={"ap50": 0.5}, speed=5.0),
    ]
    lines = compare(runs, ["grouper", "ap50", "clips_per_s"]).splitlines()
    assert [line.split()[1:4] for line in lines[4:6]] == [
        ["kmeans", "50.0", "5.00"],
        ["slot_attention", "30.0", "2.00"],
    ]
    assert lines[6].split() == ["first", "−", "second", "+20.0", "+3.00"]


def test_seeds_stay_apart_and_equal_numbers_differ_by_plain_zero(make_result):
    runs = [make_result(seed=0), make_result(seed=1)]
    text = compare(runs, ["ap50"])
    assert all(run["id"] in text for run in runs)
    assert "+0.0" in text
    assert "-0.0" not in text


def test_three_runs_have_no_difference(make_result):
    runs = [make_result(grouper=name) for name in ("a", "b", "c")]
    assert "first − second" not in compare(runs)
    assert len(json.loads(compare(runs[:2], style="json"))) == 2


def test_what_only_one_run_has_is_not_subtracted(make_result):
    runs = [make_result(scores={"ap50": 0.3}), make_result(grouper="kmeans", scores={"ap50": None})]
    assert compare(runs, ["ap50"]).splitlines()[6].split() == ["first", "−", "second", "–"]


def test_speeds_of_two_machines_are_not_subtracted(make_result):
    runs = [make_result(), make_result(grouper="kmeans", machine={"gpu": "H100"})]
    assert compare(runs, ["clips_per_s"]).splitlines()[6].split() == ["first", "−", "second", "–", "–"]


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
