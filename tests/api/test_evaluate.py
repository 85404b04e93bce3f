"""``ovvol_bench.evaluate`` and ``dataset``, on the predictions of tiny components."""

import json
from pathlib import Path

import numpy as np
import pytest

import ovvol_bench as ovb
from ovvol_bench.errors import DataError, SettingError, UnknownNameError

RUNS = Path(__file__).parents[1] / "runs"
PLUGIN = RUNS / "tiny_plugin.py"


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OVVOL_PLUGINS", "metrics")
        output = tmp_path_factory.mktemp("runs")
        asked = {"preset": RUNS / "tiny.yaml", "plugins": PLUGIN, "options": {"dataset.clips": 4}}
        yield ovb.run(**asked, output=output)


@pytest.fixture
def squares():
    return ovb.dataset("squares", plugins=PLUGIN, clips=4)


def test_a_dataset_is_opened_by_name_with_its_settings(squares):
    assert (len(squares), squares.info(0).video) == (4, "video0")
    with pytest.raises(SettingError, match="clipps"):
        ovb.dataset("squares", plugins=PLUGIN, clipps=4)
    with pytest.raises(UnknownNameError, match="Did you mean 'squares'"):
        ovb.dataset("square", plugins=PLUGIN)


def test_a_run_is_scored_again_with_further_metrics(result):
    again = ovb.evaluate(result, metrics="detrate", protocol="vid-devkit", plugins=PLUGIN)
    assert {"detrate@vid-reference", "detrate@vid-devkit", "corloc_any"} < set(again.metrics)
    assert again.path == result.path
    assert json.loads((result.path / "result.json").read_text()) == again.record.to_json()


def test_predictions_are_scored_against_an_open_dataset(result, squares):
    scored = ovb.evaluate(result.path / "predictions", squares, plugins=PLUGIN, name="mine")
    assert scored.name == "mine"
    assert scored.metrics["corloc_any"] == result.metrics["corloc_any"]
    assert scored.record.dataset.options["clips"] == 4
    assert scored.path is None


def test_predictions_are_scored_against_a_dataset_by_name(result):
    scored = ovb.evaluate(
        str(result.path / "predictions"), "squares", options={"dataset.clips": 4}, plugins=PLUGIN
    )
    assert scored.metrics["detrate"] == result.metrics["detrate"]


def test_a_dataset_that_was_not_opened_by_name_is_truth_too(result, squares):
    del squares.__dict__["_spec"]
    scored = ovb.evaluate(result.path / "predictions", squares, plugins=PLUGIN)
    assert scored.record.dataset.name == "TinyClips"
    assert scored.metrics["detrate"] == result.metrics["detrate"]


def test_metrics_that_do_not_fit_are_refused_or_left_out_and_noted(result, squares):
    predictions = result.path / "predictions"
    asked = {"metrics": ["detrate", "fg_ari"], "plugins": PLUGIN}
    (note,) = ovb.evaluate(predictions, squares, on_error="skip", **asked).notes
    assert note.startswith("left out: metric 'fg_ari' needs true masks")
    with pytest.raises(SettingError, match="'fg_ari' needs true masks"):
        ovb.evaluate(predictions, squares, **asked)


def test_a_result_is_written_and_read_again(result, squares, tmp_path):
    scored = ovb.evaluate(result.path / "predictions", squares, plugins=PLUGIN)
    scored.save(tmp_path / "scored.json")
    (read,) = ovb.load_results(tmp_path)
    assert dict(read.metrics) == pytest.approx(dict(scored.metrics), nan_ok=True)
    assert read.path == tmp_path / "scored.json"
    difference = ovb.compare(result, read, columns=["detrate"])["detrate"].value
    assert np.isclose(difference, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "say what its truth is"),
        ({"truth": "squares", "options": {"grouper.num_slots": 3}}, "scoring runs no grouper"),
        ({"truth": "squares", "metrics": "corlok"}, "Did you mean 'corloc'"),
        ({"truth": "squares", "format": "coko"}, "Did you mean 'coco'"),
    ],
)
def test_what_makes_no_sense_is_an_error(result, arguments, message):
    with pytest.raises((SettingError, UnknownNameError), match=message):
        ovb.evaluate(result.path / "predictions", plugins=PLUGIN, **arguments)


def test_a_run_takes_no_truth_and_an_open_dataset_no_settings(result, squares):
    with pytest.raises(SettingError, match="knows its dataset"):
        ovb.evaluate(result, squares, plugins=PLUGIN)
    with pytest.raises(SettingError, match=r"dataset\.clips: the truth is open already"):
        ovb.evaluate(result.path / "predictions", squares, options={"dataset.clips": 3}, plugins=PLUGIN)


def test_predictions_of_clips_that_the_dataset_lacks_are_refused(result):
    fewer = ovb.dataset("squares", plugins=PLUGIN, clips=2)
    with pytest.raises(DataError, match="is not in the dataset"):
        ovb.evaluate(result.path / "predictions", fewer, plugins=PLUGIN)


def test_an_open_dataset_is_run_on_with_its_settings(result, squares, tmp_path, monkeypatch):
    asked = {"preset": RUNS / "tiny.yaml", "plugins": PLUGIN, "output": tmp_path}
    again = ovb.run(dataset=squares, **asked)
    assert again.record.dataset.options["clips"] == 4
    assert again.metrics["detrate"] == result.metrics["detrate"]
    monkeypatch.delattr(squares, "_spec")
    with pytest.raises(SettingError, match="was not opened by name"):
        ovb.run(dataset=squares, **asked)
