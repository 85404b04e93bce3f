"""What a training learns from: the declared split, never what a preset scores unless it was typed."""

from pathlib import Path

import pytest

from ovvol_bench.errors import SettingError
from ovvol_bench.registry import load_registry
from ovvol_bench.runs.selection import Part, load_preset
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


@pytest.mark.parametrize(
    ("scored", "learned", "typed", "refused"),
    [
        (("videos", {"path": "a"}), {"path": "a/../a", "stride": 3}, {}, "path=a/../a"),
        (("videos", {"path": "a"}), {"path": "b"}, {}, None),
        (("videos", {}), {"path": "a"}, {}, None),
        (("image-folder", {"path": "a"}), {"path": "a", "short_side": 32}, {}, "path=a"),
        (("coco-vid", {"path": "a.json"}), {"path": "a.json", "masks": False}, {}, "path=a.json, split=all"),
        (("coco-vid", {"path": "a.json"}), {"path": "b.json"}, {}, None),
        (("coco-vid", {"path": "a.json", "split": "v.txt"}), {"path": "a.json", "split": "t.txt"}, {}, None),
        (("coco", {"path": "a.json"}), {"path": "a.json"}, {"short_side": "32"}, "path=a.json, split=all"),
        (("youtube-vis", {"path": "y"}), {"path": "y", "frames_per_clip": 4}, {}, "path=y, split=all"),
        (("youtube-vis", {"split": "videosaur-val"}), {"path": "y", "split": "videosaur-val"}, {}, "split="),
        (("youtube-vis", {"split": "videosaur-val"}), {"path": "y", "split": "videosaur-train"}, {}, None),
    ],
)  # fmt: skip
def test_what_the_preset_scores_is_told_by_path_and_split(tmp_path, scored, learned, typed, refused):
    name, options = scored
    preset = load_preset("tiny").model_copy(update={"dataset": Part(name=name, options=options)})
    request = TrainingRequest(
        "encoder",
        "videomae",
        None,
        preset,
        {"dataset": typed},
        None,
        None,
        None,
        0,
        "float32",
        "cpu",
        tmp_path,
    )
    part = Part(name=name, options=learned)
    if refused is None:
        check_data(load_registry(), request, part)
        return
    with pytest.raises(SettingError, match=f"{refused}.* is what the preset scores"):
        check_data(load_registry(), request, part)


def test_youtube_vis_is_learned_from_without_the_videos_that_methods_are_measured_on():
    declared = load_registry().find("dataset", "youtube-vis").entry.training
    assert declared["split"] == "videosaur-train"


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
