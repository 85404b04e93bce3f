"""``ovvol-bench run`` from the command line, with tiny components."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ovvol_bench.cli import main

RUNS = Path(__file__).parents[1] / "runs"


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
    (folder,) = (tmp_path / "runs/squares/tiny+randomcut+colours").iterdir()
    assert f"done: {folder.relative_to(tmp_path)}" in done.output


def test_json_has_whole_results(invoke, tmp_path):
    done = invoke("--format", "json", "--seeds", "3,5", "--limit", "2", "--output", "elsewhere")
    assert done.exit_code == 0, done.output
    results = json.loads(done.stdout)
    assert [result["seed"] for result in results] == [3, 5]
    assert all((tmp_path / result["folder"] / "result.json").is_file() for result in results)


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


def test_failures_alone_are_raised(invoke):
    refused = invoke("--grouper", "needy")
    assert refused.exit_code == 2
    assert refused.stderr.startswith("ovvol-bench: grouper 'needy' needs keys")
    bug = invoke("--grouper", "brokencut")
    assert isinstance(bug.exception, ZeroDivisionError)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--preset", "shape"], "Did you mean 'shapes'?"),
        (["--grouper", "randomcat"], "Did you mean 'randomcut'?"),
        (["-o", "grouper.num_slots=many"], "num_slots"),
        (["-o", "grouper.slots=8"], "no grouper of this run has a setting 'slots'"),
        (["-o", "naming.merg=none"], "Did you mean 'merge'?"),
        (["-o", "dataset.clips=0"], "has no clips"),
        (["--seeds", "0;1"], "no list of seeds"),
        (["--consensus", "3-10"], "expected LOW..HIGH"),
        (["--consensus", "3..10"], "merges several seeds"),
        (["--limit", "0"], "--limit must be at least 1"),
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
    monkeypatch.setattr(overlays, "write_overlays", lambda *arguments: drawn.append(arguments))
    assert invoke("--overlays", "--limit", "2").exit_code == 0
    ((folder, dataset, predictions, out),) = drawn
    assert out == folder / "overlays"
    assert (len(dataset), len(predictions)) == (10, 2)
