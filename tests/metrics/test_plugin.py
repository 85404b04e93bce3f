import pytest

from ovvol_bench import Metric
from ovvol_bench.errors import OvvolError
from ovvol_bench.registry import load_registry

NAMES = [
    "box_abo",
    "boxes_per_frame",
    "confusion",
    "corloc",
    "detrate",
    "detrate_by",
    "errors",
    "naming_accuracy",
    "naming_ece",
    "pr_curves",
    "vid_ap",
]
MASKS = ["ari", "fg_ari", "mbo", "miou", "splits_and_merges"]


@pytest.fixture(scope="module")
def registry():
    return load_registry(only=["metrics"])


def test_the_metrics_are_found(registry):
    assert {*NAMES, *MASKS, "slots", "coco_ap", "tube_ap", "tracking", "id_switches"} <= set(
        registry.names("metric")
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_is_built_with_a_protocol(registry, name):
    metric = registry.build("metric", name, {"protocol": "vid-devkit"})
    assert isinstance(metric, Metric)
    assert metric.protocol == "vid-devkit"
    assert registry.build("metric", name, {}).protocol == "vid-reference"
    with pytest.raises(OvvolError, match="protocol"):
        registry.build("metric", name, {"protocol": "coco"})


def test_settings_reach_the_metric(registry):
    options = {"iou_threshold": 0.75, "ties": "earlier", "motion": False, "held_out": [2, 3]}
    metric = registry.build("metric", "vid_ap", options)
    assert list(metric.compute()) == ["ap75"]
    assert (metric.ties, metric.held_out) == ("earlier", (2, 3))
    top1 = registry.build("metric", "corloc", {"box": "top1"})
    assert list(top1.compute()) == ["corloc_top1"]


@pytest.mark.parametrize("name", MASKS)
def test_a_metric_of_masks_says_what_it_compares_where(registry, name):
    assert registry.build("metric", name, {}).protocol == "slots-frame"
    metric = registry.build("metric", name, {"groups": "segments", "resolution": "patch", "unit": "video"})
    assert metric.protocol == "segments-patch"
    assert all(number.endswith("_video") for number in metric.compute())
    with pytest.raises(OvvolError, match="resolution"):
        registry.build("metric", name, {"resolution": "half"})


def test_settings_of_masks_and_slots_reach_the_metric(registry):
    assert list(registry.build("metric", "mbo", {"of": "class"}).compute()) == ["mbo_class_clip"]
    assert registry.build("metric", "slots", {"min_share": 0.2}).min_share == 0.2


def test_settings_of_coco_reach_the_metric(registry):
    assert registry.build("metric", "coco_ap", {}).protocol == "coco"
    options = {"iou_type": "mask", "class_agnostic": True, "ignore_generated": True, "backend": "pycocotools"}
    metric = registry.build("metric", "coco_ap", options)
    assert (metric.protocol, metric.needs_masks, metric.labels) == ("coco-mask-manual", True, "top1")
    assert {"ap_agnostic", "ar100_agnostic"} <= set(metric.compute())
    assert "ap_small_top1" in registry.build("metric", "coco_ap", {"labels": "top1"}).compute()
    with pytest.raises(OvvolError, match="backend"):
        registry.build("metric", "coco_ap", {"backend": "cuda"})


def test_settings_of_tubes_reach_the_metric(registry):
    metric = registry.build("metric", "tube_ap", {"iou_type": "mask", "unit": "video", "labels": "top1"})
    assert (metric.protocol, metric.needs_masks, metric.labels) == ("ytvis-mask", True, "top1")
    assert {"tube_ap_video_top1", "tube_ar10_video_top1"} <= set(metric.compute())
    agnostic = registry.build("metric", "tube_ap", {"class_agnostic": True})
    assert (agnostic.protocol, agnostic.labels) == ("ytvis-box", "top1")
    assert "tube_ap50_clip_agnostic" in agnostic.compute()


def test_settings_of_tracking_reach_the_metric(registry):
    pytest.importorskip("trackeval", reason="the extra 'tracking' is not installed")
    options = {"iou_type": "mask", "unit": "video", "min_score": 0.3, "average": "classes"}
    metric = registry.build("metric", "tracking", options)
    assert (metric.protocol, metric.needs_masks, metric.labels) == ("mot-mask", True, "top1")
    assert {"hota_video_classes_min0.3", "idf1_video_classes_min0.3"} <= set(metric.compute())
    switches = registry.build("metric", "id_switches", {"class_agnostic": True})
    assert list(switches.compute()) == ["id_switches_clip_agnostic"]
    assert not switches.higher_is_better


def test_vid_ap_by_size_and_without_classes(registry):
    options = {"motion": False, "sizes": True, "class_agnostic": True, "protocol": "vid-devkit"}
    metric = registry.build("metric", "vid_ap", options)
    names = [f"ap50{size}_agnostic" for size in ("", "_area_small", "_area_medium", "_area_large")]
    assert list(metric.compute()) == names
    assert metric.needs == frozenset()
