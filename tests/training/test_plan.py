"""What a training learns from: the declared split, never what a preset scores unless it was typed."""

from pathlib import Path

import pytest

from ovvol_bench.errors import SettingError
from ovvol_bench.registry import load_registry
from ovvol_bench.runs.presets import Part, load_preset
from ovvol_bench.training.plan import TrainingRequest, check_data, make_plan


@pytest.fixture
def plan_of(tmp_path):
    """plan_of(dataset=..., preset=..., typed={...}) for a small grouper on shapes."""

    def plan(dataset=None, preset="tiny", typed=None, name="dinosaur"):
        settings = {"dataset": {"videos": "2", **(typed or {})}, "encoder": {"weights": "none"}}
        request = TrainingRequest(
            "grouper", name, None, preset, settings, None, dataset, None, 0, "float32", "cpu", tmp_path
        )
        return make_plan(load_registry(), request)

    return plan


def without_training(name="shapes"):
    return load_preset(name).model_copy(update={"training": {}})


def test_a_dataset_that_is_typed_is_taken_as_it_is_meant_to_be_learned_from(plan_of):
    plan = plan_of("shapes", without_training())
    assert plan.spec.dataset.options["split"] == "train"
    assert (plan.learned[0].dataset, plan.learned[0].videos) == ("shapes", 2)


def test_the_split_that_the_preset_scores_is_taken_if_it_is_typed_and_said(plan_of, caplog):
    plan = plan_of("shapes", without_training(), {"split": "test"})
    assert plan.spec.dataset.options["split"] == "test"
    assert "is what the preset scores: results of these weights on it will be marked" in caplog.text


def test_a_preset_that_learns_from_what_it_scores_is_refused(tmp_path):
    preset = load_preset("shapes")
    request = TrainingRequest(
        "grouper", "dinosaur", None, preset, {}, None, None, None, 0, "float32", "cpu", Path(tmp_path)
    )
    with pytest.raises(SettingError, match="split=test is what the preset scores"):
        check_data(load_registry(), request, Part(name="shapes", options={"split": "test"}))
