"""What is counted of error causes, what mending them changes, and the other views behind a number."""

import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from column_scenes import BOTH, SEEDS, random_columns, scene
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_vid import synthetic

from ovvol_bench.detections import Frames, detections_of, in_order
from ovvol_bench.metrics import evaluate, evaluate_detections
from ovvol_bench.metrics.corloc import corloc
from ovvol_bench.metrics.detrate import DetectionRateBy, detection_rate, detection_rate_by
from ovvol_bench.metrics.errors import MENDED, Cause, Errors, Rules, error_causes, explain, mended
from ovvol_bench.metrics.naming import Confusion, confusion, naming_accuracy
from ovvol_bench.metrics.pr_curves import RECALLS, PrecisionCurves, class_curves, precision_curves
from ovvol_bench.metrics.ranks import curve_area
from ovvol_bench.metrics.vid_ap import class_precision
from ovvol_bench.types import ClipInfo, FrameTruth, Localization

A, B, FAR = (10, 10, 29, 29), (30, 10, 49, 29), (100, 10, 119, 29)


def same(got, wanted):
    return got == pytest.approx(wanted, abs=1e-12, nan_ok=True)


# --- counts and gains ----------------------------------------------------------------------------


@BOTH
@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_counts_add_up(protocol, seed):
    columns = random_columns(seed, protocol)
    values = error_causes(columns, Rules())
    objects, boxes = values["right_objects"], values["right_boxes"]
    sought = int(columns.sought.sum())
    assert sum(objects.notes["causes"].values()) == len(columns.truth)
    assert sum(boxes.notes["causes"].values()) == len(columns.boxes)
    assert objects.count == sought == objects.notes["tracks"]["unknown"]
    assert sum(sum(causes.values()) for causes in objects.notes["per_class"].values()) == sought
    assert same(objects.value, objects.notes["causes"]["right"] / sought if sought else math.nan)


AFTER = {
    Cause.WRONG_NAME: {Cause.RIGHT},
    Cause.PART: {Cause.RIGHT},
    Cause.MERGED_OBJECTS: {Cause.RIGHT, Cause.WRONG_NAME},
    Cause.MERGED_BACKGROUND: {Cause.RIGHT, Cause.WRONG_NAME},
    Cause.MISPLACED: {Cause.RIGHT},
    Cause.WRONG_BOTH: {Cause.RIGHT},
    Cause.MISSED: {Cause.RIGHT},
}
"""What objects come to when their cause is mended, if they have an area."""


@BOTH
@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, cause=st.sampled_from(MENDED))
def test_what_is_mended_is_no_error_anymore(protocol, seed, cause):
    before = explain(random_columns(seed, protocol), Rules())
    after = explain(mended(before, cause), Rules())
    boxes = before.columns.truth.boxes
    real = boxes[:, 2] > boxes[:, 0]
    real &= boxes[:, 3] > boxes[:, 1]
    had = real & (before.of_object == cause)
    assert set(after.of_object[had].tolist()) <= AFTER.get(cause, set())
    was_right = before.of_object == Cause.RIGHT
    if cause != Cause.DUPLICATE:
        assert (after.of_object[was_right] == Cause.RIGHT).all()
    if cause in (Cause.BACKGROUND, Cause.EMPTY):
        assert not (after.of_box == cause).any()
        assert (after.of_object == before.of_object).all()


@BOTH
@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_gains_are_differences_of_the_usual_metrics(protocol, seed):
    columns = random_columns(seed, protocol)
    gains = error_causes(columns, Rules())["right_objects"].notes["gains"]
    assert list(gains) == ["now", *(cause.label for cause in MENDED)]
    now = gains["now"]
    assert same(now["corloc_any"], corloc(columns).value)
    assert same(now["corloc_top1"], corloc(columns, "top1").value)
    assert same(now["detrate"], detection_rate(columns).value)
    assert same(now["naming_accuracy"], naming_accuracy(columns).value)
    assert same(now["ap"], class_precision(columns)[0].mean)
    found = mended(explain(columns, Rules()), Cause.MISSED)
    assert same(gains["missed"]["detrate"], detection_rate(found).value - now["detrate"])
    assert "gains" not in error_causes(columns, Rules(), gains=False)["right_objects"].notes


