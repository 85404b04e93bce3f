"""Greedy matching of detections with true objects, as VOC and ILSVRC have it.

Only detections in frames with truth of their class are looked at: all others are false positives
by definition and never become objects here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Bools, Floats, Ints, offsets_of, run_starts, spans
from ovvol_bench.metrics.boxes import paired_iou
from ovvol_bench.metrics.columns import Columns
from ovvol_bench.metrics.scores import Scores, Ties, descending_in_lists


@dataclass(frozen=True)
class Candidates:
    """D detections in frames with truth of their class, and their P pairs with that truth.

    Detections of one frame and class form a group, which is matched by itself.

    Attributes:
        box: (D,) int64, the box of each detection; group by group, ascending.
        class_id: (D,) int64.
        score: (D,) scores.
        group: (D,) int64, ascending.
        start: (D + 1,) int64, the first pair of each detection; each has at least one.
        pair_truth: (P,) int64, true object of each pair, ascending within a detection.
        pair_iou: (P,) float32.
    """

    box: Ints
    class_id: Ints
    score: Scores
    group: Ints
    start: Ints
    pair_truth: Ints
    pair_iou: Floats

    def __len__(self) -> int:
        return len(self.box)

    @cached_property
    def best(self) -> Floats:
        """(D,) highest IoU of each detection with true objects of its class."""
        return self._highest(self.pair_iou)

    def best_iou(self, among: Bools) -> Floats:
        """(D,) highest IoU of each detection with true objects of a kind, -1 without any.

        Args:
            among: (M,) which true objects to look at.
        """
        return self._highest(np.where(among[self.pair_truth], self.pair_iou, np.float32(-1)))

    def share(self, among: Bools) -> npt.NDArray[np.float64]:
        """(D,) share of the true objects of its group that are of a kind."""
        counts = offsets_of(among[self.pair_truth].astype(np.int64))[self.start]
        shares: npt.NDArray[np.float64] = np.diff(counts) / np.diff(self.start)
        return shares

    def _highest(self, iou: Floats) -> Floats:
        highest: Floats = np.maximum.reduceat(iou, self.start[:-1]) if len(iou) else iou
        return highest


def find_candidates(columns: Columns) -> Candidates:
    """Pair detections with the truth of their frame and class; IoU is taken once a pair."""
    truth, labels = columns.truth, columns.scores.labels
    by_group = np.argsort(truth.frame * (columns.scores.classes + 1) + truth.classes, kind="stable")
    frame, class_id = truth.frame[by_group], truth.classes[by_group]
    first = run_starts(frame * (columns.scores.classes + 1) + class_id)
    objects = np.diff([*first, len(frame)])
    frame, class_id = frame[first], class_id[first]
    boxes = columns.box_counts[frame]
    box = spans(offsets_of(columns.box_counts)[frame], boxes)
    group = np.repeat(np.arange(len(first)), boxes)
    if (labels >= 0).any():
        detected = (labels[box] < 0) | (labels[box] == class_id[group])
        box, group = box[detected], group[detected]
    sizes = objects[group]
    true = by_group[spans(first[group], sizes)]
    iou = paired_iou(columns.boxes, np.repeat(box, sizes), truth.boxes, true, columns.protocol.ap_offset)
    classes = class_id[group]
    score = columns.scores.of_pairs(box, classes)
    return Candidates(box, classes, score, group, offsets_of(sizes), true, iou)


def queue_up(columns: Columns, candidates: Candidates, threshold: float, ties: Ties) -> Ints:
    """Order the detections that can find an object, group by group, best scores first.

    Args:
        columns: that the candidates were found in.
        candidates: D detections.
        threshold: lowest IoU of a match.
        ties: order of equal scores in a group. ``group`` takes the better overlap first, then the
            smaller coordinates, which depends on no order of the input.

    Returns:
        (N,) int64 in [0, D).
    """
    near = candidates.best >= np.float32(threshold)
    if ties in ("reference", "later"):
        order = descending_in_lists(candidates.score, np.bincount(candidates.group), ties)
        return order[near[order]]
    some = np.flatnonzero(near)
    keys: list[npt.NDArray[np.number]] = [-candidates.score[some], candidates.group[some]]
    if ties == "group":
        keys = [*columns.boxes[candidates.box[some]].T[::-1], -candidates.best[some], *keys]
    # The order is stable, and boxes of a group are in the order of the list already.
    queue: Ints = some[np.lexsort(keys)]
    return queue


def match(
    candidates: Candidates, queue: Ints, matchable: Bools, ignored: Bools, thresholds: Sequence[float]
) -> Iterator[Ints]:
    """Give each detection the free true object that it overlaps most, in the order of a queue.

    Args:
        candidates: D detections.
        queue: (N,) of ``queue_up``, for the lowest threshold or a lower one.
        matchable: (M,) bool, true objects that can be taken.
        ignored: (M,) bool, decides between objects of exactly equal IoU: the first that is not
            ignored, else the last.
        thresholds: an IoU of at least this is a match.

    Yields:
        For each threshold (N,) int64, the true object of each detection of the queue or -1.
    """
    counts = np.diff(candidates.start)[queue]
    pair, place = spans(candidates.start[queue], counts), np.repeat(np.arange(len(queue)), counts)
    near = matchable[candidates.pair_truth[pair]]
    near &= candidates.pair_iou[pair] >= np.float32(min(thresholds))
    pair, place = pair[near], place[near]
    true, iou = candidates.pair_truth[pair], candidates.pair_iou[pair]
    first = run_starts(candidates.group[queue])
    turn = (np.arange(len(queue)) - np.repeat(first, np.diff([*first, len(queue)])))[place]
    objects = np.arange(len(ignored))
    preference = np.where(ignored, 2 * len(ignored) - objects, objects)
    order = np.lexsort((preference[true], -iou, place, turn))
    place, true, iou, turn = place[order], true[order], iou[order], turn[order]
    for threshold in thresholds:
        some = np.flatnonzero(iou >= np.float32(threshold))
        matched, taken = np.full(len(queue), -1), np.zeros(len(ignored), np.bool_)
        # In every turn each group's next detection takes its first free object. Detections of one turn
        # belong to different groups, so they never want the same object.
        for start, end in pairwise([*run_starts(turn[some]).tolist(), len(some)]):
            free = some[start:end][~taken[true[some[start:end]]]]
            wanted = free[run_starts(place[free])]
            matched[place[wanted]] = true[wanted]
            taken[true[wanted]] = True
        yield matched
