import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovvol_bench.errors import DataError, SettingError
from ovvol_bench.metrics.corloc import BestOverlapOfBoxes
from ovvol_bench.metrics.naming import CalibrationError
from ovvol_bench.types import ClipInfo, FrameTruth, Localization

PROTOCOLS = pytest.mark.parametrize("protocol", ["vid-reference", "vid-devkit"])


def scene(boxes, scores, objects, classes):
    """One clip of one frame: boxes with (C,) scores each, objects with classes."""
    count = len(objects)
    found = Localization(
        boxes=np.array(boxes, np.float32).reshape(1, -1, 4),
        present=np.ones((1, len(boxes)), bool),
        probabilities=np.array([[0, *row] for row in scores], np.float32).reshape(-1, 3),
        slot_map=np.zeros((1, 1, 1), np.int16),
        segment_of_slot=np.zeros(1, np.int16),
        input_size=(100, 1000),
    )
    truth = FrameTruth(
        boxes=np.array(objects, np.float32).reshape(-1, 4),
        class_ids=np.array(classes, np.int64),
        track_ids=np.arange(count),
        occluded=np.zeros(count, bool),
        generated=np.zeros(count, bool),
        motion_iou=np.full(count, np.nan, np.float32),
    )
    return found, ClipInfo("clip", "video", (0,), (100, 1000), (truth,))


def named(confidences, right):
    """Objects side by side, each with a box on it that is named class 1 and is or isn't that."""
    boxes = [(20 * index, 0, 20 * index + 9, 9) for index in range(len(confidences))]
    scores = [(confidence, 0) for confidence in confidences]
    return scene(boxes, scores, boxes, [1 if each else 2 for each in right])


def value_of(metric, *clip):
    metric.update(*clip)
    (value,) = metric.compute().values()
    return value


@PROTOCOLS
def test_names_that_are_right_as_often_as_they_say_are_calibrated(protocol):
    value = value_of(CalibrationError(protocol=protocol), *named([0.75] * 4, [True, True, True, False]))
    assert (value.value, value.count) == (pytest.approx(0), 4)
    assert value.notes["confidence"] == value.notes["accuracy"] == 0.75
    value = value_of(CalibrationError(protocol=protocol), *named([1.0] * 4, [True, True, True, False]))
    assert value.value == pytest.approx(0.25)
    assert value.notes["reliability"] == [
        {"above": 14 / 15, "to": 1, "count": 4, "confidence": 1, "accuracy": 0.75}
    ]


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_the_error_is_the_mean_gap_of_the_bins(seed):
    rng = np.random.default_rng(seed)
    confidences, right = np.append(rng.random(18), [0.2, 1.0]), rng.random(20) < 0.5
    confidences = confidences.astype(np.float32).astype(float)
    expected = 0.0
    for low in range(15):
        inside = [low / 15 < each <= (low + 1) / 15 for each in confidences]
        if any(inside):
            expected += sum(inside) / 20 * abs(right[inside].mean() - confidences[inside].mean())
    value = value_of(CalibrationError(protocol="vid-devkit"), *named(confidences, right))
    assert value.value == pytest.approx(expected)
    assert sum(row["count"] for row in value.notes["reliability"]) == 20


@PROTOCOLS
def test_objects_without_a_box_have_no_confidence(protocol):
    value = value_of(CalibrationError(protocol=protocol), *scene([], [], [(0, 0, 9, 9)], [1]))
    assert (math.isnan(value.value), value.count, value.notes["reliability"]) == (True, 0, [])


def test_scores_that_are_no_probabilities_are_refused():
    with pytest.raises(DataError, match="score 3 is no probability"):
        value_of(CalibrationError(protocol="vid-devkit"), *named([3.0], [True]))
    with pytest.raises(SettingError, match="bins is 0"):
        CalibrationError(protocol="vid-devkit", bins=0)


def test_the_best_overlap_is_that_of_any_box_whatever_its_name():
    objects = [(0, 0, 9, 9), (50, 0, 59, 9), (200, 0, 209, 9)]
    boxes = [(0, 0, 9, 9), (0, 0, 9, 4), (50, 0, 59, 4)]
    value = value_of(
        BestOverlapOfBoxes(protocol="vid-devkit"), *scene(boxes, [(0.1, 0.9)] * 3, objects, [1, 1, 1])
    )
    assert (value.value, value.count) == (pytest.approx((1 + 0.5 + 0) / 3), 3)


def test_without_objects_the_best_overlap_is_undefined():
    value = value_of(BestOverlapOfBoxes(protocol="vid-devkit"), *scene([(0, 0, 9, 9)], [(1, 0)], [], []))
    assert (math.isnan(value.value), value.count) == (True, 0)
