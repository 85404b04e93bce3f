"""The metrics against a slow, obvious implementation, on random clips full of ties and gaps."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovvol_bench.metrics.columns import build_columns
from ovvol_bench.metrics.corloc import BoxesPerFrame, CorLoc
from ovvol_bench.metrics.detrate import DetectionRate
from ovvol_bench.metrics.naming import NamingAccuracy
from ovvol_bench.metrics.protocols import SizeRange, protocol_of
from ovvol_bench.metrics.vid_ap import VidAP, class_precision
from ovvol_bench.predictions import ClipPrediction, pack
from ovvol_bench.types import ClipInfo, FrameTruth, Localization

CLASSES = 2
PROTOCOLS = ("vid-reference", "vid-devkit")
MOTION = {
    "vid-reference": {
        "fast": lambda m: 0 <= m <= 0.7,
        "medium": lambda m: 0.7 <= m <= 0.9,
        "slow": lambda m: 0.9 <= m <= 1,
    },
    "vid-devkit": {
        "fast": lambda m: 0 <= m < 0.7,
        "medium": lambda m: 0.7 <= m <= 0.9,
        "slow": lambda m: 0.9 < m <= 1,
    },
}


# --- random clips --------------------------------------------------------------------------------


def random_boxes(rng, *shape):
    """So close together that overlaps tie, and boxes compete for objects."""
    low = rng.integers(-1, 3, (*shape, 2))
    return np.concatenate([low, low + rng.integers(1, 7, (*shape, 2))], axis=-1).astype(np.float32)


def random_truth(rng):
    count = int(rng.integers(0, 5))
    return FrameTruth(
        boxes=random_boxes(rng, count),
        class_ids=rng.integers(1, CLASSES + 1, count),
        track_ids=np.arange(count),
        occluded=np.zeros(count, bool),
        generated=rng.random(count) < 0.3,
        motion_iou=rng.choice([0.5, 0.7, 0.8, 0.9, 0.95, math.nan], count).astype(np.float32),
    )


def random_clip(rng, index):
    frames, segments = int(rng.integers(1, 4)), int(rng.integers(0, 5))
    present = rng.random((frames, segments)) < 0.8
    boxes = random_boxes(rng, frames, segments) * present[..., None]
    scale = int(rng.choice([1, 2]))
    localization = Localization(
        boxes=boxes.astype(np.float32),
        present=present,
        probabilities=rng.choice([0.1, 0.2, 0.4], (segments, CLASSES + 1)).astype(np.float32),
        slot_map=np.zeros((frames, 1, 1), np.int16),
        segment_of_slot=np.zeros(1, np.int16),
        input_size=(20 * scale, 30 * scale),
    )
    truth = tuple(random_truth(rng) for _ in range(frames))
    indices = tuple(range(10 * index, 10 * index + frames))
    return localization, ClipInfo(f"clip{index}", f"video{index % 2}", indices, (20, 30), truth)


def random_clips(seed):
    rng = np.random.default_rng(seed)
    return [random_clip(rng, index) for index in range(int(rng.integers(0, 6)))]


# --- the slow implementation ---------------------------------------------------------------------


@dataclass
class Thing:
    """A predicted or a true box, in the space of the protocol."""

    box: tuple
    frame: int
    scores: tuple = ()
    label: int = 0
    ignored: bool = False
    motion: float = math.nan
    area: float = 0.0


def slow_iou(first, second, offset):
    def length(low, high):
        return max(0, high - low + offset)

    shared = length(max(first[0], second[0]), min(first[2], second[2])) * length(
        max(first[1], second[1]), min(first[3], second[3])
    )
    areas = [(box[2] - box[0] + offset) * (box[3] - box[1] + offset) for box in (first, second)]
    union = sum(areas) - shared
    return shared / union if union else 0.0


def slow_frames(clips, protocol):
    """One entry a frame: (predicted things, true things), in the order of video and frame."""
    frames = []
    for localization, info in sorted(clips, key=lambda clip: (clip[1].video, clip[1].frame_indices)):
        reference = protocol == "vid-reference"
        scale = localization.input_size[0] // 20 if reference else 1
        for step, truth in enumerate(info.truth):
            found, number = [], len(frames)
            for box, shown, scores in zip(
                localization.boxes[step],
                localization.present[step],
                localization.probabilities,
                strict=True,
            ):
                x1, y1, x2, y2 = (float(each) for each in box)
                scaled = (x1 * scale, y1 * scale, (x2 + 1) * scale - 1, (y2 + 1) * scale - 1)
                if shown or reference:
                    found.append(Thing(scaled if shown else (0, 0, 0, 0), number, tuple(scores)))
            objects = [
                Thing(tuple(float(e) * scale for e in box), number, (), int(label), bool(made), float(motion))
                for box, label, made, motion in zip(
                    truth.boxes, truth.class_ids, truth.generated, truth.motion_iou, strict=True
                )
            ]
            for each, (x1, y1, x2, y2) in zip(objects, truth.boxes.tolist(), strict=True):
                each.ignored = each.ignored and not reference
                each.area = (x2 - x1 + 1) * (y2 - y1 + 1)
            frames.append((found, objects))
    return frames


def slow_hits(found, objects, protocol):
    """The sought objects of a frame, and the best box of each if it meets it."""
    offset = 0 if protocol == "vid-reference" else 1

    def sought(thing):
        return not (thing.ignored or (protocol == "vid-reference" and thing.box[0] == -1))

    hits = []
    for target in filter(sought, objects):
        real = [each for each in found if protocol == "vid-devkit" or each.box[0] != -1]
        best = max(real, key=lambda each: slow_iou(each.box, target.box, offset), default=None)
        meets = best is not None and slow_iou(best.box, target.box, offset) > 0.5
        hits.append((target, best if meets else None))
    return hits


def slow_corloc(clips, protocol, top1=False):
    outcomes = []
    for found, objects in slow_frames(clips, protocol):
        boxes = sorted(found, key=lambda each: -max(each.scores[1:]))[:1] if top1 else found
        hits = slow_hits(boxes, objects, protocol)
        if hits:
            outcomes.append(any(best for _, best in hits))
    return sum(outcomes) / len(outcomes) if outcomes else math.nan


def slow_detection_rate(clips, protocol):
    frames = [slow_hits(*frame, protocol) for frame in slow_frames(clips, protocol)]
    shares = [sum(1 for _, best in hits if best) / len(hits) for hits in frames if hits]
    return sum(shares) / len(shares) if shares else math.nan


def slow_naming(clips, protocol):
    named = [
        1 + int(np.argmax(best.scores[1:])) == target.label
        for frame in slow_frames(clips, protocol)
        for target, best in slow_hits(*frame, protocol)
        if best
    ]
    return sum(named) / len(named) if named else math.nan


def slow_class_events(frames, label, protocol, ignored, elsewhere, ties):
    """(score, true positive, weight as a false positive) of every detection of a class."""
    offset = 2 if protocol == "vid-reference" else 1
    events = []
    for found, objects in frames:
        targets = [each for each in objects if each.label == label]
        if not targets:
            events += [(each.scores[label], 0, elsewhere) for each in found]
            continue

        def iou(one, other):
            return slow_iou(one.box, other.box, offset)

        def turn(each, targets=targets):
            if ties == "earlier":
                return -each.scores[label]
            return (-each.scores[label], -max(iou(each, target) for target in targets), each.box)

        taken = []
        for each in sorted(found, key=turn):
            free = [t for t in targets if iou(each, t) >= 0.5 and not any(t is other for other in taken)]
            if protocol == "vid-devkit":
                free = [t for t in free if not ignored(t)]
            if free:
                top = max(iou(each, t) for t in free)
                equal = [t for t in free if iou(each, t) == top]
                winner = next((t for t in equal if not ignored(t)), equal[-1])
                taken.append(winner)
                events.append((each.scores[label], 0 if ignored(winner) else 1, 0))
            else:
                events.append((each.scores[label], 0, slow_weight(each, targets, iou, ignored, protocol)))
    return events


def slow_weight(each, targets, iou, ignored, protocol):
    dropped = max((iou(each, t) for t in targets if ignored(t)), default=-1)
    kept = max((iou(each, t) for t in targets if not ignored(t)), default=-1)
    if protocol == "vid-devkit":
        return 0 if dropped >= 0.5 else 1
    if dropped != kept:
        return 0 if dropped > kept else 1
    return sum(map(ignored, targets)) / len(targets) or 1


def slow_ap(clips, protocol, motion=None, ties="earlier"):
    """Mean AP and AP of every class; of equal scores the earlier first, or (``group``) all at once."""
    if motion is None:
        return slow_ap_within(clips, protocol, lambda each: True, ties)
    inside = MOTION[protocol][motion]
    return slow_ap_within(clips, protocol, lambda each: inside(float(f"{each.motion:.6f}")), ties)


def slow_ap_within(clips, protocol, inside, ties="earlier"):
    """The same of the objects that a range holds."""
    frames = slow_frames(clips, protocol)
    everything = [each for _, objects in frames for each in objects]

    def ignored(target):
        return target.ignored or not inside(target)

    elsewhere = 1
    if protocol == "vid-reference" and everything:
        elsewhere = sum(map(inside, everything)) / len(everything) or 1
    result = {}
    for label in range(1, CLASSES + 1):
        positives = sum(each.label == label and not ignored(each) for each in everything)
        if positives:
            events = slow_class_events(frames, label, protocol, ignored, elsewhere, ties)
            result[str(label)] = slow_area(events, positives, ties)
    return (sum(result.values()) / len(result) if result else math.nan), result


def slow_area(events, positives, ties):
    points, events = [], sorted(events, key=lambda event: -event[0])
    for step in range(len(events)):
        upto = events[: step + 1]
        if ties == "group":
            upto = [event for event in events if event[0] >= events[step][0]]
        hits, misses = sum(event[1] for event in upto), sum(event[2] for event in upto)
        points.append((hits / positives, hits / (hits + misses + 2**-52)))
    area, last = 0.0, 0.0
    for recall, _ in points:
        area += (recall - last) * max(p for r, p in points if r >= recall)
        last = recall
    return area


# --- tests ---------------------------------------------------------------------------------------


def computed(metric, clips):
    for localization, info in clips:
        metric.update(localization, info)
    return metric.compute()


def same(got, wanted):
    return got == pytest.approx(wanted, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_average_precision_by_size_equals_the_slow_one(protocol, seed):
    """Sizes are those of the original frame, whichever frame a protocol compares in."""
    clips = sorted(random_clips(seed), key=lambda clip: (clip[1].video, clip[1].frame_indices))
    ranges = [SizeRange("small", 0, 16), SizeRange("medium", 16, 36), SizeRange("large", 36, math.inf)]
    predictions = pack([ClipPrediction(info, found.input_size, found) for found, info in clips])
    columns = build_columns(predictions, [info for _, info in clips], protocol_of(protocol))
    for each, got in zip(ranges, class_precision(columns, ranges=ranges), strict=True):
        mean, _ = slow_ap_within(clips, protocol, lambda thing, own=each: own.low <= thing.area < own.high)
        assert same(got.mean, mean)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_without_classes_each_box_comes_once_with_its_best_score(protocol, seed):
    clips = random_clips(seed)
    got = computed(VidAP(protocol=protocol, class_agnostic=True), clips)
    assert list(got) == [f"ap50{each}_agnostic" for each in ("", "_fast", "_medium", "_slow")]
    for name, value in computed(VidAP(protocol=protocol), [nameless(clip) for clip in clips]).items():
        assert same(got[f"{name}_agnostic"].value, value.value)


def nameless(clip):
    """The clip with one class for everything."""
    found, info = clip
    best = found.probabilities[:, 1:].max(axis=1)
    truth = tuple(replace(frame, class_ids=np.ones(len(frame), np.int64)) for frame in info.truth)
    scores = np.stack([np.zeros_like(best), best], axis=1)
    return replace(found, probabilities=scores), replace(info, truth=truth)


@pytest.mark.parametrize("ties", ["earlier", "group"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_average_precision_equals_the_slow_one(protocol, ties, seed):
    clips = random_clips(seed)
    values = computed(VidAP(protocol=protocol, ties=ties), clips)
    assert list(values) == ["ap50", "ap50_fast", "ap50_medium", "ap50_slow"]
    for name, value in values.items():
        mean, per_class = slow_ap(clips, protocol, name[5:] or None, ties)
        assert same(value.value, mean)
        assert same(value.notes["per_class"], per_class)
        assert value.count == len(per_class)
        low, high = value.notes["tie_span"]
        assert same(low, mean) or ties == "earlier"
        assert math.isnan(high) or high >= low - 1e-12


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_localization_equals_the_slow_one(protocol, seed):
    clips = random_clips(seed)
    assert same(computed(CorLoc(protocol=protocol), clips)["corloc_any"].value, slow_corloc(clips, protocol))
    top1 = computed(CorLoc(protocol=protocol, box="top1"), clips)["corloc_top1"].value
    assert same(top1, slow_corloc(clips, protocol, top1=True))
    assert same(
        computed(DetectionRate(protocol=protocol), clips)["detrate"].value,
        slow_detection_rate(clips, protocol),
    )
    naming = computed(NamingAccuracy(protocol=protocol), clips)["naming_accuracy"].value
    assert same(naming, slow_naming(clips, protocol))
    frames = slow_frames(clips, protocol)
    boxes = computed(BoxesPerFrame(protocol=protocol), clips)["boxes_per_frame"].value
    assert same(boxes, sum(len(found) for found, _ in frames) / len(frames) if frames else math.nan)


def every_metric(protocol):
    return [
        CorLoc(protocol=protocol),
        CorLoc(protocol=protocol, box="top1"),
        DetectionRate(protocol=protocol),
        VidAP(protocol=protocol),
        BoxesPerFrame(protocol=protocol),
        NamingAccuracy(protocol=protocol, held_out=(2,)),
    ]


def shuffled_segments(clip, rng):
    localization, info = clip
    order = rng.permutation(len(localization))
    return replace(
        localization,
        boxes=localization.boxes[:, order],
        present=localization.present[:, order],
        probabilities=localization.probabilities[order],
    ), info


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_order_and_repeats_change_nothing(protocol, seed):
    clips, rng = random_clips(seed), np.random.default_rng(seed)
    mixed = [clips[index] for index in rng.permutation(len(clips))]
    for whole, other in zip(*(every_metric(protocol) for _ in range(2)), strict=True):
        expected = computed(whole, clips)
        computed(other, mixed[: len(mixed) // 2 + 1])
        assert str(computed(other, mixed[len(mixed) // 2 :])) == str(expected)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_grouped_average_precision_does_not_depend_on_the_order_of_segments(protocol, seed):
    rng = np.random.default_rng(seed)
    clips = random_clips(seed)
    values = computed(VidAP(protocol=protocol, ties="group"), clips)
    again = computed(VidAP(protocol=protocol, ties="group"), [shuffled_segments(clip, rng) for clip in clips])
    for name, value in values.items():
        assert same(again[name].value, value.value)