def gains_of(boxes, objects):
    return error_causes(scene(boxes, objects), Rules())["right_objects"].notes["gains"]


def test_a_name_that_is_mended_raises_precision_and_no_overlap():
    gains = gains_of([(A, 2)], [(A, 1)])
    assert gains["now"] == {
        "corloc_any": 1,
        "corloc_top1": 1,
        "detrate": 1,
        "ap": 0,
        "naming_accuracy": 0,
    }
    assert gains["wrong_name"] == {
        "corloc_any": 0,
        "corloc_top1": 0,
        "detrate": 0,
        "ap": pytest.approx(1),
        "naming_accuracy": 1,
    }
    assert not any(value for cause in ("part", "missed", "background") for value in gains[cause].values())


def test_a_merged_box_that_is_mended_serves_every_object_in_it():
    gains = gains_of([((5, 10, 54, 29), 1)], [(A, 1), (B, 2)])
    assert gains["now"]["detrate"] == 0
    assert gains["merged_objects"]["detrate"] == 1
    assert math.isnan(gains["merged_objects"]["naming_accuracy"])  # nothing was localized to begin with


def test_boxes_on_background_cost_precision_only():
    gains = gains_of([(A, 1, 0.5), (FAR, 1, 0.9)], [(A, 1)])
    assert gains["background"]["ap"] == pytest.approx(0.5)
    assert gains["background"]["corloc_top1"] == 1
    assert gains["background"]["detrate"] == 0


def test_missed_objects_are_found_before_anything_else():
    gains = gains_of([(A, 1, 0.5), (FAR, 1, 0.9)], [(A, 1), (B, 1)])
    assert gains["now"]["ap"] == pytest.approx(1 / 4)
    assert gains["missed"]["ap"] == pytest.approx((1 + 2 / 3) / 2 - 1 / 4)
    assert gains["missed"]["detrate"] == 0.5


def test_of_several_boxes_the_surest_is_mended_and_the_others_go():
    left, top = (10, 10, 17, 29), (10, 10, 29, 17)
    found = explain(scene([(left, 1, 0.3), (top, 1, 0.6)], [(A, 1)]), Rules())
    columns = mended(found, Cause.PART)
    assert (columns.boxes.tolist(), columns.scores.values.tolist()) == ([list(A)], [0.6])
    found = explain(scene([(left, 1, 0.3), (A, 1, 0.2)], [(A, 1)]), Rules())
    assert mended(found, Cause.PART).scores.values.tolist() == [0.2]


# --- over clips ----------------------------------------------------------------------------------


def frame(*objects):
    """Objects are (corners, class, track, motion)."""
    count = len(objects)
    corners, labels, tracks, motion = zip(*objects, strict=True) if objects else ((),) * 4
    return FrameTruth(
        boxes=np.array(corners, np.float32).reshape(-1, 4),
        class_ids=np.array(labels, np.int64),
        track_ids=np.array(tracks, np.int64),
        occluded=np.zeros(count, bool),
        generated=np.zeros(count, bool),
        motion_iou=np.array(motion, np.float32),
    )


def clip(name, segments, *frames):
    """One clip of frames of 200 x 100 pixels; segments are (corners of each frame or None, class)."""
    shown = [[box is not None for box in boxes] for boxes, _ in segments]
    boxes = [[box or (0, 0, 0, 0) for box in boxes] for boxes, _ in segments]
    count = len(frames)
    found = Localization(
        boxes=np.array(boxes, np.float32).reshape(-1, count, 4).swapaxes(0, 1),
        present=np.array(shown, bool).reshape(-1, count).T,
        probabilities=np.eye(4, dtype=np.float32)[[label for _, label in segments]],
        slot_map=np.zeros((count, 1, 1), np.int16),
        segment_of_slot=np.zeros(1, np.int16),
        input_size=(100, 200),
    )
    return found, ClipInfo(name, name, tuple(range(count)), (100, 200), frames)


