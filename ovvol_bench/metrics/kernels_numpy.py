"""The kernels of the metrics without a compiler; what each one does is defined here."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Bools, Floats, Ints, offsets_of, spans
from ovvol_bench.metrics.boxes import paired_iou

NORMAL, IGNORED, UNMATCHABLE = 0, 1, 2
"""States of a true object: to be found; can be taken, without being sought; can't be taken."""


def best_boxes(
    box_starts: Ints, boxes: Floats, padding: Bools, truth_starts: Ints, truth: Floats, offset: int
) -> tuple[Floats, Ints]:
    """The box that overlaps most with each true object of its frame.

    Args:
        box_starts: (F + 1,) where the boxes of a frame begin, and the end.
        boxes: (B, 4).
        padding: (B,) boxes whose overlap counts as 0.
        truth_starts: (F + 1,) as ``box_starts``.
        truth: (M, 4) true boxes.
        offset: pixel convention, see ``boxes.box_iou``.

    Returns:
        (M,) float32 the IoU, 0 in a frame without boxes; (M,) int64 the first such box, -1 there.
    """
    objects = np.diff(truth_starts)
    low, count = np.repeat(box_starts[:-1], objects), np.repeat(np.diff(box_starts), objects)
    best, first = np.zeros(len(truth), np.float32), np.where(count > 0, low, -1)
    true = np.arange(len(truth))
    for turn in range(int(count.max(initial=0))):
        true = true[count[true] > turn]
        box = low[true] + turn
        iou = paired_iou(truth, true, boxes, box, offset)
        iou[padding[box]] = 0
        better = iou > best[true]
        best[true[better]], first[true[better]] = iou[better], box[better]
    return best, first


def pair_up(
    box_starts: Ints, boxes: Floats, labels: Ints, groups: Ints, truth: Floats, offset: int
) -> tuple[Ints, Ints, Ints, Ints, Floats]:
    """Pair the boxes of a frame with its true objects, class by class.

    Args:
        box_starts: (F + 1,) where the boxes of a frame begin, and the end.
        boxes: (B, 4).
        labels: (B,) the only class that a box is detected as; -1 if it is detected as every class.
        groups: (G, 4) frame, class, first and one past the last row of ``truth``: the true objects of
            one class in one frame.
        truth: (M, 4) true boxes, group by group.
        offset: pixel convention, see ``boxes.box_iou``.

    Returns:
        Of D detections, by group and box: (D,) box, (D,) group, (D + 1,) first pair. Of P pairs, by
        detection: (P,) row of ``truth``, (P,) float32 IoU.
    """
    frame, class_id, first, end = groups.T
    boxes_of = np.diff(box_starts)[frame]
    box = spans(box_starts[frame], boxes_of)
    group = np.repeat(np.arange(len(groups)), boxes_of)
    if (labels >= 0).any():
        detected = (labels[box] < 0) | (labels[box] == class_id[group])
        box, group = box[detected], group[detected]
    sizes = (end - first)[group]
    place = spans(first[group], sizes)
    iou = paired_iou(boxes, np.repeat(box, sizes), truth, place, offset)
    return box, group, offsets_of(sizes), place, iou


def queue_groups(group: Ints, keys: npt.NDArray[np.float64]) -> Ints:
    """Order within groups by several keys, the first one first; equal rows keep their order.

    Args:
        group: (N,) ascending.
        keys: (N, k).

    Returns:
        (N,) rows, group by group.
    """
    return np.lexsort((*keys.T[::-1], group))


def take(
    starts: Ints,
    pair_truth: Ints,
    pair_iou: Floats,
    queue: Ints,
    state: npt.NDArray[np.int8],
    threshold: np.float32,
) -> Ints:
    """Greedy matching: one by one, detections take the free true object that they overlap most.

    Of objects of exactly equal IoU the first ``NORMAL`` one goes first, else the last.

    Args:
        starts: (D + 1,) first pair of each detection.
        pair_truth: (P,) true object of each pair; the detections of a group have the same ones.
        pair_iou: (P,) float32.
        queue: (N,) some detections, group by group, in the order of their choice.
        state: (M,) ``NORMAL``, ``IGNORED`` or ``UNMATCHABLE``.
        threshold: an IoU of at least this is a match.

    Returns:
        (N,) int64, the true object of each detection of the queue or -1.
    """
    counts = np.diff(starts)[queue]
    pair, place = spans(starts[queue], counts), np.repeat(np.arange(len(queue)), counts)
    truth = pair_truth[pair]
    near = (pair_iou[pair] >= threshold) & (state[truth] != UNMATCHABLE)
    pair, place, truth = pair[near], place[near], truth[near]
    objects = np.arange(len(state))
    preference = np.where(state == IGNORED, 2 * len(state) - objects, objects)
    turn = _turns(pair_truth[starts[queue]])[place]
    order = np.lexsort((preference[truth], -pair_iou[pair], place, turn))
    return _in_turns(place[order], truth[order], turn[order], len(queue), len(state))


def places(values: npt.NDArray[np.floating], levels: npt.NDArray[np.floating]) -> Ints:
    """Where values stand among levels: 2 i + 1 at level i, 2 i between levels i - 1 and i.

    Args:
        values: (n,), no NaN.
        levels: (L,) of the same type, strictly ascending.

    Returns:
        (n,) int64 in [0, 2 L].
    """
    at = np.searchsorted(levels, values)
    hit = np.append(levels, np.nan)[at] == values
    found: Ints = 2 * at + hit
    return found


def tally(
    values: npt.NDArray[np.floating], counts: Ints, levels: npt.NDArray[np.floating]
) -> npt.NDArray[np.int64]:
    """How much lies at each of the ``places`` among levels.

    Args:
        values: (n,), no NaN.
        counts: (n,) int64 what each value counts for.
        levels: (L,) of the same type, strictly ascending.

    Returns:
        (2 L + 1,) int64 sums of counts.
    """
    # Sorting the values is quicker than searching for each of them.
    order = np.argsort(values)
    ascending, upto = values[order], offsets_of(counts[order])
    edges = np.empty(2 * len(levels) + 2, np.int64)
    edges[0], edges[-1] = 0, upto[-1]
    edges[1:-1:2] = upto[np.searchsorted(ascending, levels, "left")]
    edges[2:-1:2] = upto[np.searchsorted(ascending, levels, "right")]
    tallies: Ints = np.diff(edges)
    return tallies


def _turns(group: Ints) -> Ints:
    """(N,) place in its group of each entry of a queue, from 0; runs of one value are groups."""
    first = np.ones(len(group), np.bool_)
    first[1:] = group[1:] != group[:-1]
    entries = np.arange(len(group))
    turns: Ints = entries - np.maximum.accumulate(np.where(first, entries, 0))
    return turns


def _in_turns(place: Ints, truth: Ints, turn: Ints, size: int, objects: int) -> Ints:
    """In every turn each group's next detection takes its first free object.

    Detections of one turn belong to different groups, so they never want the same object.

    Args:
        place: (P,) place in the queue; pairs are sorted by turn, place and preference.
        truth: (P,) true object of each pair.
        turn: (P,) turn of the pair's detection.
        size: length of the queue.
        objects: M.
    """
    matched = np.full(size, -1)
    taken = np.zeros(objects, np.bool_)
    for pairs in np.split(np.arange(len(turn)), np.flatnonzero(np.diff(turn)) + 1):
        free = pairs[~taken[truth[pairs]]]
        wanted = free[np.diff(place[free], prepend=-1) != 0]
        matched[place[wanted]] = truth[wanted]
        taken[truth[wanted]] = True
    return matched
