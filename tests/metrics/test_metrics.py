"""What each metric counts, on scenes small enough to check by hand."""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from ovvol_bench.errors import ContractError, DataError, SettingError, UnknownNameError
from ovvol_bench.metrics import default_metrics, evaluate, held_out_ids
from ovvol_bench.metrics.base import Metric, MetricValue
from ovvol_bench.metrics.columns import build_columns
from ovvol_bench.metrics.corloc import BoxesPerFrame, CorLoc
from ovvol_bench.metrics.detrate import DetectionRate
from ovvol_bench.metrics.naming import NamingAccuracy
from ovvol_bench.metrics.protocols import PROTOCOLS
from ovvol_bench.metrics.vid_ap import VidAP
from ovvol_bench.naming.vocabulary import ForegroundClass, Vocabulary
from ovvol_bench.predictions import ClipPrediction, pack
from ovvol_bench.types import ClipInfo, FrameTruth, Localization

BOTH = pytest.mark.parametrize("protocol", list(PROTOCOLS))
BOX = (10.0, 10.0, 29.0, 29.0)
FAR = (60.0, 10.0, 79.0, 29.0)


def truth(*objects, generated=(), motion=()):
    """One frame; objects are (box, class)."""
    count = len(objects)
    return FrameTruth(
        boxes=np.array([box for box, _ in objects], np.float32).reshape(-1, 4),
        class_ids=np.array([label for _, label in objects], np.int64),
        track_ids=np.arange(count),
        occluded=np.zeros(count, bool),
        generated=np.array(generated or [False] * count, bool),
        motion_iou=np.array(motion or [math.nan] * count, np.float32),
    )


def found(*segments, size=(100, 200), classes=3):
    """One frame of segments (box or None, class, score)."""
    probabilities = np.zeros((len(segments), classes + 1), np.float32)
    for row, (_, label, score) in enumerate(segments):
        probabilities[row, label] = score
    return Localization(
        boxes=np.array([box or (0, 0, 0, 0) for box, *_ in segments], np.float32).reshape(1, -1, 4),
        present=np.array([box is not None for box, *_ in segments], bool).reshape(1, -1),
        probabilities=probabilities,
        slot_map=np.zeros((1, 1, 1), np.int16),
        segment_of_slot=np.zeros(1, np.int16),
        input_size=size,
    )


def info(*frames, name="clip", size=(100, 200), start=0):
    return ClipInfo(name, "video", tuple(range(start, start + len(frames))), size, frames)


def values(metric, *pairs):
    for index, (localization, frame) in enumerate(pairs):
        metric.update(localization, info(frame, name=f"clip{index}", start=index))
    return metric.compute()


@BOTH
def test_without_data_every_number_is_undefined(protocol):
    for metric in default_metrics(protocols=[protocol]):
        for value in metric.compute().values():
            assert math.isnan(value.value)
            assert value.count == 0


@BOTH
def test_frames_without_objects_are_skipped_and_frames_without_boxes_are_misses(protocol):
    pairs = [(found((BOX, 1, 0.9)), truth((BOX, 1))), (found(), truth((BOX, 1))), (found(), truth())]
    corloc = values(CorLoc(protocol=protocol), *pairs)["corloc_any"]
    assert (corloc.value, corloc.count) == (0.5, 2)
    assert corloc.notes["frames_without_objects"] == 1
    assert values(DetectionRate(protocol=protocol), *pairs)["detrate"].value == 0.5


@BOTH
def test_top1_looks_at_the_best_foreground_score_only(protocol):
    localization = found((FAR, 1, 0.9), (BOX, 2, 0.5))
    loud = np.array(localization.probabilities)
    loud[1, 0] = 1.0
    pair = (replace(localization, probabilities=loud), truth((BOX, 2)))
    assert values(CorLoc(protocol=protocol, box="any"), pair)["corloc_any"].value == 1
    assert values(CorLoc(protocol=protocol, box="top1"), pair)["corloc_top1"].value == 0


