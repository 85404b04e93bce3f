"""VID AP: average precision of named boxes, of every class, by motion and by size.

Average precision depends only on how many detections rank before each true positive. So boxes are
never repeated for their classes: detections in frames without truth of their class are counted by
score row, and only the rest is matched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Bools, Doubles, Ints
from ovvol_bench.benchmark import MetricValue
from ovvol_bench.metrics import kernels
from ovvol_bench.metrics.columns import Columns
from ovvol_bench.metrics.matching import Candidates, find_candidates, match, queue_up
from ovvol_bench.metrics.protocols import SIZES, ObjectRange, Protocol
from ovvol_bench.metrics.ranking import Area, Ties, class_order, precision_area
from ovvol_bench.metrics.steps import Steps

SWEEP = tuple(percent / 100 for percent in range(50, 100, 5))
"""IoU thresholds that COCO averages over."""


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
class Sought:
    """Which of M true objects are looked for, for one range of motion or size.

    Attributes:
        ignored: (M,) bool, objects that are neither to be found nor to be missed.
        matchable: (M,) bool, objects that a detection can take.
        inside: number of objects in the range, ignored ones included.
        elsewhere: weight of a detection in a frame without truth of its class.
        objects: (C + 1,) int64, objects to be found of each class.
    """

    ignored: Bools
    matchable: Bools
    inside: int
    elsewhere: float
    objects: Ints

    @classmethod
    def of(cls, columns: Columns, chosen: ObjectRange | None) -> Sought:
        """What a protocol makes of a range; None for all objects."""
        truth = columns.truth
        inside = np.ones(len(truth), np.bool_)
        if chosen is not None:
            inside = chosen.contains(getattr(truth, chosen.column))
        ignored = truth.ignored | ~inside
        shared = columns.protocol.unmatched == "shared"
        weight = elsewhere_weight(columns.protocol, int(inside.sum()), len(truth))
        objects = np.bincount(truth.classes[~ignored], minlength=columns.scores.classes + 1)
        matchable = np.ones_like(ignored) if shared else ~ignored
        return cls(ignored, matchable, int(inside.sum()), weight, objects)


@dataclass(frozen=True)
class Outcome:
    """What became of D candidate detections, for one motion range and threshold.

    Attributes:
        found: (D,) float64, 1 for a true positive.
        wrong: (D,) float64, weight as a false positive; ignored detections have neither.
    """

    found: Doubles
    wrong: Doubles


def class_precision(
    columns: Columns,
    iou_threshold: float = 0.5,
    ties: Ties = "earlier",
    ranges: Sequence[ObjectRange | None] = (None,),
) -> list[ClassPrecision]:
    """Average precision of every class.

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
    """Average precision of every class at several thresholds, as ``class_precision``.

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
    steps = Steps.of(candidates.class_id[queue], candidates.score[queue], columns.scores.classes)
    ranking = Ranking.of(columns, candidates, steps, ties)
    results = []
    for each in ranges:
        sought = Sought.of(columns, each)
        outcomes = outcomes_of(columns.protocol, candidates, queue, sought, thresholds)
        results.append([ranking.precision(outcome, sought, area) for outcome in outcomes])
    return results


def object_ranges(
    protocol: Protocol, motion: bool = True, sizes: bool = False
) -> dict[str, ObjectRange | None]:
    """All objects and, if asked for, the ranges of motion and size, by the suffix of their numbers."""
    chosen: list[ObjectRange] = [*(protocol.motion if motion else ()), *(SIZES if sizes else ())]
    return {"": None, **{f"_{each.name}": each for each in chosen}}


def name_values(
    results: Mapping[str, Sequence[ClassPrecision]], iou_threshold: float, held_out: Sequence[int]
) -> dict[str, MetricValue]:
    """The numbers of VID AP.

    Args:
        results: by suffix, at ``iou_threshold`` and, if there are more, at those of the sweep.
        iou_threshold: of the first ones.
        held_out: class ids that no part was trained on, reported apart.

    Returns:
        ``ap50`` (by the threshold), ``ap50_fast`` and so on; of a sweep ``ap50_95``, ``ap50_95_fast`` and
        so on. ``count`` is the number of classes in the mean. Notes: ``per_class``, ``objects`` and
        ``tie_span``, the values with false and with true positives first among equal scores; of a sweep
        also ``by_threshold``.
    """
    single = f"ap{round(100 * iou_threshold)}"
    values = {f"{single}{name}": _value(each[0], held_out) for name, each in results.items()}
    swept = {name: each[1:] for name, each in results.items() if len(each) > 1}
    return values | {f"ap50_95{name}": _swept(each, held_out) for name, each in swept.items()}


def _swept(results: Sequence[ClassPrecision], held_out: Sequence[int]) -> MetricValue:
    """The mean of the results at the thresholds of the sweep."""
    values, lowest, highest = (
        np.mean([getattr(each, name) for each in results], axis=0) for name in ("values", "lowest", "highest")
    )
    value = _value(ClassPrecision(values, lowest, highest, results[0].objects), held_out)
    means = {str(round(100 * at)): each.mean for at, each in zip(SWEEP, results, strict=True)}
    return replace(value, notes={**value.notes, "by_threshold": means})


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


def elsewhere_weight(protocol: Protocol, inside: int, objects: int) -> float:
    """Weight of a detection in a frame without truth of its class.

    1; in the reference the share of all objects that are inside the motion range, or 1 if that is 0.
    """
    shared = protocol.unmatched == "shared" and inside
    return inside / objects if shared else 1.0


def outcomes_of(
    protocol: Protocol,
    candidates: Candidates,
    queue: Ints,
    sought: Sought,
    thresholds: Sequence[float],
) -> Iterator[Outcome]:
    """One for each threshold."""
    weigh = _unmatched_weights(protocol, candidates, sought.ignored)
    for threshold in thresholds:
        matched = match(candidates, queue, sought.matchable, sought.ignored, threshold)
        hit = matched >= 0
        found, wrong = np.zeros(len(candidates)), weigh(threshold)
        found[queue[hit]] = ~sought.ignored[matched[hit]]
        wrong[queue[hit]] = 0
        yield Outcome(found, wrong)


def _unmatched_weights(
    protocol: Protocol, candidates: Candidates, ignored: Bools
) -> Callable[[float], Doubles]:
    """A function that gives (D,) weights of unmatched detections at a threshold.

    ``full``: 1, but 0 where a detection meets ignored truth. ``shared``, the reference's: 0 where the
    best overlap is with ignored truth, 1 where it is with the rest; on equal overlap the ignored share
    of the objects of that class in the frame.
    """
    if not ignored.any():
        return lambda threshold: np.ones(len(candidates))
    dropped = candidates.best_iou(ignored)
    if protocol.unmatched == "full":
        return lambda threshold: (dropped < np.float32(threshold)).astype(np.float64)
    kept = candidates.best_iou(~ignored)
    shares = np.select([dropped > kept, kept > dropped], [0.0, 1.0], candidates.share(ignored))
    return lambda threshold: shares.copy()


@dataclass(frozen=True)
class Ranking:
    """Where every detection ranks, whatever becomes of it.

    Attributes:
        steps: the scores that can find something.
        bins: (D,) int64, bin of each candidate detection.
        elsewhere: (K,) int64, detections of each bin that are no candidates.
        orders: of each class, if equal scores have an order: what becomes of its detections in it.
    """

    steps: Steps
    bins: Ints
    elsewhere: Ints
    orders: Mapping[int, _ClassOrder | _ListOrder] | None

    @classmethod
    def of(cls, columns: Columns, candidates: Candidates, steps: Steps, ties: Ties = "earlier") -> Ranking:
        """The ranking of all detections of columns."""
        bins = steps.bins(candidates.class_id, candidates.score)
        elsewhere = steps.count(columns.scores) - np.bincount(bins, minlength=len(steps))
        ranking = cls(steps, bins, elsewhere, None)
        if ties == "group":
            return ranking
        classes = np.unique(columns.truth.classes).tolist()
        if ties == "earlier":
            marks = np.zeros(len(columns.boxes), np.bool_)
            orders = {each: _ListOrder.of(columns, candidates, ranking, each, marks) for each in classes}
            return replace(ranking, orders=orders)
        return replace(
            ranking, orders={each: _ClassOrder.of(columns, candidates, each, ties) for each in classes}
        )

    def sums(self, outcome: Outcome) -> Doubles:
        """(2, K) true positives and weights of false positives in each bin, of the candidates."""
        both = (outcome.found, outcome.wrong)
        sums = [np.bincount(self.bins, each, minlength=len(self.steps)) for each in both]
        return np.stack(sums).astype(np.float64)

    def totals(self, outcome: Outcome, sought: Sought) -> Doubles:
        """(2, K) true positives and weights of false positives in each bin, of all detections."""
        sums = self.sums(outcome)
        sums[1] += self.elsewhere * sought.elsewhere
        return sums

    def counts(self, outcome: Outcome, sought: Sought) -> dict[int, tuple[Doubles, Doubles]]:
        """(n,) true and (n,) false positives down the ranking, of every class that has objects.

        Steps without a true positive may be left out: they shape no curve.
        """
        classes, totals = np.flatnonzero(sought.objects).tolist(), self.totals(outcome, sought)
        if self.orders is None:
            return {each: self.steps.counts_down(each, *totals)[:2] for each in classes}
        return {each: self.orders[each].counts(outcome, sought, totals) for each in classes}

    def precision(self, outcome: Outcome, sought: Sought, area: Area) -> ClassPrecision:
        """Average precision of every class that has objects."""
        hits, misses = self.totals(outcome, sought)
        lowest, highest = self.steps.areas(hits, misses, sought.objects, area)
        values = lowest.copy()
        if self.orders is not None:
            for class_id, (found, wrong) in self.counts(outcome, sought).items():
                values[class_id] = area(found, wrong, float(sought.objects[class_id]))
        return ClassPrecision(values, lowest, highest, sought.objects)


@dataclass(frozen=True)
class _ListOrder:
    """The d candidates of a class that can find something, equal scores in the order of the list.

    Attributes:
        class_id: the class.
        steps: of the ranking.
        own: (d,) int64, the candidates, best first.
        level: (d,) int64, the level of each, counted from the highest.
        before: (d,) int64, detections of the same score that are no candidates and stand before it.
    """

    class_id: int
    steps: Steps
    own: Ints
    level: Ints
    before: Ints

    @classmethod
    def of(
        cls, columns: Columns, candidates: Candidates, ranking: Ranking, class_id: int, marks: Bools
    ) -> _ListOrder:
        """The order of a class; ``marks`` is (B,) all False, and left so."""
        levels = ranking.steps.levels[class_id]
        own = np.flatnonzero(candidates.class_id == class_id)
        bins = ranking.bins[own] - ranking.steps.offsets[class_id]
        own, bins = own[bins % 2 == 1], bins[bins % 2 == 1]
        order = np.lexsort((candidates.box[own], -bins))
        own, bins = own[order], bins[order]
        # Of other detections only those matter that share a level; of most levels there are none.
        mine = slice(ranking.steps.offsets[class_id], ranking.steps.offsets[class_id + 1])
        shared = ranking.elsewhere[mine] > 0
        shared[::2] = False
        before = np.zeros(len(own), np.int64)
        if shared.any():
            detections, (values, _) = (
                columns.scores.of_class(class_id),
                columns.scores.rows_of_class(class_id),
            )
            places = kernels.places(values, levels)
            some = np.flatnonzero(shared[places][detections.rows])
            marks[candidates.box[candidates.class_id == class_id]] = True
            some = some[~marks[detections.boxes[some]]]
            marks[candidates.box[candidates.class_id == class_id]] = False
            stride = len(columns.boxes)
            others = np.sort(places[detections.rows[some]] * stride + detections.boxes[some])
            keys = bins * stride
            before = np.searchsorted(others, keys + candidates.box[own]) - np.searchsorted(others, keys)
        return cls(class_id, ranking.steps, own, len(levels) - 1 - bins // 2, before)

    def counts(self, outcome: Outcome, sought: Sought, totals: Doubles) -> tuple[Doubles, Doubles]:
        """See ``Ranking.counts``."""
        _, _, above = self.steps.counts_down(self.class_id, *totals)
        wrong = outcome.wrong[self.own]
        upto = np.cumsum(wrong)
        first = np.flatnonzero(np.diff(self.level, prepend=-1))
        within = upto - (upto - wrong)[first].repeat(np.diff(first, append=len(wrong)))
        misses = above[self.level] + within + self.before * sought.elsewhere
        return np.cumsum(outcome.found[self.own]), misses


@dataclass(frozen=True)
class _ClassOrder:
    """All m detections of a class in an order.

    Attributes:
        class_id: the class.
        order: (m,) int32, its detections, best first.
        own: (d,) int64, candidates of the class.
        place: (d,) int64 in [0, m), which detection each of them is.
    """

    class_id: int
    order: npt.NDArray[np.int32]
    own: Ints
    place: Ints

    @classmethod
    def of(cls, columns: Columns, candidates: Candidates, class_id: int, ties: Ties) -> _ClassOrder:
        """The order of a class."""
        detections = columns.scores.of_class(class_id)
        order = class_order(detections, columns.frame[detections.boxes], ties)
        own = np.flatnonzero(candidates.class_id == class_id)
        place = np.searchsorted(detections.boxes, candidates.box[own])
        return cls(class_id, order.astype(np.int32), own, place)

    def counts(self, outcome: Outcome, sought: Sought, totals: Doubles) -> tuple[Doubles, Doubles]:
        """See ``Ranking.counts``."""
        hits, misses = np.zeros(len(self.order)), np.full(len(self.order), sought.elsewhere)
        hits[self.place], misses[self.place] = outcome.found[self.own], outcome.wrong[self.own]
        return np.cumsum(hits[self.order]), np.cumsum(misses[self.order])