def computed(metric, *clips):
    for each in clips:
        metric.update(*each)
    return metric.compute()


@BOTH
def test_tracks_have_the_cause_of_most_frames_and_the_best_cause(protocol):
    whole, part = (A, 1, 0, 0.5), (FAR, 2, 1, 0.5)
    first = clip("one", [([A, None, None], 1), ([FAR] * 3, 2)], *[frame(whole, part)] * 3)
    second = clip("two", [([A], 2)], frame((A, 1, 0, 0.5), (B, 1, -1, 0.5)))
    value = computed(Errors(protocol=protocol), first, second)["right_objects"]
    tracks = value.notes["tracks"]
    assert {cause: n for cause, n in tracks["most"].items() if n} == {
        "missed": 1,
        "right": 1,
        "wrong_name": 1,
    }
    assert {cause: n for cause, n in tracks["best"].items() if n} == {"right": 2, "wrong_name": 1}
    assert tracks["unknown"] == 1
    assert (value.count, value.value) == (8, 4 / 8)


def test_other_programs_detections_have_the_causes_that_ours_would_have():
    predictions, truth = synthetic(160)
    predictions = predictions.in_order()
    infos = in_order(sorted(truth.values(), key=lambda info: info.video))
    own = evaluate(predictions, truth, [Errors(protocol="vid-devkit", gains=False)])
    detections = detections_of(predictions, Frames.of(infos))
    foreign = evaluate_detections(detections, infos, [Errors(protocol="vid-devkit", gains=False)])
    assert own["right_objects@vid-devkit"].notes["causes"]["wrong_name"] > 0
    assert foreign == own


@BOTH
def test_names_of_classes_stand_beside_their_numbers(protocol):
    names, clips = ("ant", "bee", "cat"), clip("one", [([A], 2)], frame((A, 1, 0, 0.5)))
    errors = computed(Errors(protocol=protocol, class_names=names), clips)["right_objects"]
    assert errors.notes["per_class"] == {"1": {"name": "ant", "wrong_name": 1}}
    curves = computed(PrecisionCurves(protocol=protocol, class_names=names), clips)["pr_curves"]
    assert [each["name"] for each in curves.notes["per_class"].values()] == ["ant"]
    value = computed(Confusion(protocol=protocol, held_out=(2,), class_names=names), clips)["naming_balanced"]
    assert value.notes == {
        "rows": {"1": {"2": 1}},
        "sought": {"1": 1},
        "class_names": {"1": "ant", "2": "bee"},
        "held_out": [2],
    }


@BOTH
def test_without_data_every_number_is_undefined(protocol):
    for metric in (Errors, Confusion, PrecisionCurves, DetectionRateBy):
        for value in metric(protocol=protocol).compute().values():
            assert math.isnan(value.value)
            assert value.count == 0


def test_other_thresholds_show_in_the_name():
    assert set(Errors(protocol="vid-devkit", iou_threshold=0.75).compute()) == {
        "right_objects_75",
        "right_boxes_75",
    }
    assert set(DetectionRateBy(protocol="vid-devkit", iou_threshold=0.3).compute()) == {
        "detrate_by_size_30",
        "detrate_by_motion_30",
    }


# --- confusion -----------------------------------------------------------------------------------


@BOTH
@settings(max_examples=100, deadline=None)
@given(seed=SEEDS)
def test_the_matrix_holds_what_naming_accuracy_counts(protocol, seed):
    columns = random_columns(seed, protocol)
    naming, value = naming_accuracy(columns), confusion(columns)
    rows = value.notes["rows"]
    right = {row: cells.get(row, 0) / sum(cells.values()) for row, cells in rows.items()}
    assert {row: sum(cells.values()) for row, cells in rows.items()} == {
        row: share["count"] for row, share in naming.notes["per_class"].items()
    }
    assert same(right, {row: share["value"] for row, share in naming.notes["per_class"].items()})
    assert same(value.value, np.mean(list(right.values())) if right else math.nan)


# --- curves --------------------------------------------------------------------------------------


