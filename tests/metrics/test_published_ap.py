"""AP of the preset `paper` against a program written from the description of the published one.

See ``tests/golden/README.md``, section g: every box once for every class and frame by frame, an unstable
``argsort()[::-1]`` in each frame and again over all frames, sides of x2 - x1 + 2, a match at an IoU >= .5.
"""

import numpy as np
import pytest

from ovvol_bench.metrics.vid_ap import VidAP
from ovvol_bench.runs.selection import load_preset
from ovvol_bench.types import ClipInfo, FrameTruth, Localization

CLASSES, FRAMES = 4, 8


def boxes_near(rng, count):
    low = rng.integers(0, 12, (count, 2))
    return np.concatenate([low, low + rng.integers(4, 16, (count, 2))], axis=1).astype(np.float32)


def random_clip(rng, index):
    """A segment's scores hold for all frames of its clip, and recur in other clips."""
    segments = int(rng.integers(1, 5))
    scores = rng.choice([0.05, 0.1, 0.2, 0.3], (segments, CLASSES + 1)).astype(np.float32)
    localization = Localization(
        boxes=np.stack([boxes_near(rng, segments) for _ in range(FRAMES)]),
        present=np.ones((FRAMES, segments), bool),
        probabilities=scores,
        slot_map=np.zeros((FRAMES, 1, 1), np.int16),
        segment_of_slot=np.zeros(1, np.int16),
        input_size=(32, 32),
    )
    truth = tuple(frame_truth(rng, int(rng.integers(0, 4))) for _ in range(FRAMES))
    frames = tuple(range(FRAMES * index, FRAMES * (index + 1)))
    return localization, ClipInfo(f"clip{index}", "video", frames, (32, 32), truth)


def frame_truth(rng, count):
    none = np.zeros(count, bool)
    classes = rng.integers(1, CLASSES + 1, count)
    motion = np.full(count, np.nan, np.float32)
    return FrameTruth(boxes_near(rng, count), classes, np.arange(count), none, none, motion)


def sides(box):
    return max(float(box[0]), 0.0) * max(float(box[1]), 0.0)


def overlap(one, two):
    inner = sides(np.minimum(one[2:], two[2:]) - np.maximum(one[:2], two[:2]) + 2)
    return inner / (sides(one[2:] - one[:2] + 2) + sides(two[2:] - two[:2] + 2) - inner)


def rows_of(localization, frame, duplicate_box):
    """Boxes, labels and scores of a frame, segment by segment."""
    boxes, scores = localization.boxes[frame], localization.probabilities.astype(np.float64)
    if not duplicate_box:
        return boxes, scores.argmax(axis=1), scores.max(axis=1)
    names = scores.shape[1]
    return boxes.repeat(names, axis=0), np.tile(np.arange(names), len(boxes)), scores.ravel()


def published_ap(clips, duplicate_box=True, use_07_metric=False):
    found, hits, objects = [[] for _ in range(CLASSES + 1)], [[] for _ in range(CLASSES + 1)], {}
    for localization, info in clips:
        for frame, truth in enumerate(info.truth):
            boxes, labels, scores = rows_of(localization, frame, duplicate_box)
            for label in range(CLASSES + 1):
                own = np.flatnonzero(labels == label)
                own = own[scores[own].argsort()[::-1]]
                targets = truth.boxes[truth.class_ids == label]
                objects[label] = objects.get(label, 0) + len(targets)
                taken = set()
                for row in own:
                    ious = [overlap(boxes[row], target) for target in targets]
                    free = [k for k, iou in enumerate(ious) if iou >= 0.5 and k not in taken]
                    best = max(free, key=lambda k, ious=ious: ious[k], default=None)
                    taken.add(best)
                    found[label].append(scores[row])
                    hits[label].append(best is not None)
    areas = []
    for label in range(CLASSES + 1):
        if not objects[label]:
            continue
        hit = np.array(hits[label], int)[np.array(found[label]).argsort()[::-1]]
        recall = np.cumsum(hit) / objects[label]
        precision = np.cumsum(hit) / (np.cumsum(hit) + np.cumsum(1 - hit) + np.spacing(1))
        areas.append((eleven_points if use_07_metric else all_points)(recall, precision))
    return np.mean(areas)


def eleven_points(recall, precision):
    return sum(max(precision[recall >= t], default=0) / 11 for t in np.arange(0.0, 1.1, 0.1))


def all_points(recall, precision):
    recall = np.concatenate([[0], recall, [1]])
    precision = np.concatenate([[0], precision, [0]])
    for k in range(len(precision) - 1, 0, -1):
        precision[k - 1] = max(precision[k - 1], precision[k])
    steps = np.flatnonzero(recall[1:] != recall[:-1])
    return np.sum((recall[steps + 1] - recall[steps]) * precision[steps + 1])


@pytest.fixture(scope="module")
def clips():
    rng = np.random.default_rng(287)
    return [random_clip(rng, index) for index in range(12)]


def preset_ap(clips, **settings):
    (options,) = [part.options for part in load_preset("paper").metrics if part.name == "vid_ap"]
    metric = VidAP(**{**options, **settings})
    for localization, info in clips:
        metric.update(localization, info)
    return metric.compute()


def test_the_preset_gives_the_published_average_precision_to_fifteen_digits(clips):
    got = preset_ap(clips)["ap50"]
    assert got.value == pytest.approx(published_ap(clips), abs=1e-15)
    low, high = got.notes["tie_span"]
    assert high - low > 0.01  # other orders of the ties give other numbers


def test_average_precision_of_top_names_is_that_without_duplicated_boxes(clips):
    got = preset_ap(clips, labels="top1")["ap50_top1"]
    assert got.value == pytest.approx(published_ap(clips, duplicate_box=False), abs=1e-15)
    assert abs(got.value - published_ap(clips)) > 0.001


def test_average_precision_at_eleven_points(clips):
    got = preset_ap(clips, use_07_metric=True)["ap50_voc07"]
    assert got.value == pytest.approx(published_ap(clips, use_07_metric=True), abs=1e-15)
    assert abs(got.value - published_ap(clips)) > 0.001