def test_a_frame_share_is_rounded_to_float32():
    pair = (found((BOX, 1, 0.9)), truth((BOX, 1), (FAR, 1), ((0, 50, 9, 59), 1)))
    rate = values(DetectionRate(protocol="vid-reference"), pair)["detrate"]
    assert rate.value == float(np.float32(1 / 3))
    assert rate.notes["objects"] == 3


def test_the_overlap_must_be_above_half_and_ends_count_as_the_protocol_says():
    half = (found(((0, 0, 10, 10), 1, 0.9)), truth(((0, 0, 10, 20), 1)))
    assert values(CorLoc(protocol="vid-reference"), half)["corloc_any"].value == 0
    assert values(CorLoc(protocol="vid-devkit"), half)["corloc_any"].value == 1  # 11 * 11 / (11 * 21)


def test_average_precision_matches_at_exactly_the_threshold():
    half = (found(((0, 0, 9, 9), 1, 0.9)), truth(((0, 0, 9, 19), 1)))
    assert values(VidAP(protocol="vid-devkit"), half)["ap50"].value == pytest.approx(1)


def test_absent_segments_are_boxes_in_the_reference_only():
    pair = (found((BOX, 1, 0.9), (None, 2, 0.5)), truth((BOX, 1), (FAR, 2)))
    reference = values(BoxesPerFrame(protocol="vid-reference"), pair)["boxes_per_frame"]
    assert (reference.value, reference.notes["absent"]) == (2, 1)
    assert values(BoxesPerFrame(protocol="vid-devkit"), pair)["boxes_per_frame"].value == 1


def test_absent_segments_are_false_positives_in_the_reference_only():
    pairs = [(found((None, 1, 0.9)), truth()), (found((BOX, 1, 0.5)), truth((BOX, 1)))]
    assert values(VidAP(protocol="vid-reference"), *pairs)["ap50"].value == pytest.approx(0.5)
    assert values(VidAP(protocol="vid-devkit"), *pairs)["ap50"].value == pytest.approx(1)


def test_generated_truth_is_ignored_by_the_devkit_only():
    seen, made = truth((BOX, 1)), truth((BOX, 1), generated=[True])
    pairs = [(found((FAR, 1, 0.5)), seen), (found((BOX, 1, 0.9)), made)]
    assert values(CorLoc(protocol="vid-reference"), *pairs)["corloc_any"].value == 0.5
    corloc = values(CorLoc(protocol="vid-devkit"), *pairs)["corloc_any"]
    assert (corloc.value, corloc.count) == (0, 1)
    missed = [(found(), made), (found((BOX, 1, 0.5)), seen)]
    assert values(VidAP(protocol="vid-devkit"), *missed)["ap50"].value == pytest.approx(1)
    hit = [(found((BOX, 1, 0.9)), made), (found((BOX, 1, 0.5)), seen)]
    assert values(VidAP(protocol="vid-devkit"), *hit)["ap50"].value == pytest.approx(1)
    assert values(VidAP(protocol="vid-devkit"), *hit)["ap50"].notes["objects"] == 1


def test_motion_ranges_meet_at_their_ends_in_the_reference_only():
    pair = (found((BOX, 1, 0.9)), truth((BOX, 1), motion=[0.7]))
    counts = {
        protocol: {name: value.count for name, value in values(VidAP(protocol=protocol), pair).items()}
        for protocol in PROTOCOLS
    }
    assert counts["vid-reference"] == {"ap50": 1, "ap50_fast": 1, "ap50_medium": 1, "ap50_slow": 0}
    assert counts["vid-devkit"] == {"ap50": 1, "ap50_fast": 0, "ap50_medium": 1, "ap50_slow": 0}


@BOTH
def test_unknown_motion_is_in_no_range(protocol):
    got = values(VidAP(protocol=protocol), (found((BOX, 1, 0.9)), truth((BOX, 1))))
    assert got["ap50"].value == pytest.approx(1)
    assert all(math.isnan(got[f"ap50_{name}"].value) for name in ("fast", "medium", "slow"))
    assert list(values(VidAP(protocol=protocol, motion=False))) == ["ap50"]


