"""``ovvol_bench.run`` with tiny components."""

import sys
from pathlib import Path

import numpy as np
import pytest

import ovvol_bench as ovb
from ovvol_bench.errors import DataError, PluginError, SettingError, UnknownNameError

RUNS = Path(__file__).parents[1] / "runs"


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("OVVOL_PLUGINS", "metrics")
    monkeypatch.chdir(tmp_path)

    def call(**others):
        where = {"preset": RUNS / "tiny.yaml", "plugins": RUNS / "tiny_plugin.py"}
        return ovb.run(**{"limit": 2, **where, **others})

    yield call
    assert capfd.readouterr().out == ""


def test_one_combination_gives_a_result(run, tmp_path):
    result = run(options={"grouper.num_slots": 3, "naming.merge": "none"})
    assert result.name == "tiny+randomcut+colours"
    assert result.record.grouper.options["num_slots"] == 3
    assert result.record.naming["merge"] == "none"
    assert 0 <= result.metrics["corloc_any"] <= 1
    assert result.metrics["corloc_any"] == result.metrics["corloc_any@vid-reference"]
    assert result.path == Path("runs", "squares", result.name, result.record.id)
    assert (tmp_path / result.path / "result.json").is_file()
    assert (result.error, result.coverage.done) == (None, 2)


def test_lists_and_seeds_give_results_of_one_too(run):
    assert [each.record.seed for each in run(seeds=[3, 5])] == [3, 5]
    (only,) = run(grouper=["randomcut"])
    assert only.record.seed == run(seeds=0).record.seed == 0


def test_seeds_may_be_an_array_and_a_consensus_a_list(run):
    result = run(seeds=np.arange(2), consensus=[2, 3])[0]
    assert (result.record.seeds, result.record.consensus) == ([0, 1], (2, 3))


def test_a_failed_combination_is_among_the_results_of_a_matrix(run):
    results = run(grouper="all")
    assert [each.record.status for each in results] == ["failed", "failed", "done", "done"]
    assert "fell over" in str(results[0].error)
    frame = results.to_pandas()
    assert frame.status.tolist() == ["failed", "failed", "done", "done"]
    assert frame.corloc_any.notna().tolist() == [False, False, True, True]


def test_what_ended_all_runs_is_raised_with_the_other_reasons_as_notes(run):
    with pytest.raises(PluginError, match="fell over") as caught:
        run(grouper=["brokencut", "needy"])
    assert "needs keys" in caught.value.__notes__[0]


def test_metrics_are_chosen_by_name(run):
    assert set(run(metrics="detrate").metrics) == {"detrate"}
    assert {"corloc_any", "boxes_per_frame"} < set(run(metrics=["+boxes_per_frame"]).metrics)


def test_a_complete_run_is_not_computed_again_unless_asked(run):
    date = run().record.timing
    assert run().record.timing == date
    with pytest.raises(SettingError, match="holds a complete run"):
        run(overwrite="never")


def test_a_run_on_data_without_truth_has_notes_and_no_numbers(run):
    result = run(options={"dataset.truth": False})
    assert result.notes[0].startswith("found ")
    assert result.notes[0] in str(result)
    assert not set(result.metrics) & {"corloc_any", "ap50"}


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"grouper": "randomcutt"}, UnknownNameError, "Did you mean 'randomcut'"),
        ({"dataset": "circles"}, UnknownNameError, "unknown dataset 'circles'"),
        ({"options": {"grouper.slots": 3}}, SettingError, "no grouper of this run has a setting 'slots'"),
        ({"options": {"grouper:randomcut.slots": 3}}, SettingError, "'randomcut' has no setting 'slots'"),
        ({"options": {"grouper:kmeans.num_slots": 3}}, SettingError, "this run has no grouper 'kmeans'"),
        ({"options": {"groper.num_slots": 3}}, SettingError, "unknown kind 'groper'. Did you mean 'grouper'"),
        ({"options": {"num_slots": 3}}, SettingError, "unknown kind 'num_slots'"),
        ({"options": {"grouper": 3}}, SettingError, "names no setting of the grouper"),
        ({"device": "gpu"}, SettingError, "device is 'gpu'; expected one of auto, cpu, cuda"),
        ({"overwrite": "yes"}, SettingError, "expected one of never, missing, always"),
        ({"precision": "float16"}, SettingError, "expected one of auto, float32, bfloat16"),
        ({"fidelity": "slow"}, SettingError, "expected one of fast, reference"),
        ({"seeds": -1}, SettingError, r"seeds are \(-1,\); expected whole numbers from 0"),
        ({"seeds": [1, 1]}, SettingError, "names a seed twice"),
        ({"batch_size": 0}, SettingError, "batch_size is 0; expected a whole number from 1"),
        ({"limit": 0}, SettingError, "limit is 0; expected a whole number from 1"),
        ({"limit": "2"}, SettingError, "limit is '2'; expected a whole number from 1"),
        ({"workers": True}, SettingError, "workers is True; expected a whole number from 1"),
        ({"preset": "papers"}, UnknownNameError, "Did you mean 'paper'"),
    ],
)
def test_wrong_input_is_an_error_that_names_it(run, asked, error, message):
    with pytest.raises(error, match=message):
        run(**asked)


def test_silence_on_request_is_undone_after_the_run(run, capfd):
    from ovvol_bench.progress import LOGGER

    before = LOGGER.level
    with pytest.raises(DataError):
        run(options={"dataset.clips": 0}, progress=False)
    assert LOGGER.level == before
    assert "torch" in sys.modules
