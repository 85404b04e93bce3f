import pytest

from ovvol_bench import Metric
from ovvol_bench.errors import OvvolError
from ovvol_bench.registry import load_registry

NAMES = ["boxes_per_frame", "corloc", "detrate", "naming_accuracy", "vid_ap"]


@pytest.fixture(scope="module")
def registry():
    return load_registry(only=["metrics"])


def test_the_metrics_are_found(registry):
    assert sorted(registry.names("metric")) == NAMES


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
