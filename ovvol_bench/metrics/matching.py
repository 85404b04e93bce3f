"""Which detections find which true objects: the greedy matching of VOC and ILSVRC.

Only detections in frames with truth of their class are looked at: all others are false positives
by definition and never become objects here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ovvol_bench.metrics.boxes import paired_iou
from ovvol_bench.metrics.columns import Columns
from ovvol_bench.metrics.ranking import Ties, descending_in_lists
from ovvol_bench.metrics.scores import Scores
from ovvol_bench.ragged import all_pairs
from ovvol_bench.types import Bools, Floats, Ints


@dataclass(frozen=True)
class Candidates:
    """D detections in frames with truth of their class, and their P pairs with that truth.

    Detections of one frame and class form a group, which is matched by itself.

    Attributes:
        box: (D,) int64, the box of each detection.
        class_id: (D,) int64.
        score: (D,) scores.
        group: (D,) int64 in [0, G).
        start: (D,) int64, the first pair of each detection.
        pair_detection: (P,) int64, ascending.
        pair_truth: (P,) int64, true object of each pair.
        pair_iou: (P,) float32.
    """

    box: Ints
    class_id: Ints
    score: Scores
    group: Ints
    start: Ints
    pair_detection: Ints
    pair_truth: Ints
    pair_iou: Floats

    def best_iou(self, among: Bools) -> Floats:
        """(D,) highest IoU of each detection with true objects of a kind, -1 without any.

        Args:
            among: (M,) which true objects to look at.
        """
        iou = np.where(among[self.pair_truth], self.pair_iou, np.float32(-1))
        best: Floats = np.maximum.reduceat(iou, self.start) if len(iou) else iou
        return best


def find_candidates(columns: Columns) -> Candidates:
    """Pair detections with the truth of their frame and class; IoU is taken once a pair."""
    truth = columns.truth
    # With a frame's truth sorted by class, the pairs of one detection lie together.
    by_class = np.lexsort((truth.classes, truth.frame))
    box, place = all_pairs(columns.box_counts, truth.counts)
    detected, score = columns.scores.of_pairs(box, truth.classes[by_class[place]])
    if not detected.all():
        box, place, score = box[detected], place[detected], score[detected]
    pair_truth = by_class[place]
    class_id = truth.classes[pair_truth]
    first = _run_starts(box, class_id)
    start = np.flatnonzero(first)
    groups = np.cumsum(_run_starts(truth.frame[by_class], truth.classes[by_class])) - 1
    return Candidates(
        box=box[start],
        class_id=class_id[start],
        score=score[start],
        group=groups[place[start]],
        start=start,
        pair_detection=np.cumsum(first) - 1,
        pair_truth=pair_truth,
        pair_iou=paired_iou(columns.boxes[box], truth.boxes[pair_truth], columns.protocol.ap_offset),
    )


def match(
    columns: Columns, candidates: Candidates, matchable: Bools, ignored: Bools, threshold: float, ties: Ties
) -> Ints:
    """Give each detection the free true object that it overlaps most, best scores first.

    Args:
        columns: that the candidates were found in.
        candidates: D detections.
        matchable: (M,) bool, true objects that can be taken.
        ignored: (M,) bool, decides between objects of exactly equal IoU: the first that is not
            ignored, else the last.
        threshold: an IoU of at least this is a match.
        ties: order of equal scores in a group. ``group`` takes the better overlap first, then the
            smaller coordinates, which depends on no order of the input.

    Returns:
        (D,) int64, the true object of each detection or -1.
    """
    near = np.flatnonzero((candidates.pair_iou >= np.float32(threshold)) & matchable[candidates.pair_truth])
    detection, truth = candidates.pair_detection[near], candidates.pair_truth[near]
    turn = _turns(columns, candidates, np.unique(detection), ties)
    objects = np.arange(len(ignored))
    preference = np.where(ignored, 2 * len(ignored) - objects, objects)
    keys = (preference[truth], -candidates.pair_iou[near], detection, turn[detection])
    order = np.lexsort(keys)
    return take_in_turns(detection[order], truth[order], turn[detection[order]], len(turn), len(objects))


def take_in_turns(detection: Ints, truth: Ints, turn: Ints, detections: int, objects: int) -> Ints:
    """The matching itself: in every turn each group's next detection takes its first free object.

    Args:
        detection: (P,) of each pair; pairs are sorted by turn, detection and preference.
        truth: (P,) true object of each pair.
        turn: (P,) turn of the pair's detection. Detections of one turn belong to different groups,
            so they never want the same object.
        detections: D.
        objects: M.

    Returns:
        (D,) int64, the true object of each detection or -1.
    """
    matched = np.full(detections, -1)
    taken = np.zeros(objects, np.bool_)
    for pairs in np.split(np.arange(len(turn)), np.flatnonzero(np.diff(turn)) + 1):
        free = pairs[~taken[truth[pairs]]]
        wanted = free[_run_starts(detection[free])]
        matched[detection[wanted]] = truth[wanted]
        taken[truth[wanted]] = True
    return matched


def _turns(columns: Columns, candidates: Candidates, some: Ints, ties: Ties) -> Ints:
    """(D,) place of some detections in the queue of their group, from 0; -1 for the others."""
    group = candidates.group[some]
    if ties == "group":
        best = candidates.best_iou(np.ones(len(columns.truth), np.bool_))[some]
        corners = columns.boxes[candidates.box[some]].T[::-1]
        order = np.lexsort((*corners, -best, -candidates.score[some], group))
    else:
        order = np.argsort(_places(candidates, ties)[some])
    turn = np.full(len(candidates.box), -1)
    starts = _run_starts(group[order])
    first = np.flatnonzero(starts)[np.cumsum(starts) - 1]
    turn[some[order]] = np.arange(len(order)) - first
    return turn


def _places(candidates: Candidates, ties: Ties) -> Ints:
    """(D,) place of every detection when groups are queued up one after another."""
    by_group = np.argsort(candidates.group, kind="stable")
    within = descending_in_lists(candidates.score[by_group], np.bincount(candidates.group), ties)
    places = np.empty_like(by_group)
    places[by_group[within]] = np.arange(len(by_group))
    return places


def _run_starts(*keys: npt.NDArray[np.int64]) -> Bools:
    """(n,) bool, true where any of some arrays changes, and at the start."""
    starts = np.ones(len(keys[0]), np.bool_)
    if len(starts):
        starts[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    return starts
