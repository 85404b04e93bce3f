"""Case g of the reference vectors: overlaps, AP by threshold and motion, ties, CorLoc, DetRate."""

import math

import numpy as np
import pytest
from golden_vectors import load_case

from ovvol_bench.metrics.boxes import box_iou
from ovvol_bench.metrics.columns import Columns, TruthColumns
from ovvol_bench.metrics.corloc import CorLoc
from ovvol_bench.metrics.detrate import DetectionRate
from ovvol_bench.metrics.protocols import VID_REFERENCE, MotionRange
from ovvol_bench.metrics.scores import ScoreList
from ovvol_bench.metrics.vid_ap import VidAP, class_precision
from ovvol_bench.types import ClipInfo, FrameTruth, Localization


def load(golden):
    case = load_case(golden, "metrics")
    limits = {f"{name}_abs": 1e-6 for name in ("ap", "map", "corloc", "decrate", "iou")}
    return case | {"tolerance": limits | case["tolerance"]}


def frames_of(case):
    return sorted(case["frames"], key=lambda frame: frame["id"])


def classes_of(case):
    """C: AP lists have an entry for each class and the background."""
    lists = [value["ap"] for value in case["expected"].values() if isinstance(value, dict) and "ap" in value]
    labels = [label for frame in case["frames"] for label in frame["predictions"]["labels"]]
    labels += [label for frame in case["frames"] for label in frame["ground_truth"]["labels"]]
    return max([*(len(each) - 1 for each in lists), *(int(label) for label in labels)])


def flat(lists, dtype, *shape):
    return np.array([item for each in lists for item in each], dtype).reshape(-1, *shape)


def counts(lists):
    return np.array([len(each) for each in lists], np.int64)


def motion_of(frame):
    return frame.get("motion_iou", [math.nan] * len(frame["ground_truth"]["boxes"]))


def columns_of(case):
    """The long form: every prediction has its own box, label and score."""
    frames = frames_of(case)
    found = [frame["predictions"] for frame in frames]
    truth = [frame["ground_truth"] for frame in frames]
    boxes = [each["boxes"] for each in truth]
    labels = flat([each["labels"] for each in found], np.int64)
    scores = flat([each["scores"] for each in found], np.float64)
    return Columns(
        protocol=VID_REFERENCE,
        box_counts=counts([each["boxes"] for each in found]),
        boxes=flat([each["boxes"] for each in found], np.float32, 4),
        scores=ScoreList(labels, scores, classes_of(case)),
        truth=TruthColumns(
            counts=counts(boxes),
            boxes=flat(boxes, np.float32, 4),
            classes=flat([each["labels"] for each in truth], np.int64),
            ignored=np.zeros(sum(map(len, boxes)), np.bool_),
            motion=flat([motion_of(frame) for frame in frames], np.float32),
        ),
    )


def assert_precision(got, expected, tolerance):
    wanted = np.array([math.nan if value is None else value for value in expected["ap"]])
    np.testing.assert_allclose(got.values[: len(wanted)], wanted, rtol=0, atol=tolerance["ap_abs"])
    assert np.isnan(got.values[len(wanted) :]).all()
    if expected.get("map", ...) is None:
        assert math.isnan(got.mean)
    elif "map" in expected:
        assert got.mean == pytest.approx(expected["map"], rel=0, abs=tolerance["map_abs"])


def thresholds(case):
    """Expectations like ``vid_ap50``, which hold for any order of ties."""
    for name, expected in case["expected"].items():
        if name.startswith("vid_ap") and name[6:].isdigit():
            yield int(name[6:]) / 100, expected


def distinct(case):
    """Whether no order of ties can change a number."""
    scores = [score for frame in case["frames"] for score in frame["predictions"]["scores"]]
    return case.get("all_scores_distinct", len(scores) == len(set(scores)))


def all_ties(case):
    return ("group", "reference", "earlier", "later") if distinct(case) else ("reference",)


def test_golden_metrics_overlap(golden):
    data = load(golden)
    if "iou" not in data:
        pytest.skip("the case has no overlaps")
    iou, tolerance = data["iou"], data["tolerance"]["iou_abs"]
    first, second = np.array(iou["boxes_a"]), np.array(iou["boxes_b"])
    for offset, name in ((0, "iou_plain_for_corloc"), (2, "iou_used_by_vid_ap")):
        np.testing.assert_allclose(box_iou(first, second, offset), iou[name], rtol=0, atol=tolerance)


def test_golden_metrics_average_precision(golden):
    data = load(golden)
    for case in data["sets"]:
        columns = columns_of(case)
        for threshold, expected in thresholds(case):
            for ties in all_ties(case):
                got = class_precision(columns, threshold, ties)[0]
                assert_precision(got, expected, data["tolerance"])


def test_golden_metrics_motion(golden):
    data = load(golden)
    cases = [case for case in data["sets"] if "vid_ap50_motion" in case["expected"]]
    for case in cases:
        expectations = case["expected"]["vid_ap50_motion"]
        ranges = [MotionRange("", *each["range"]) for each in expectations]
        for ties in all_ties(case):
            results = class_precision(columns_of(case), 0.5, ties, ranges)
            for got, expected in zip(results, expectations, strict=True):
                assert_precision(got, expected, data["tolerance"])


def test_golden_metrics_motion_ranges_are_those_of_the_protocol(golden):
    whole, *ranges = load(golden).get("motion_ranges") or pytest.skip("the case has no motion ranges")
    assert whole == [0, 1]
    assert [[each.low, each.high] for each in VID_REFERENCE.motion] == ranges