@BOTH
@settings(max_examples=100, deadline=None)
@given(seed=SEEDS)
def test_the_area_under_a_curve_is_the_average_precision(protocol, seed):
    columns = random_columns(seed, protocol)
    (precision,) = class_precision(columns)
    curves, value = class_curves(columns), precision_curves(columns)
    assert set(curves) == set(np.flatnonzero(~np.isnan(precision.values)).tolist())
    for class_id, (recall, values) in curves.items():
        assert curve_area(recall, values) == precision.values[class_id]
        assert (np.diff(recall) > 0).all()
        assert (np.diff(values) <= 0).all()
    assert value.value == pytest.approx(precision.mean, nan_ok=True, rel=1e-12)
    assert value.count == len(curves)


def test_a_stored_curve_has_the_precision_at_every_hundredth_of_recall():
    columns = scene([(A, 1, 0.9), (FAR, 1, 0.8), (B, 1, 0.7)], [(A, 1), (B, 1), ((60, 60, 79, 79), 1)])
    curve = precision_curves(columns).notes["per_class"]["1"]["precision"]
    assert curve == [1.0] * 34 + [round(2 / 3, 4)] * 33
    assert len(RECALLS) == 101


@BOTH
@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_stored_curves_say_the_best_precision_from_each_recall_on(protocol, seed):
    columns = random_columns(seed, protocol)
    stored = precision_curves(columns).notes["per_class"]
    for class_id, (recall, values) in class_curves(columns).items():
        wanted = [
            max((p for r, p in zip(recall, values, strict=True) if r >= at - 1e-9), default=0)
            for at in RECALLS
        ]
        got = stored[str(class_id)]["precision"]
        assert got + [0] * (101 - len(got)) == pytest.approx(wanted, abs=1e-4)


# --- sizes and speeds ----------------------------------------------------------------------------


@BOTH
@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_all_objects_are_in_the_bins(protocol, seed):
    columns = random_columns(seed, protocol)
    motion = np.random.default_rng(seed).choice([0.5, 0.8, 0.95, np.nan], len(columns.truth))
    columns = replace(columns, truth=replace(columns.truth, motion=motion.astype(np.float32)))
    rate = detection_rate(columns)
    for value in detection_rate_by(columns).values():
        bins = [each for each in value.notes["bins"] if each["objects"]]
        assert sum(each["objects"] for each in bins) == rate.notes["objects"]
        met = sum(each["met"] * each["objects"] for each in bins)
        assert met == pytest.approx(rate.notes["per_object"] * rate.notes["objects"] if bins else 0)


@BOTH
def test_objects_are_sorted_by_size_and_motion(protocol):
    small, large = (10, 10, 29, 29), (40, 0, 139, 99)  # 400 and 10,000 of 20,000 pixels
    one = clip("one", [([small], 1)], frame((small, 1, 0, 0.5), (large, 1, 1, 0.95)))
    two = clip("two", [([large], 1)], frame((large, 1, 0, math.nan)))
    values = computed(DetectionRateBy(protocol=protocol), one, two)
    sizes = {each["name"]: each for each in values["detrate_by_size"].notes["bins"] if each["objects"]}
    assert sizes == {
        "0.1 to 0.2": {"name": "0.1 to 0.2", "objects": 1, "met": 1, "frames": 1, "corloc": 1},
        "from 0.7": {"name": "from 0.7", "objects": 2, "met": 0.5, "frames": 2, "corloc": 0.5},
    }
    assert (values["detrate_by_size"].value, values["detrate_by_size"].count) == (0.75, 2)
    motion = {each["name"]: each["met"] for each in values["detrate_by_motion"].notes["bins"]}
    assert same(motion, {"fast": 1, "medium": math.nan, "slow": 0, "unknown": 1})
    assert values["detrate_by_motion"].value == 0.5


def test_confusion_of_many_classes_takes_no_table_of_all_pairs():
    columns = scene([(A, 1), (B, 2), (FAR, 2)], [(A, 1), (B, 1), (FAR, 2)])
    many = replace(columns, scores=replace(columns.scores, class_count=20_000))
    tracemalloc.start()
    value = confusion(many)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert value.notes["rows"] == confusion(columns).notes["rows"]
    assert peak < 20e6