@BOTH
def test_the_span_of_ties_stands_beside_the_value(protocol):
    pairs = [(found((BOX, 1, 0.5)), truth((BOX, 1))), (found((FAR, 1, 0.5)), truth((BOX, 1)))]
    grouped = values(VidAP(protocol=protocol, ties="group", motion=False), *pairs)["ap50"]
    assert grouped.value == pytest.approx(0.25)
    assert grouped.notes["tie_span"] == pytest.approx([0.25, 0.5])
    earlier = values(VidAP(protocol=protocol, ties="earlier", motion=False), *pairs)["ap50"]
    later = values(VidAP(protocol=protocol, ties="later", motion=False), *pairs)["ap50"]
    assert (earlier.value, later.value) == pytest.approx((0.5, 0.25))
    assert earlier.notes["tie_span"] == pytest.approx([0.25, 0.5])


@BOTH
def test_names_count_for_localized_objects_only(protocol):
    frame = truth((BOX, 1), (FAR, 2), ((0, 50, 9, 59), 3))
    pair = (found((BOX, 1, 0.9), (FAR, 3, 0.9)), frame)
    got = values(NamingAccuracy(protocol=protocol, held_out=(2,)), pair)["naming_accuracy"]
    assert (got.value, got.count) == (0.5, 2)
    assert got.notes["held_out"] == {"value": 0, "count": 1}
    assert got.notes["seen"] == {"value": 1, "count": 1}
    assert got.notes["per_class"]["2"] == {"value": 0, "count": 1}


@BOTH
def test_the_background_column_names_nothing(protocol):
    localization = found((BOX, 1, 0.4))
    localization.probabilities[:, 0] = 0.6
    assert (
        values(NamingAccuracy(protocol=protocol), (localization, truth((BOX, 1))))["naming_accuracy"].value
        == 1
    )


def test_held_out_classes_have_an_average_precision_of_their_own():
    pairs = [(found((BOX, 1, 0.9)), truth((BOX, 1))), (found(), truth((BOX, 2)))]
    got = values(VidAP(protocol="vid-devkit", held_out=(2, 3)), *pairs)["ap50"]
    assert got.value == pytest.approx(0.5)
    assert got.notes["held_out"] == {"value": 0, "count": 1}
    assert got.notes["seen"] == pytest.approx({"value": 1, "count": 1})
    assert got.notes["per_class"] == pytest.approx({"1": 1, "2": 0})


def test_the_reference_compares_in_input_pixels():
    """A frame of 90 x 150 shown as 96 x 160: what is whole pixels there is whole again."""
    edge = np.array([0, 0, 1, 1])
    shrink = np.array([150 / 160, 90 / 96] * 2)
    original = tuple(((np.array([16, 32, 47, 63]) + edge) * shrink - edge).tolist())
    clip = info(truth(((15, 30, 75, 60), 1)), size=(90, 150))
    predictions = pack([ClipPrediction(clip, (96, 160), found((original, 1, 0.9)))])
    columns = build_columns(predictions, [clip], PROTOCOLS["vid-reference"])
    assert columns.boxes.tolist() == [[16, 32, 47, 63]]
    assert columns.truth.boxes == pytest.approx(np.array([[16, 32, 80, 64]]))
    columns = build_columns(predictions, [clip], PROTOCOLS["vid-devkit"])
    assert columns.boxes == pytest.approx(np.array([original]))
    assert columns.truth.boxes.tolist() == [[15, 30, 75, 60]]


def test_the_reference_needs_the_input_size():
    metric = CorLoc(protocol="vid-reference")
    metric.update(replace(found((BOX, 1, 0.9)), input_size=None), info(truth((BOX, 1))))
    with pytest.raises(ContractError, match="'clip' has no input size"):
        metric.compute()


