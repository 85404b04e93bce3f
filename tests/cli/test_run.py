"""``ovvol-bench run`` from the command line, with tiny components."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from ovvol_bench.cli import main

RUNS = Path(__file__).parents[1] / "runs"
ASKING = """
from ovvol_bench import Entry, hookimpl

def build(*, size: int):
    raise AssertionError("can't be built without a size")

@hookimpl
def ovvol_groupers():
    yield Entry("asking", build, "has a setting without a default")
"""


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    monkeypatch.setenv("OVVOL_PLUGINS", "metrics")
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        preset = () if "--preset" in arguments else ("--preset", str(RUNS / "tiny.yaml"))
        return CliRunner().invoke(
            main, ["run", *preset, "--plugin", str(RUNS / "tiny_plugin.py"), *arguments]
        )

    return call


def test_prints_a_table_coverage_and_folders(invoke, tmp_path):
    done = invoke("--limit", "4")
    assert done.exit_code == 0, done.output
    for expected in ("corloc_any", "corloc_top1", "detrate", "ap50", "clips_per_s", "randomcut"):
        assert expected in done.output
    assert "4 of 4 clips, 16 frames; 1 skipped: frames without pictures" in done.output
    assert re.search(
        r"^frames: \d+\.\d s of work to read them, \d+\.\d s waited for them$", done.output, re.M
    )
    (folder,) = (tmp_path / "runs/squares/tiny+randomcut+colours").iterdir()
    assert f"done: {folder.relative_to(tmp_path)}" in done.output


def test_json_has_whole_results(invoke, tmp_path):
    done = invoke("--format", "json", "--seeds", "3,5", "--limit", "2", "--output", "elsewhere")
    assert done.exit_code == 0, done.output
    results = json.loads(done.stdout)
    assert [result["seed"] for result in results] == [3, 5]
    assert all((tmp_path / result["folder"] / "result.json").is_file() for result in results)


def test_options_given_again_add_up(invoke):
    done = invoke("--format", "json", "--seeds", "3", "--seeds", "5,6", "--limit", "1")
    assert [result["seed"] for result in json.loads(done.stdout)] == [3, 5, 6]


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        (["detrate"], {"detrate@vid-reference"}),
        (["detrate", "boxes_per_frame"], {"detrate@vid-reference", "boxes_per_frame@vid-reference"}),
        (["+boxes_per_frame"], None),
    ],
)
def test_metrics_are_chosen_or_added(invoke, metrics, expected):
    usual = set(json.loads(invoke("--format", "json", "--limit", "1").stdout)[0]["metrics"])
    typed = [text for name in metrics for text in ("--metrics", name)]
    (result,) = json.loads(invoke("--format", "json", "--limit", "1", *typed).stdout)
    assert set(result["metrics"]) == (expected or usual | {"boxes_per_frame@vid-reference"})


def test_metrics_that_were_chosen_have_columns(invoke):
    table = invoke("--limit", "1", "--metrics", "boxes_per_frame").stdout
    assert "boxes_per_frame" in table and "ap50" not in table


def test_settings_and_consensus_reach_the_result(invoke):
    options = ("-o", "grouper.num_slots=3", "-o", "naming.merge=none", "-o", "metric.protocol=vid-devkit")
    more = ("--seeds", "0,1", "--consensus", "2..3", "--limit", "2", "--format", "json")
    (result,) = json.loads(invoke(*options, *more).stdout)
    assert result["grouper"]["options"]["num_slots"] == 3
    assert result["naming"]["merge"] == "none"
    assert (result["seeds"], result["consensus"]) == ([0, 1], [2, 3])
    assert all(key.endswith("@vid-devkit") for key in result["metrics"])


def test_some_failures_give_exit_code_1_and_reasons(invoke):
    done = invoke("--grouper", "randomcut,needy,brokencut", "--limit", "2")
    assert done.exit_code == 1
    assert "grouper 'needy' needs keys from the encoder" in done.output
    assert "ZeroDivisionError: the grouper fell over" in done.output


def test_all_is_every_component_in_alphabetical_order(invoke):
    done = invoke("--grouper", "all", "--limit", "2", "--format", "json")
    assert done.exit_code == 1
    results = json.loads(done.stdout)
    assert [(each["grouper"]["name"], each["status"]) for each in results] == [
        ("brokencut", "failed"),
        ("needy", "failed"),
        ("randomcut", "done"),
        ("told", "done"),
    ]
    assert results[2]["grouper"]["options"]["num_slots"] == 5  # the preset's


def test_a_component_without_a_setting_that_it_must_have_takes_down_its_combinations_only(invoke, tmp_path):
    (tmp_path / "asking.py").write_text(ASKING)
    done = invoke("--plugin", "asking.py", "--grouper", "asking,randomcut", "--limit", "2")
    assert done.exit_code == 1
    assert "failed: tiny+asking+colours, seed 0: grouper 'asking' needs the setting 'size'" in done.output
    alone = invoke("--plugin", "asking.py", "--grouper", "asking")
    assert alone.exit_code == 2
    assert "Set it with -o grouper.size=VALUE" in alone.stderr


def test_many_failures_for_one_reason_are_one_line(invoke):
    done = invoke("--grouper", "randomcut,needy", "--seeds", ",".join(map(str, range(12))), "--limit", "1")
    (reason,) = [line for line in done.output.splitlines() if "needs keys" in line]
    assert reason.startswith("failed: tiny+needy+colours, seed 0 and 11 more: grouper 'needy' needs keys")
    folders = [line for line in done.output.splitlines() if " runs in " in line]
    assert folders == [
        "done: 12 runs in runs/squares/tiny+randomcut+colours",
        "failed: 12 runs in runs/squares/tiny+needy+colours",
    ]


MATRIX = """
encoder: tiny
grouper: [randomcut, {name: told}]
labeler: all
seeds: [3]
naming: {merge: none}
metrics: [{name: corloc, options: {box: top1}}]
"""


def test_a_matrix_file_says_what_runs_and_what_is_typed_counts_before_it(invoke, tmp_path):
    (tmp_path / "mine.yaml").write_text(MATRIX)
    results = json.loads(invoke("--matrix", "mine.yaml", "--limit", "2", "--format", "json").stdout)
    assert [(each["grouper"]["name"], each["labeler"]["name"]) for each in results] == [
        (grouper, labeler)
        for grouper in ("randomcut", "told")
        for labeler in ("colours", "guided", "slots", "told")
    ]
    assert {(each["seed"], each["naming"]["merge"], *each["metrics"]) for each in results} == {
        (3, "none", "corloc_top1@vid-reference")
    }
    typed = ("--labeler", "colours", "--seeds", "5", "-o", "naming.merge=same_name")
    first, _ = json.loads(invoke("--matrix", "mine.yaml", "--limit", "2", "--format", "json", *typed).stdout)
    assert (first["labeler"]["name"], first["seed"], first["naming"]["merge"]) == ("colours", 5, "same_name")


def test_failures_alone_are_raised(invoke):
    refused = invoke("--grouper", "needy")
    assert refused.exit_code == 2
    assert refused.stderr.startswith("ovvol-bench: grouper 'needy' needs keys")
    bug = invoke("--grouper", "brokencut")
    assert bug.exit_code == 2
    assert re.search(
        r"grouper 'brokencut' failed: ZeroDivisionError: .*tiny_plugin\.py, line \d+", bug.stderr
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--preset", "shape"], "Did you mean 'shapes'?"),
        (["--grouper", "randomcat"], "Did you mean 'randomcut'?"),
        (["-o", "grouper.num_slots=many"], "num_slots"),
        (["--grouper", "all", "-o", "grouper.num_slots=many"], "num_slots"),
        (["--grouper", "all,randomcut"], "'all' stands for every grouper"),
        (["--dataset", "all"], "unknown dataset 'all'"),
        (["--matrix", "none.yaml"], "--matrix none.yaml: no such file"),
        (["-o", "grouper.slots=8"], "no grouper of this run has a setting 'slots'"),
        (["-o", "naming.merg=none"], "Did you mean 'merge'?"),
        (["-o", "dataset.clips=0"], "has no clips"),
        (["--seeds", "0;1"], "no list of seeds"),
        (["--labeler", ""], "--labeler: expected a value, got an empty one"),
        (["--output", ""], "--output: expected a value, got an empty one"),
        (["--output="], "--output: expected a value, got an empty one"),
        (["-o", "grouper.num_slots="], "-o grouper.num_slots= gives no value"),
        (["--grouper", "randomcut,"], "empty name"),
        (["--metrics", "corlock"], "Did you mean 'corloc'?"),
        (["--consensus", "3-10"], "expected LOW..HIGH"),
        (["--consensus", "3..10"], "merges several seeds"),
        (["--limit", "0"], "'--limit': 0 is not in the range"),
        (["--precision", "bfloat16"], "Drop one of the two"),
        (["--weights-from", "nowhere"], "missing videomae.pth, grouping.pth, pacl.pth, clip.pt"),
        (["-o", "dataset.unreadable=1"], "--on-error skip"),
        (["--output", "taken/runs"], "can't write to the output folder"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(invoke, tmp_path, arguments, expected):
    (tmp_path / "taken").touch()
    done = invoke(*arguments)
    assert done.exit_code == 2
    assert expected in done.stderr
    assert "Traceback" not in done.output
    assert not list(tmp_path.rglob("result.json"))


def test_typed_weights_count_before_those_of_a_folder(invoke, tmp_path):
    for name in ("videomae.pth", "grouping.pth", "pacl.pth", "clip.pt"):
        (tmp_path / name).touch()
    done = invoke("--weights-from", str(tmp_path), "-o", "encoder.weights=mine.pth")
    assert done.exit_code == 2  # the tiny grouper has no weights to set
    assert "no grouper of this run has a setting 'weights'" in done.stderr


def test_overlays_are_drawn_into_the_run_folder(invoke, monkeypatch):
    from ovvol_bench.report import overlays

    drawn = []
    monkeypatch.setattr(overlays, "each_overlay", lambda *arguments: drawn.append(arguments) or ())
    assert invoke("--overlays", "--limit", "2").exit_code == 0
    ((folder, dataset, predictions, out, *_),) = drawn
    assert out == folder / "overlays"
    assert (len(dataset), len(predictions)) == (10, 2)


def test_an_unknown_name_is_named_with_its_file(invoke, tmp_path):
    (tmp_path / "mine.yaml").write_text("grouper: [randomcut, nope]")
    done = invoke("--matrix", "mine.yaml")
    assert (done.exit_code, "mine.yaml: unknown grouper 'nope'" in done.output.lower()) == (2, True)
    typed = invoke("--matrix", "mine.yaml", "--grouper", "wrong")
    assert "mine.yaml" not in typed.output