def test_golden_metrics_weight_of_frames_without_the_class(golden):
    for case in load(golden)["sets"]:
        motion = columns_of(case).truth.motion
        for expected in case["expected"].get("vid_ap50_motion", []):
            share = MotionRange("", *expected["range"]).contains(motion).mean() % 1
            assert share == pytest.approx(expected.get("empty_weight", share), abs=1e-12)


def test_golden_metrics_order_of_ties(golden):
    """Fixed orders are met; what the reference saw is met where numpy sorts ties alike."""
    data = load(golden)
    for case in (case for case in data["sets"] if not distinct(case)):
        columns, expected = columns_of(case), case["expected"]
        for ties in ("earlier", "later"):
            wanted = expected.get(f"vid_ap50_{ties}_prediction_first")
            if wanted is not None:
                assert_precision(class_precision(columns, 0.5, ties)[0], wanted, data["tolerance"])
        assert_in_tie_range(class_precision(columns, 0.5, "reference")[0], expected, data["tolerance"])


def assert_in_tie_range(got, expected, tolerance):
    seen = expected.get("vid_ap50_reference_here")
    if seen is None:
        return
    wanted = np.array([math.nan if value is None else value for value in seen["ap"]])
    if np.allclose(got.values, wanted, rtol=0, atol=tolerance["ap_abs"], equal_nan=True):
        return
    limits = expected.get("vid_ap50_range_over_200_random_tie_orders")
    assert limits is not None, "another order of ties than the reference's"
    low = np.array([math.nan if value is None else value for value in limits["ap_min"]])
    high = np.array([math.nan if value is None else value for value in limits["ap_max"]])
    defined = ~np.isnan(low)
    assert (np.isnan(got.values) == ~defined).all()
    assert (got.values >= low - tolerance["ap_abs"])[defined].all()
    assert (got.values <= high + tolerance["ap_abs"])[defined].all()


def clips_of(case):
    """Each frame as a clip; rows that repeat one box for all classes become one segment."""
    classes = classes_of(case)
    for frame in frames_of(case):
        found, truth = frame["predictions"], frame["ground_truth"]
        width = classes + 1 if case["kind"] == "dup" else 1
        boxes = np.array(found["boxes"], np.float32).reshape(-1, width, 4)[:, 0]
        if case["kind"] == "dup":
            probabilities = np.array(found["scores"], np.float32).reshape(-1, width)
        else:
            probabilities = np.zeros((len(boxes), classes + 1), np.float32)
            probabilities[np.arange(len(boxes)), np.array(found["labels"], np.int64)] = found["scores"]
        size = (frame["image_size"][1], frame["image_size"][0])
        objects = len(truth["boxes"])
        frame_truth = FrameTruth(
            boxes=np.array(truth["boxes"], np.float32).reshape(-1, 4),
            class_ids=np.array(truth["labels"], np.int64),
            track_ids=np.arange(objects),
            occluded=np.zeros(objects, np.bool_),
            generated=np.zeros(objects, np.bool_),
            motion_iou=np.array(motion_of(frame), np.float32),
        )
        info = ClipInfo(f"{frame['id']:09d}", "video", (frame["id"],), size, (frame_truth,))
        present = (boxes != 0).any(axis=1)[None]
        slots = np.zeros((1, 1, 1), np.int16)
        yield Localization(boxes[None], present, probabilities, slots, np.zeros(1, np.int16), size), info


def computed(metric, case):
    for localization, info in clips_of(case):
        metric.update(localization, info)
    return metric.compute()


def test_golden_metrics_corloc_and_detection_rate(golden):
    data = load(golden)
    for case in data["sets"]:
        expected = case["expected"].get("unsupervised")
        if expected is None:
            continue
        corloc = computed(CorLoc(protocol="vid-reference"), case)["corloc_any"]
        rate = computed(DetectionRate(protocol="vid-reference"), case)["detrate"]
        assert corloc.value == pytest.approx(expected["corloc"], rel=0, abs=data["tolerance"]["corloc_abs"])
        assert rate.value == pytest.approx(expected["decrate"], rel=0, abs=data["tolerance"]["decrate_abs"])
        assert corloc.count == rate.count == expected.get("frames_counted", corloc.count)
        assert len(case["frames"]) == expected.get("frames_total", len(case["frames"]))


def test_golden_metrics_of_localizations(golden):
    """The compact form, boxes with scores for all classes, gives what the repeated boxes give."""
    data = load(golden)
    for case in (case for case in data["sets"] if case["kind"] == "dup"):
        for threshold, expected in thresholds(case):
            metric = VidAP(protocol="vid-reference", iou_threshold=threshold, ties="reference")
            values = computed(metric, case)
            name = f"ap{round(100 * threshold)}"
            wanted = {str(index): value for index, value in enumerate(expected["ap"]) if value is not None}
            tolerance = data["tolerance"]["ap_abs"]
            assert values[name].notes["per_class"] == pytest.approx(wanted, rel=0, abs=tolerance)
            mean = expected.get("map", values[name].value)
            assert values[name].value == pytest.approx(mean, rel=0, abs=tolerance)
            assert values[name].count == len(wanted)
        assert_motion_of_localizations(case, data["tolerance"])


def assert_motion_of_localizations(case, tolerance):
    values = computed(VidAP(protocol="vid-reference", ties="reference"), case)
    names = {(each.low, each.high): f"ap50_{each.name}" for each in VID_REFERENCE.motion}
    for expected in case["expected"].get("vid_ap50_motion", []):
        name = names.get(tuple(expected["range"]))
        if name is not None:
            assert values[name].value == pytest.approx(expected["map"], rel=0, abs=tolerance["map_abs"])