@BOTH
def test_context_frames_are_not_scored(protocol):
    one = found((BOX, 1, 0.9))
    two = replace(
        one,
        boxes=np.repeat(one.boxes, 2, axis=0),
        present=np.repeat(one.present, 2, axis=0),
        slot_map=np.repeat(one.slot_map, 2, axis=0),
    )
    clip = replace(info(truth((FAR, 1)), truth((BOX, 1))), context=1)
    metric = CorLoc(protocol=protocol)
    metric.update(two, clip)
    corloc = metric.compute()["corloc_any"]
    assert (corloc.value, corloc.count) == (1, 1)


@BOTH
def test_inverted_boxes_are_refused(protocol):
    metric = CorLoc(protocol=protocol)
    metric.update(found(((30, 10, 20, 20), 1, 0.9)), info(truth((BOX, 1))))
    with pytest.raises(DataError, match="prediction of clip 'clip'"):
        metric.compute()
    metric = CorLoc(protocol=protocol)
    metric.update(found((BOX, 1, 0.9)), info(truth(((30, 10, 20, 20), 1))))
    with pytest.raises(DataError, match="truth"):
        metric.compute()


@BOTH
def test_scores_that_are_no_numbers_are_refused(protocol):
    metric = VidAP(protocol=protocol)
    metric.update(found((BOX, 1, math.nan)), info(truth((BOX, 1))))
    with pytest.raises(DataError, match="probabilities of clip 'clip'"):
        metric.compute()


def test_truth_of_an_unknown_class_is_refused():
    metric = VidAP(protocol="vid-devkit")
    metric.update(found((BOX, 1, 0.9)), info(truth((BOX, 7))))
    with pytest.raises(DataError, match="truth of class 7; expected 1 to 3"):
        metric.compute()


def test_clips_without_truth_are_refused_where_truth_is_needed():
    bare = replace(info(truth()), truth=None)
    with pytest.raises(DataError, match="CorLoc needs a dataset with true boxes"):
        CorLoc(protocol="vid-devkit").update(found((BOX, 1, 0.9)), bare)
    metric = BoxesPerFrame(protocol="vid-devkit")
    metric.update(found((BOX, 1, 0.9)), bare)
    assert metric.compute()["boxes_per_frame"].value == 1


def test_a_clip_with_two_results_is_refused():
    metric = CorLoc(protocol="vid-devkit")
    metric.update(found((BOX, 1, 0.9)), info(truth((BOX, 1))))
    metric.update(found((BOX, 1, 0.9)), info(truth((BOX, 1))))
    assert metric.compute()["corloc_any"].count == 1
    with pytest.raises(DataError, match="added twice with different results"):
        metric.update(found((FAR, 1, 0.9)), info(truth((BOX, 1))))


def test_settings_out_of_range_are_refused():
    with pytest.raises(SettingError, match="iou_threshold is"):
        CorLoc(protocol="vid-devkit", iou_threshold=1.5)
    with pytest.raises(UnknownNameError, match="Did you mean 'vid-devkit'"):
        CorLoc(protocol="vid-devkt")


def test_other_thresholds_have_other_names():
    assert list(CorLoc(protocol="vid-devkit", iou_threshold=0.75).compute()) == ["corloc_any_75"]
    assert list(VidAP(protocol="vid-devkit", iou_threshold=0.75, motion=False).compute()) == ["ap75"]


@BOTH
def test_a_sweep_is_the_mean_over_thresholds(protocol):
    near = (12.0, 10.0, 31.0, 29.0)
    pairs = [(found((near, 1, 0.9), (FAR, 2, 0.8)), truth((BOX, 1), (FAR, 2), motion=[0.5, 0.95]))]
    got = values(VidAP(protocol=protocol, sweep=True), *pairs)
    assert list(got)[4:] == ["ap50_95", "ap50_95_fast", "ap50_95_medium", "ap50_95_slow"]
    for name in ("", "_fast", "_slow"):
        swept = got[f"ap50_95{name}"]
        means = swept.notes["by_threshold"]
        assert list(means) == [str(percent) for percent in range(50, 100, 5)]
        for percent, mean in means.items():
            alone = values(VidAP(protocol=protocol, iou_threshold=int(percent) / 100), *pairs)[
                f"ap{percent}{name}"
            ]
            assert mean == pytest.approx(alone.value)
        assert swept.value == pytest.approx(np.mean(list(means.values())))
        assert swept.count == got[f"ap50{name}"].count
    assert got["ap50_95_slow"].value == pytest.approx(1)
    assert 0.5 < got["ap50_95"].value < 1
    assert math.isnan(got["ap50_95_medium"].value)


