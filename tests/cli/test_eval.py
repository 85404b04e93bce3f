"""``ovvol-bench eval``: results from stored predictions alone."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from synthetic_vid import synthetic, write_shards, write_tree

from ovvol_bench.cli import main
from ovvol_bench.files import sealed
from ovvol_bench.metrics import evaluate as evaluate_predictions
from ovvol_bench.metrics.corloc import CorLoc
from ovvol_bench.runs.predictions import PredictionWriter, read_predictions

RUNS = Path(__file__).parents[1] / "runs"
PLUGIN = ["--plugin", str(RUNS / "tiny_plugin.py")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run folder; tests put its result back."""
    root = tmp_path_factory.mktemp("runs")
    command = ["run", "--preset", str(RUNS / "tiny.yaml"), *PLUGIN, "--output", str(root)]
    done = CliRunner().invoke(main, command, env={"OVVOL_PLUGINS": "metrics"})
    assert done.exit_code == 0, done.output
    return next(root.rglob("result.json")).parent


@pytest.fixture
def folder(finished):
    before = (finished / "result.json").read_bytes()
    yield finished
    (finished / "result.json").write_bytes(before)


@pytest.fixture
def evaluate(monkeypatch):
    monkeypatch.setenv("OVVOL_PLUGINS", "metrics,data")
    return lambda *arguments: CliRunner().invoke(main, ["eval", *PLUGIN, *map(str, arguments)])


def stored(folder):
    return json.loads((folder / "result.json").read_text())


def test_a_result_is_computed_again_from_predictions_alone(folder, evaluate, monkeypatch):
    before = stored(folder)
    damaged = {**before, "metrics": {}}
    (folder / "result.json").write_text(json.dumps(damaged))
    monkeypatch.setattr("ovvol_bench.runs.plan.build_encoder", None)
    done = evaluate(folder)
    assert done.exit_code == 0, done.output
    assert "corloc_any" in done.output
    assert stored(folder) == before


def test_named_metrics_and_protocols_are_added(folder, evaluate):
    before = stored(folder)["metrics"]
    done = evaluate(folder, "--metrics", "corloc,boxes_per_frame", "--protocol", "vid-devkit")
    assert done.exit_code == 0, done.output
    after = stored(folder)["metrics"]
    added = {"corloc_any@vid-devkit", "corloc_top1@vid-devkit", "boxes_per_frame@vid-devkit"}
    assert after.keys() == before.keys() | added
    assert {key: after[key] for key in before} == before
    assert after["boxes_per_frame@vid-devkit"]["higher_is_better"] is stored_direction()
    rows = [line.split()[:-1] for line in done.stdout.splitlines() if "@vid-devkit" in line]
    assert ["corloc_any@vid-devkit", "%", f"{100 * after['corloc_any@vid-devkit']['value']:.1f}"] in rows
    assert ["boxes_per_frame@vid-devkit", f"{after['boxes_per_frame@vid-devkit']['value']:.2f}"] in rows


def stored_direction():
    from ovvol_bench.metrics.corloc import BoxesPerFrame

    return BoxesPerFrame.higher_is_better


def test_foreign_predictions_are_scored_against_a_dataset(folder, evaluate):
    done = evaluate(folder / "predictions", "--truth", "squares", "--metrics", "corloc", "--format", "json")
    assert done.exit_code == 0, done.output
    scored = json.loads(done.stdout)
    skipped = {"frames without pictures": 1}
    assert scored["coverage"] == {"clips": 10, "done": 10, "frames": 40, "unread": [], "skipped": skipped}
    key = "corloc_any@vid-reference"
    assert scored["metrics"][key]["value"] == stored(folder)["metrics"][key]["value"]
    table = evaluate(folder / "predictions", "--truth", "squares")
    assert "10 of 10 clips, 40 frames" in table.output


