"""VID AP: average precision of named boxes, of every class, by motion and by size.

Boxes are never repeated for their classes: detections in frames without truth of their class are counted by
score row, and only the rest is matched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np

from ovvol_bench.arrays import Bools, Doubles, Ints
from ovvol_bench.errors import SettingError
from ovvol_bench.metrics.base import ColumnMetric, MetricValue
from ovvol_bench.metrics.columns import Columns
from ovvol_bench.metrics.matching import Candidates, find_candidates, match, queue_up
from ovvol_bench.metrics.protocols import SIZES, ObjectRange
from ovvol_bench.metrics.ranks import (
    Area,
    ClassPrecision,
    Ranking,
    defined_mean,
    eleven_point_area,
    precision_area,
)
from ovvol_bench.metrics.scores import Ties
from ovvol_bench.registry import FromDataset

SWEEP = tuple(percent / 100 for percent in range(50, 100, 5))
"""IoU thresholds that COCO averages over."""


class VidAP(ColumnMetric):
    """``ap50`` (by the threshold), ``ap50_fast`` and so on; with a sweep ``ap50_95`` and so on.

    ``count`` is the number of classes in the mean. Notes: ``per_class``, ``objects`` and
    ``tie_span``, the values with false and with true positives first among equal scores; of a sweep
    also ``by_threshold``.

    Args:
        ties: order of equal scores.
        motion: whether to add the values of the motion ranges.
        sizes: whether to add those of COCO's ranges of size.
        held_out: class ids that no part was trained on, reported apart.
        sweep: whether to add the means over the thresholds .5 to .95.
        class_agnostic: take all classes for one.
        labels: a box is detected as every class, or (``top1``) as its most probable one only, which is the
            background for some: the published program's ``--duplicate_box False``.
        use_07_metric: take the mean of eleven precisions (VOC 2007), not the area under all points.
        base: settings of `ColumnMetric`.
    """

    def __init__(
        self,
        *,
        ties: Ties = "earlier",
        motion: bool = True,
        sizes: bool = False,
        held_out: Annotated[tuple[int, ...], FromDataset("held_out")] = (),
        sweep: bool = False,
        class_agnostic: bool = False,
        labels: Literal["all", "top1"] = "all",
        use_07_metric: bool = False,
        **base: Any,
    ) -> None:
        if class_agnostic and labels == "top1":
            raise SettingError(
                "class_agnostic counts every box once, under its best score; labels=top1 adds nothing. "
                "Choose one of them"
            )
        super().__init__(**base)
        self.ties = ties
        self.held_out = tuple(held_out)
        self.class_agnostic, self.labels = class_agnostic, labels
        self.needs = frozenset() if class_agnostic else frozenset({"classes"})
        self.thresholds = (self.iou_threshold, *(SWEEP if sweep else ()))
        chosen: list[ObjectRange] = [*(self._conventions.motion if motion else ()), *(SIZES if sizes else ())]
        self.ranges: dict[str, ObjectRange | None] = {"": None, **{f"_{each.name}": each for each in chosen}}
        self.area: Area = eleven_point_area if use_07_metric else precision_area
        marks = {"_agnostic": class_agnostic, "_top1": labels == "top1", "_voc07": use_07_metric}
        self._suffix = "".join(mark for mark, holds in marks.items() if holds)

    def score(self, columns: Columns) -> Mapping[str, MetricValue]:
        ranges = list(self.ranges.values())
        results = precision_by_threshold(self.view(columns), self.thresholds, self.ties, ranges, self.area)
        numbers = self.by_number(results)
        return {name: _value(parts, self.held_out) for name, parts in numbers.items()}

    def view(self, columns: Columns) -> Columns:
        """Return the columns with the detections that count."""
        if self.class_agnostic:
            return columns.nameless()
        return columns.named_once() if self.labels == "top1" else columns

    def by_number(self, results: Sequence[Sequence[Any]]) -> dict[str, Sequence[Any]]:
        """Sort what each range gives at each threshold by the numbers that are means of it."""
        single = f"ap{round(100 * self.iou_threshold)}"
        named = dict(zip(self.ranges, results, strict=True))
        numbers = {f"{single}{name}{self._suffix}": parts[:1] for name, parts in named.items()}
        if len(self.thresholds) > 1:
            numbers |= {f"ap50_95{name}{self._suffix}": parts[1:] for name, parts in named.items()}
        return numbers


@dataclass(frozen=True)
class Sought:
    """Those of M true objects that are looked for, for a range of motion or size.

    Attributes:
        ignored: (M,) bool, objects that are neither to be found nor to be missed.
        matchable: (M,) bool, objects that a detection can take.
        inside: (M,) bool, objects in the range, ignored ones included.
        objects: (C + 1,) int64, objects to be found of each class.
        elsewhere: weight of a detection in a frame without truth of its class.
    """

    ignored: Bools
    matchable: Bools
    inside: Bools
    objects: Ints
    elsewhere: float

    @classmethod
    def of(cls, columns: Columns, chosen: ObjectRange | None) -> Sought:
        """Apply a protocol to a range; None for all objects."""
        truth, shared = columns.truth, columns.protocol.unmatched == "shared"
        inside = np.ones(len(truth), np.bool_)
        if chosen is not None:
            inside = chosen.contains(getattr(truth, chosen.column))
        ignored = truth.ignored | ~inside
        objects = np.bincount(truth.classes[~ignored], minlength=columns.scores.classes + 1)
        weight = elsewhere_weight(int(np.count_nonzero(inside)), len(truth)) if shared else 1.0
        return cls(ignored, np.ones_like(ignored) if shared else ~ignored, inside, objects, weight)


def elsewhere_weight(inside: int, objects: int) -> float:
    """Return the reference's weight of a detection in a frame without truth of its class.

    It is the share of all objects that are inside the range, or 1 if that is 0.
    """
    return inside / objects if inside else 1.0


def class_precision(
    columns: Columns,
    iou_threshold: float = 0.5,
    ties: Ties = "earlier",
    ranges: Sequence[ObjectRange | None] = (None,),
) -> list[ClassPrecision]:
    """Compute the average precision of every class.

    In a frame, the detections of a class take by falling score the free true object of that class
    with the highest IoU of at least ``iou_threshold``; a second hit is a false positive.

    Args:
        columns: of F frames.
        iou_threshold: in (0, 1].
        ties: what to do with equal scores.
        ranges: which objects to look for; None for all.

    Returns:
        One for each entry of ``ranges``.
    """
    return [results[0] for results in precision_by_threshold(columns, [iou_threshold], ties, ranges)]


def precision_by_threshold(
    columns: Columns,
    thresholds: Sequence[float],
    ties: Ties = "earlier",
    ranges: Sequence[ObjectRange | None] = (None,),
    area: Area = precision_area,
) -> list[list[ClassPrecision]]:
    """Compute the average precision of every class at several thresholds, as ``class_precision``.

    Overlaps, ranks and orders are taken once for all of them.

    Args:
        columns: of F frames.
        thresholds: in (0, 1].
        ties: what to do with equal scores.
        ranges: which objects to look for; None for all.
        area: of a ranking.

    Returns:
        For each entry of ``ranges`` one for each threshold.
    """
    candidates = find_candidates(columns)
    queue = queue_up(columns, candidates, min(thresholds), ties)
    ranking = Ranking.of(columns, candidates, queue, ties)
    results = []
    for each in ranges:
        sought = Sought.of(columns, each)
        outcomes = outcomes_of(columns, candidates, queue, sought, thresholds)
        results.append(
            [ranking.precision(*outcome, sought.elsewhere, sought.objects, area) for outcome in outcomes]
        )
    return results


def outcomes_of(
    columns: Columns, candidates: Candidates, queue: Ints, sought: Sought, thresholds: Sequence[float]
) -> Iterator[tuple[Doubles, Doubles]]:
    """Say what became of D candidate detections.

    Args:
        columns: that the candidates were found in.
        candidates: D detections.
        queue: see ``match``.
        sought: the objects to look for.
        thresholds: in (0, 1].

    Yields:
        For each threshold (D,) 1 for a true positive, and (D,) weight as a false positive; ignored detections
        have neither.
    """
    ignored, full = sought.ignored, columns.protocol.unmatched == "full"
    shares, dropped = np.ones(len(candidates)), None
    if ignored.any():
        dropped = candidates.best_iou(ignored)
        # The reference's: 0 where the best overlap is with ignored truth, 1 where it is with the rest; on
        # equal overlap the ignored share of the objects of that class in the frame.
        kept = candidates.best_iou(~ignored)
        shares = np.select([dropped > kept, kept > dropped], [0.0, 1.0], candidates.share(ignored))
    for threshold, matched in zip(
        thresholds, match(candidates, queue, sought.matchable, ignored, thresholds), strict=True
    ):
        hit = matched >= 0
        found, wrong = np.zeros(len(candidates)), shares.copy()
        if full and dropped is not None:
            # A detection counts in full unless it meets ignored truth.
            wrong = (dropped < np.float32(threshold)).astype(np.float64)
        found[queue[hit]] = ~ignored[matched[hit]]
        wrong[queue[hit]] = 0
        yield found, wrong


def _value(results: Sequence[ClassPrecision], held_out: Sequence[int]) -> MetricValue:
    """Return the mean over classes of the mean over thresholds; several are those of the sweep."""
    values, lowest, highest = (
        np.mean([getattr(each, name) for each in results], axis=0) for name in ("values", "lowest", "highest")
    )
    defined = np.flatnonzero(~np.isnan(values))
    notes: dict[str, Any] = {
        "per_class": {str(each): float(values[each]) for each in defined},
        "objects": int(results[0].objects.sum()),
        "tie_span": [defined_mean(lowest), defined_mean(highest)],
    }
    if len(held_out):
        novel = np.isin(defined, held_out)
        notes |= {
            name: {"value": defined_mean(values[some]), "count": len(some)}
            for name, some in (("held_out", defined[novel]), ("seen", defined[~novel]))
        }
    if len(results) > 1:
        means = {str(round(100 * at)): each.mean for at, each in zip(SWEEP, results, strict=True)}
        notes["by_threshold"] = means
    return MetricValue(defined_mean(values), len(defined), notes)
