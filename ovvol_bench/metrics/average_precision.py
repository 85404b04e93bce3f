"""VID AP: average precision of named boxes, of every class and by motion.

Average precision depends only on how many detections rank before each true positive. So boxes are
never repeated for their classes: detections in frames without truth of their class are counted by
score row, and only the rest is matched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ovvol_bench.benchmark import MetricValue
from ovvol_bench.metrics.columns import Columns
from ovvol_bench.metrics.matching import Candidates, find_candidates, match
from ovvol_bench.metrics.protocols import MotionRange
from ovvol_bench.metrics.ranking import Ties, class_order, precision_area
from ovvol_bench.metrics.scores import ClassScores
from ovvol_bench.types import Bools, Ints

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ClassPrecision:
    """Average precision of every class, index 0 to C; NaN for a class without objects.

    Attributes:
        values: (C + 1,) float64.
        lowest: (C + 1,) if false positives led every group of equal scores.
        highest: (C + 1,) if true positives led.
        objects: (C + 1,) int64, objects to be found.
    """

    values: Doubles
    lowest: Doubles
    highest: Doubles
    objects: Ints

    @property
    def mean(self) -> float:
        """Mean over the classes that have objects; NaN if none has."""
        return _mean(self.values)


@dataclass(frozen=True)
class Outcome:
    """What became of D candidate detections, for one choice of ignored truth.

    Attributes:
        found: (D,) float64, 1 for a true positive.
        wrong: (D,) float64, weight as a false positive; ignored detections have neither.
        elsewhere: weight of a detection in a frame without truth of its class.
        objects: (C + 1,) int64, objects to be found of each class.
    """

    found: Doubles
    wrong: Doubles
    elsewhere: float
    objects: Ints


def class_precision(
    columns: Columns,
    iou_threshold: float = 0.5,
    ties: Ties = "group",
    motion: Sequence[MotionRange | None] = (None,),
) -> list[ClassPrecision]:
    """Average precision of every class.

    In a frame, the detections of a class take by falling score the free true object of that class
    with the highest IoU of at least ``iou_threshold``; a second hit is a false positive.

    Args:
        columns: of F frames.
        iou_threshold: in (0, 1].
        ties: what to do with equal scores.
        motion: which objects to look for; None for all.

    Returns:
        One for each entry of ``motion``.
    """
    candidates = find_candidates(columns)
    outcomes = [_outcome(columns, candidates, each, iou_threshold, ties) for each in motion]
    areas = np.full((len(outcomes), 3, columns.scores.classes + 1), np.nan)
    for class_id in np.unique(columns.truth.classes):
        areas[:, :, class_id] = _class_areas(columns, candidates, int(class_id), outcomes, ties)
    return [
        ClassPrecision(values, lowest, highest, outcome.objects)
        for (values, lowest, highest), outcome in zip(areas, outcomes, strict=True)
    ]


def vid_ap(
    columns: Columns,
    iou_threshold: float = 0.5,
    ties: Ties = "group",
    motion: bool = True,
    held_out: Sequence[int] = (),
) -> dict[str, MetricValue]:
    """Mean average precision over classes, of all objects and of those in each motion range.

    Args:
        columns: of F frames; the protocol says which motion ranges there are.
        iou_threshold: in (0, 1].
        ties: what to do with equal scores.
        motion: whether to look at motion ranges.
        held_out: class ids that no part was trained on, reported apart.

    Returns:
        ``ap50`` (by the threshold), ``ap50_fast`` and so on. ``count`` is the number of classes in
        the mean. Notes: ``per_class``, ``objects`` and ``tie_span``, the values with false and with
        true positives first among equal scores.
    """
    name = f"ap{round(100 * iou_threshold)}"
    ranges = columns.protocol.motion if motion else ()
    names = [name, *(f"{name}_{each.name}" for each in ranges)]
    results = class_precision(columns, iou_threshold, ties, [None, *ranges])
    return {key: _value(each, held_out) for key, each in zip(names, results, strict=True)}


def _value(result: ClassPrecision, held_out: Sequence[int]) -> MetricValue:
    defined = np.flatnonzero(~np.isnan(result.values))
    notes: dict[str, Any] = {
        "per_class": {str(each): float(result.values[each]) for each in defined},
        "objects": int(result.objects.sum()),
        "tie_span": [_mean(result.lowest), _mean(result.highest)],
    }
    if len(held_out):
        novel = np.isin(defined, held_out)
        notes |= {"held_out": _group(result, defined[novel]), "seen": _group(result, defined[~novel])}
    return MetricValue(result.mean, len(defined), notes)


def _group(result: ClassPrecision, classes: Ints) -> dict[str, Any]:
    return {"value": _mean(result.values[classes]), "count": len(classes)}


def _mean(values: Doubles) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def _outcome(
    columns: Columns, candidates: Candidates, motion: MotionRange | None, threshold: float, ties: Ties
) -> Outcome:
    truth = columns.truth
    inside = np.ones(len(truth), np.bool_) if motion is None else motion.contains(truth.motion)
    ignored = truth.ignored | ~inside
    shared = columns.protocol.unmatched == "shared"
    matchable = np.ones_like(ignored) if shared else ~ignored
    matched = match(columns, candidates, matchable, ignored, threshold, ties)
    weigh = _shared_weights if shared else _full_weights
    wrong = weigh(candidates, ignored, threshold)
    wrong[matched >= 0] = 0
    found = np.zeros(len(matched))
    found[matched >= 0] = ~ignored[matched[matched >= 0]]
    share = float(inside.mean()) if shared and len(truth) else 1.0
    objects = np.bincount(truth.classes[~ignored], minlength=columns.scores.classes + 1)
    return Outcome(found, wrong, share or 1.0, objects)


def _full_weights(candidates: Candidates, ignored: Bools, threshold: float) -> Doubles:
    """(D,) 1, but 0 where a detection meets ignored truth."""
    return (candidates.best_iou(ignored) < np.float32(threshold)).astype(np.float64)


def _shared_weights(candidates: Candidates, ignored: Bools, threshold: float) -> Doubles:
    """(D,) the reference's weights of unmatched detections.

    0 where the best overlap is with ignored truth, 1 where it is with the rest; on equal overlap the
    ignored share of the objects of that class in the frame.
    """
    dropped, kept = candidates.best_iou(ignored), candidates.best_iou(~ignored)
    objects = np.bincount(candidates.pair_detection)
    share = np.bincount(candidates.pair_detection, ignored[candidates.pair_truth]) / objects
    return np.select([dropped > kept, kept > dropped], [0.0, 1.0], share)


def _class_areas(
    columns: Columns, candidates: Candidates, class_id: int, outcomes: Sequence[Outcome], ties: Ties
) -> Doubles:
    """(R, 3) value, lowest and highest average precision of a class for R outcomes."""
    detections = columns.scores.of_class(class_id)
    own = np.flatnonzero(candidates.class_id == class_id)
    place = np.searchsorted(detections.boxes, candidates.box[own])
    groups = _TieGroups.of(detections, place)
    order = None if ties == "group" else class_order(detections, columns.frame[detections.boxes], ties)
    areas = np.full((len(outcomes), 3), np.nan)
    for row, outcome in enumerate(outcomes):
        objects = int(outcome.objects[class_id])
        if not objects:
            continue
        found, wrong = outcome.found[own], outcome.wrong[own]
        lowest, highest = groups.areas(found, wrong, outcome.elsewhere, objects)
        value = lowest
        if order is not None:
            hits, misses = np.zeros(len(order)), np.full(len(order), outcome.elsewhere)
            hits[place], misses[place] = found, wrong
            value = precision_area(np.cumsum(hits[order]), np.cumsum(misses[order]), objects)
        areas[row] = value, lowest, highest
    return areas


@dataclass(frozen=True)
class _TieGroups:
    """The distinct scores of a class, best first.

    Attributes:
        group: (m,) group of each score row, 0 for the best score.
        rows: (d,) score row of each candidate detection.
        elsewhere: (m,) detections of each row that are no candidates.
        count: number of groups.
    """

    group: Ints
    rows: Ints
    elsewhere: Ints
    count: int

    @classmethod
    def of(cls, detections: ClassScores, place: Ints) -> _TieGroups:
        """Group the score rows of a class; ``place``: the candidates among its detections."""
        distinct, group = np.unique(-detections.values, return_inverse=True)
        rows, size = detections.rows[place], len(detections.values)
        elsewhere = np.bincount(detections.rows, minlength=size) - np.bincount(rows, minlength=size)
        return cls(group, rows, elsewhere, len(distinct))

    def areas(self, found: Doubles, wrong: Doubles, elsewhere: float, objects: int) -> tuple[float, float]:
        """Average precision with false, and with true positives first among equal scores."""
        group = self.group[self.rows]
        rest = np.bincount(self.group, self.elsewhere, minlength=self.count) * elsewhere
        hits = np.cumsum(np.bincount(group, found, minlength=self.count))
        misses = np.cumsum(rest + np.bincount(group, wrong, minlength=self.count))
        before = np.concatenate([[0.0], misses])[:-1]
        both = np.stack([before, misses], axis=1).ravel()
        lowest = precision_area(hits, misses, objects)
        return lowest, precision_area(np.repeat(hits, 2), both, objects)