# --- evaluate ------------------------------------------------------------------------------------


def stored(localization, clip):
    return ClipPrediction(replace(clip, truth=None), localization.input_size, localization)


def scene():
    clips = [info(truth((BOX, 1)), name=f"clip{index}", start=index) for index in range(3)]
    boxes = [found((BOX, 1, 0.9)), found((FAR, 1, 0.8)), found()]
    return pack([stored(*pair) for pair in zip(boxes, clips, strict=True)]), {clip.id: clip for clip in clips}


def test_evaluate_gives_every_number_by_name_and_protocol():
    predictions, clips = scene()
    vocabulary = Vocabulary("v", (ForegroundClass("a"), ForegroundClass("b", held_out=True)))
    results = evaluate(predictions, clips, default_metrics(vocabulary))
    assert held_out_ids(vocabulary) == (2,)
    names = ["corloc_any", "corloc_top1", "detrate", "ap50", "ap50_fast", "ap50_medium", "ap50_slow"]
    names += ["boxes_per_frame", "naming_accuracy"]
    assert list(results) == [f"{name}@{protocol}" for protocol in PROTOCOLS for name in names]
    assert results["corloc_any@vid-devkit"].value == pytest.approx(1 / 3)
    assert results["naming_accuracy@vid-reference"].notes["held_out"]["count"] == 0


def test_evaluate_equals_feeding_clip_by_clip():
    predictions, clips = scene()
    for metric, fed in zip(default_metrics(), default_metrics(), strict=True):
        for each in predictions:
            fed.update(each.localization, clips[each.info.id])
        got = evaluate(predictions, clips, [metric])
        expected = {
            f"{name}@{fed.protocol}": replace(value, higher_is_better=fed.higher_is_better)
            for name, value in fed.compute().items()
        }
        assert str(got) == str(expected)


class Count(Metric):
    protocol = "mine"

    def __init__(self):
        self.boxes = 0

    def update(self, localization, clip):
        assert clip.truth is not None
        self.boxes += int(localization.present.sum())

    def compute(self):
        return {"boxes": MetricValue(self.boxes, 1, {})}


def test_evaluate_feeds_metrics_of_others_clip_by_clip():
    predictions, clips = scene()
    assert evaluate(predictions, clips, [Count()])["boxes@mine"].value == 2


def test_evaluate_refuses_what_does_not_belong_together():
    predictions, clips = scene()
    with pytest.raises(DataError, match="'clip0' has a prediction but is not in the dataset"):
        evaluate(predictions, {}, default_metrics())
    moved = {name: replace(clip, frame_indices=(9,)) for name, clip in clips.items()}
    with pytest.raises(DataError, match=r"frame_indices is \(0,\) in the predictions and \(9,\)"):
        evaluate(predictions, moved, default_metrics())
    with pytest.raises(SettingError, match="two metrics give 'corloc_any@vid-devkit'"):
        evaluate(predictions, clips, [CorLoc(protocol="vid-devkit"), CorLoc(protocol="vid-devkit")])
    bare = {name: replace(clip, truth=None) for name, clip in clips.items()}
    with pytest.raises(DataError, match="no truth"):
        evaluate(predictions, bare, default_metrics())


def test_metrics_and_prediction_files_need_no_torch():
    code = (
        "import sys, ovvol_bench.metrics.plugin, ovvol_bench.metrics.evaluation; "
        "import ovvol_bench.runs.predictions; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