def test_clips_that_cannot_be_scored_are_counted(folder, evaluate):
    arguments = (folder / "predictions", "--truth", "squares", "-o", "dataset.clips=7", "--metrics", "corloc")
    done = evaluate(*arguments, "--on-error", "skip", "--format", "json")
    assert done.exit_code == 0, done.output
    coverage = json.loads(done.stdout)["coverage"]
    skipped = {"frames without pictures": 1, "unknown clip": 3}
    assert coverage == {"clips": 7, "done": 7, "frames": 28, "unread": [], "skipped": skipped}
    assert "skipped: 3 x unknown clip" in evaluate(*arguments, "--on-error", "skip").stdout


def test_pictures_are_drawn_of_a_run_and_of_a_file(folder, evaluate, tmp_path):
    before = stored(folder)["metrics"]
    kinds = ("errors", "gains", "confusion", "curves", "rates")
    done = evaluate(folder, "--pictures", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert {path.name for path in (tmp_path / "run").iterdir()} == {f"{k}@vid-reference.png" for k in kinds}
    assert f"written: {tmp_path / 'run' / 'errors@vid-reference.png'}" in done.stderr
    after = stored(folder)["metrics"]
    assert {key: after[key] for key in before} == before
    assert "right_objects@vid-reference" in after

    arguments = (folder / "predictions", "--truth", "squares", "--protocol", "vid-devkit")
    done = evaluate(*arguments, "--pictures", tmp_path / "file", "--metrics", "corloc", "--format", "json")
    assert done.exit_code == 0, done.output
    assert {path.name for path in (tmp_path / "file").iterdir()} == {f"{k}@vid-devkit.png" for k in kinds}
    assert "corloc_any@vid-devkit" in json.loads(done.stdout)["metrics"]


def test_metrics_that_do_not_fit_a_run_are_left_out_on_demand(folder, evaluate):
    done = evaluate(folder, "--metrics", "corloc,fg_ari", "--on-error", "skip")
    assert done.exit_code == 0, done.output
    assert "left out: metric 'fg_ari' needs true masks" in done.stderr


def test_a_run_that_was_cut_off_is_scored_and_not_finished(folder, evaluate):
    (folder / "result.json").unlink()
    done = evaluate(folder, "--format", "json")
    assert "cut off" in done.stderr
    assert json.loads(done.stdout)["coverage"]["done"] == 10
    assert not (folder / "result.json").exists()


def test_changed_data_are_refused(folder, evaluate):
    spec_file = folder / "run.json"
    before = spec_file.read_text()
    run = json.loads(before)
    run["spec"]["dataset"]["options"]["clips"] = 9
    spec_file.write_text(json.dumps(run))
    done = evaluate(folder)
    elsewhere = evaluate(folder, "-o", "dataset.backwards=true")
    spec_file.write_text(before)
    assert done.exit_code == elsewhere.exit_code == 2
    assert "dataset 'squares' (dataset.backwards=False) has changed since the run" in done.stderr
    assert "dataset 'squares' (dataset.backwards=True) is not the one of the run" in elsewhere.stderr


def test_where_the_data_of_a_run_lies_now_can_be_said(folder, evaluate):
    before = stored(folder)
    done = evaluate(folder, "-o", "dataset.backwards=true")
    assert done.exit_code == 0, done.output
    assert stored(folder)["metrics"] == before["metrics"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["predictions"], "say what its truth is with --truth"),
        (["predictions", "--truth", "squares", "-o", "encoder.dim=3"], "scoring runs no encoder"),
        (["predictions", "--truth", "squares", "-o", "dataset.clips=3"], "is not in the dataset"),
        ([".", "--truth", "squares"], "knows its dataset"),
        ([".", "-o", "dataset.clips=3"], "-o dataset.clips: a run knows its dataset; expected only where"),
        ([".", "--metrics", "fg_ari"], "'fg_ari' needs true masks: dataset 'squares' has none. Leave it out"),
        ([".", "--input-format", "coco"], "drop --input-format"),
        ([".", "--metrics", "corlok"], "Did you mean 'corloc'?"),
        ([".", "--protocol", "vid"], "protocol"),
        (["nothing"], "does not exist"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(folder, evaluate, arguments, expected):
    done = evaluate(folder / arguments[0], *arguments[1:])
    assert done.exit_code == 2
    assert expected in done.stderr


def test_a_file_is_scored_without_torch(tmp_path):
    predictions, truth = synthetic(64)
    write_shards(predictions, tmp_path / "predictions")
    tree = write_tree(truth.values(), tmp_path / "tree")
    dataset = ["--truth", "imagenet-vid", "-o", f"dataset.path={tree}", "-o", f"dataset.cache={tmp_path}"]
    arguments = ["eval", str(tmp_path / "predictions"), *dataset, "--format", "json"]
    script = (
        "import sys\n"
        "from ovvol_bench.cli import main\n"
        f"main({arguments!r}, standalone_mode=False)\n"
        "assert 'torch' not in sys.modules\n"
    )
    environment = {**os.environ, "OVVOL_PLUGINS": "metrics,data"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    scored = json.loads(done.stdout)
    assert scored["coverage"] == {"clips": 8, "done": 8, "frames": 64, "unread": [], "skipped": {}}
    own = evaluate_predictions(predictions, truth, [CorLoc(protocol="vid-reference")])
    assert scored["metrics"]["corloc_any@vid-reference"]["value"] == own["corloc_any@vid-reference"].value


def test_lost_predictions_are_no_result(folder, evaluate, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    shard = next((copy / "predictions").iterdir())
    predictions = read_predictions(copy / "predictions")
    shard.unlink()
    PredictionWriter(copy / "predictions").write(list(predictions)[:6])
    done = evaluate(copy)
    assert done.exit_code == 2
    assert "6 clips are there, and 10 of 10 were localized" in done.output
    assert stored(copy) == stored(folder)
    (copy / "result.json").unlink()
    scored = json.loads(evaluate(copy, "--format", "json").stdout)
    assert scored["status"] == "failed" and scored["coverage"]["done"] == 6


def test_added_numbers_are_all_of_one_computation_and_can_be_reproduced(folder, evaluate):
    damaged = stored(folder)
    damaged["metrics"]["detrate@vid-reference"]["value"] = 0.123
    (folder / "result.json").write_text(json.dumps(sealed(damaged)))
    assert evaluate(folder, "--metrics", "errors").exit_code == 0
    after = stored(folder)
    assert after["metrics"]["detrate@vid-reference"]["value"] != 0.123
    assert "errors" in [each["name"] for each in after["scoring"]]


def test_an_outside_result_stands_beside_runs(folder, evaluate, tmp_path):
    file = tmp_path / "owl.json"
    done = evaluate(
        folder / "predictions", "--truth", "squares", "--name", "owlv2-large", "--output", file,
        "--metrics", ",".join(each["name"] for each in stored(folder)["scoring"]),
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    outside, run = json.loads(file.read_text()), stored(folder)
    assert outside["videos"] == run["videos"]
    assert {key: each["value"] for key, each in outside["metrics"].items()} == {
        key: each["value"] for key, each in run["metrics"].items()
    }
    call = lambda *words: CliRunner().invoke(main, [str(word) for word in words])  # noqa: E731
    (block,) = json.loads(call("table", folder, file, "--format", "json").stdout)[:1]
    assert block["method"] in ("owlv2-large", "–")
    text = call("table", folder, file).stdout
    assert text.count("squares") == 1 and "owlv2-large" in text and "method" in text
    assert "owlv2-large" in call("compare", folder, file).output
    added = call("results", "add", folder, file, "--to", tmp_path / "results")
    assert added.exit_code == 0, added.output
    assert f"squares/owlv2-large/{outside['id']}.json" in added.output
    assert call("results", "check", tmp_path / "results").exit_code == 0
    again = call("reproduce", file)
    assert again.exit_code == 2 and "owlv2-large" in again.output
