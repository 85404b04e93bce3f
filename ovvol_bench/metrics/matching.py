"""Which detections find which true objects: the greedy matching of VOC and ILSVRC.

Only detections in frames with truth of their class are looked at: all others are false positives
by definition and never become objects here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Bools, Floats, Ints, offsets_of
from ovvol_bench.metrics import kernels
from ovvol_bench.metrics.columns import Columns
from ovvol_bench.metrics.kernels_numpy import IGNORED, NORMAL, UNMATCHABLE
from ovvol_bench.metrics.ranking import Ties, descending_in_lists
from ovvol_bench.metrics.scores import Scores


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
        return _highest(self.pair_iou, self.start)

    def best_iou(self, among: Bools) -> Floats:
        """(D,) highest IoU of each detection with true objects of a kind, -1 without any.

        Args:
            among: (M,) which true objects to look at.
        """
        return _highest(np.where(among[self.pair_truth], self.pair_iou, np.float32(-1)), self.start)

    def share(self, among: Bools) -> npt.NDArray[np.float64]:
        """(D,) share of the true objects of its group that are of a kind."""
        counts = offsets_of(among[self.pair_truth].astype(np.int64))[self.start]
        shares: npt.NDArray[np.float64] = np.diff(counts) / np.diff(self.start)
        return shares


def find_candidates(columns: Columns) -> Candidates:
    """Pair detections with the truth of their frame and class; IoU is taken once a pair."""
    truth = columns.truth
    by_group = np.argsort(truth.frame * (columns.scores.classes + 1) + truth.classes, kind="stable")
    groups = _groups(truth.frame[by_group], truth.classes[by_group])
    box, group, start, place, iou = kernels.pair_up(
        offsets_of(columns.box_counts),
        columns.boxes,
        columns.scores.labels,
        groups,
        truth.boxes[by_group],
        columns.protocol.ap_offset,
    )
    class_id = groups[group, 1]
    _, score = columns.scores.of_pairs(box, class_id)
    return Candidates(box, class_id, score, group, start, by_group[place], iou)


def queue_up(columns: Columns, candidates: Candidates, threshold: float, ties: Ties) -> Ints:
    """The detections that can find an object, group by group, best scores first.

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
    if ties in ("group", "earlier"):
        some = np.flatnonzero(near)
        last: tuple[npt.NDArray[np.number], ...] = (candidates.box[some],)
        if ties == "group":
            last = (-candidates.best[some], columns.boxes[candidates.box[some]])
        keys = np.column_stack([-candidates.score[some].astype(np.float64), *last])
        order = kernels.queue_groups(candidates.group[some], keys.astype(np.float64))
        queue: Ints = some[order]
        return queue
    order = descending_in_lists(candidates.score, np.bincount(candidates.group), ties)
    return order[near[order]]


def match(candidates: Candidates, queue: Ints, matchable: Bools, ignored: Bools, threshold: float) -> Ints:
    """Give each detection the free true object that it overlaps most, in the order of a queue.

    Args:
        candidates: D detections.
        queue: (N,) of ``queue_up``, for this threshold or a lower one.
        matchable: (M,) bool, true objects that can be taken.
        ignored: (M,) bool, decides between objects of exactly equal IoU: the first that is not
            ignored, else the last.
        threshold: an IoU of at least this is a match.

    Returns:
        (N,) int64, the true object of each detection of the queue or -1.
    """
    state = np.select([~matchable, ignored], [UNMATCHABLE, IGNORED], NORMAL).astype(np.int8)
    pairs = (candidates.start, candidates.pair_truth, candidates.pair_iou)
    matched: Ints = kernels.take(*pairs, queue, state, np.float32(threshold))
    return matched


def _groups(frame: Ints, class_id: Ints) -> Ints:
    """(G, 4) frame, class, first and end of the runs of equal frame and class."""
    change = (frame[1:] != frame[:-1]) | (class_id[1:] != class_id[:-1])
    first = np.flatnonzero(np.concatenate([np.ones(min(len(frame), 1), np.bool_), change]))
    end = np.append(first[1:], len(frame)) if len(first) else first
    return np.stack([frame[first], class_id[first], first, end], axis=1)


def _highest(iou: Floats, start: Ints) -> Floats:
    """(D,) highest of the pairs of each detection."""
    highest: Floats = np.maximum.reduceat(iou, start[:-1]) if len(iou) else iou
    return highest
