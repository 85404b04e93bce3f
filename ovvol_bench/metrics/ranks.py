"""Ranks of detections, and average precision as the area under the curve that they give.

Average precision depends only on how many detections come before each true positive. So the scores
of those detections that meet truth are the *levels* of a class, and any other score falls into a gap
between two levels. Nothing is sorted by score but the levels, and the detections that share one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Doubles, Ints, offsets_of, run_starts
from ovvol_bench.metrics.columns import Columns
from ovvol_bench.metrics.matching import Candidates
from ovvol_bench.metrics.scores import Scores, Ties, class_order

Area = Callable[[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike], Any]
"""Average precision of a ranking, ``precision_area`` or ``eleven_point_area``.

Args: (..., n) true and (..., n) false positives down to each step of the ranking; (...) objects, above 0.
Returns: (...) areas.
"""


def precision_area(found: npt.ArrayLike, wrong: npt.ArrayLike, positives: npt.ArrayLike) -> Any:
    """Return the area under the precision-recall curve, at all recall points (VOC 2010); see `Area`.

    >>> float(precision_area([1, 1, 2], [0, 1, 1], 2))
    0.8333333333333333
    """
    return curve_area(*precision_curve(found, wrong, positives))


def eleven_point_area(found: npt.ArrayLike, wrong: npt.ArrayLike, positives: npt.ArrayLike) -> Any:
    """Return the mean precision at recall 0, .1 to 1 (VOC 2007, ``use_07_metric``); see `Area`.

    >>> round(float(eleven_point_area([1, 1, 2], [0, 1, 1], 2)), 6)
    0.848485
    """
    recall, precision = precision_curve(found, wrong, positives)
    # The sum of eleventh parts in the order of the devkit's loop, over its own not quite round recalls.
    reached = [np.where(recall >= at, precision, 0).max(axis=-1) / 11 for at in np.arange(0.0, 1.1, 0.1)]
    return np.cumsum(reached, axis=0)[-1]


def precision_curve(
    found: npt.ArrayLike, wrong: npt.ArrayLike, positives: npt.ArrayLike
) -> tuple[Doubles, Doubles]:
    """Return the steps of the interpolated precision-recall curve.

    Precision is replaced by the best precision at any higher recall.

    Args:
        found: (..., n) true positives up to each step of the ranking, or (n,) for all curves.
        wrong: (..., n) false positives up to each step, fractions allowed.
        positives: (...) objects to be found, above 0.

    Returns:
        (..., m) ascending recall, the last 1; (..., m) precision from the recall before, or 0, up to each of
        them: 0 at recall that isn't reached.

    >>> precision_curve([1, 1, 2], [0, 1, 1], 4)[0]
    array([0.25, 0.5 , 1.  ])
    """
    hits, misses = np.asarray(found, np.float64), np.asarray(wrong, np.float64)
    total = np.asarray(positives, np.float64)[..., None]
    if hits.ndim == 1:
        # Between true positives precision only falls, so that these steps alone shape the curve.
        gains = np.ones(len(hits), np.bool_)
        np.greater(hits[1:], hits[:-1], out=gains[1:])
        gains[:1] = hits[:1] > 0
        hits, misses = hits[gains], misses[..., gains]
    # 2^-52 as the reference has it: a ranking that starts with ignored detections is 0 / 0 there.
    precision = hits / (misses + hits + np.spacing(1))
    recall = hits / total
    if recall.ndim > 1 or not recall.size or recall[-1] < 1:
        recall = np.concatenate([recall, np.ones_like(recall, shape=(*recall.shape[:-1], 1))], axis=-1)
    envelope = np.zeros((*precision.shape[:-1], recall.shape[-1]))
    size = precision.shape[-1]
    np.maximum.accumulate(precision[..., ::-1], axis=-1, out=envelope[..., :size][..., ::-1])
    return recall, envelope


def curve_area(recall: Doubles, precision: Doubles) -> Any:
    """Return the (...) area under a curve of `precision_curve`."""
    widths = recall.copy()
    widths[..., 1:] -= recall[..., :-1]
    return (widths * precision).sum(axis=-1)


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
        return defined_mean(self.values)


def defined_mean(values: Doubles) -> float:
    """Return the mean of the values that are no NaN; NaN without any."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


@dataclass(frozen=True)
class Order:
    """The d candidates of a class that share a score with one that can find something, best first.

    Attributes:
        own: (d,) int64, the candidates.
        level: (d,) int64, the level of each, counted from the highest.
        before: (d,) int64, detections of the same score that are no candidates and come before it.
    """

    own: Ints
    level: Ints
    before: Ints

    @cached_property
    def runs(self) -> tuple[Ints, Ints]:
        """Position of the first of each level, and their number."""
        first = run_starts(self.level)
        return first, np.diff([*first, len(self.level)])


@dataclass(frozen=True)
class Ranking:
    """Ranks of all detections of columns, whatever becomes of them.

    A class of L levels has 2 L + 1 bins: 2 i + 1 at level i, 2 i in the gap below it, 2 L above all. The
    K bins of all classes stand one after another.

    Attributes:
        levels: of the classes 0 to C: (L,) distinct scores, ascending.
        bins: (D,) int64, bin of each candidate.
        elsewhere: (K,) int64, detections of each bin that are no candidates; 0 in classes without levels,
            which need none.
        orders: how equal scores of a class go; empty if they have no order.
    """

    levels: tuple[Scores, ...]
    bins: Ints
    elsewhere: Ints
    orders: Mapping[int, Order]

    @classmethod
    def of(cls, columns: Columns, candidates: Candidates, queue: Ints, ties: Ties = "earlier") -> Ranking:
        """Rank the detections of columns.

        Args:
            columns: of F frames.
            candidates: D detections.
            queue: (N,) those of them that can find something.
            ties: order of equal scores.
        """
        near = by_class(candidates.class_id[queue], columns.scores.classes)
        levels = tuple(np.unique(candidates.score[queue[own]]) for own in near)
        bins, elsewhere, orders = np.empty(len(candidates), np.int64), [], {}
        start = 0
        for class_id, own in enumerate(by_class(candidates.class_id, columns.scores.classes)):
            local, size = places(candidates.score[own], levels[class_id]), 2 * len(levels[class_id]) + 1
            bins[own] = start + local
            start += size
            if size == 1:
                elsewhere.append(np.zeros(1, np.int64))
                continue
            values, counts = columns.scores.rows_of_class(class_id)
            rows = places(values, levels[class_id])
            tally = np.bincount(rows, counts, minlength=size).astype(np.int64)
            elsewhere.append(tally - np.bincount(local, minlength=size))
            if ties == "earlier":
                orders[class_id] = _list_order(columns, candidates, own, local, rows, elsewhere[-1])
            elif ties != "group":
                orders[class_id] = _full_order(columns, candidates, own, local, ties, elsewhere[-1])
        return cls(levels, bins, np.concatenate(elsewhere), orders)

    @cached_property
    def offsets(self) -> list[int]:
        """First bin of each class, and the number of bins K."""
        sizes = np.array([2 * len(each) + 1 for each in self.levels], np.int64)
        offsets: list[int] = offsets_of(sizes).tolist()
        return offsets

    def totals(self, found: Doubles, wrong: Doubles, elsewhere: float) -> tuple[Doubles, Doubles]:
        """Sum what became of all detections by bin.

        Args:
            found: (D,) 1 for a true positive.
            wrong: (D,) weight as a false positive; ignored detections have neither.
            elsewhere: weight of a detection that is no candidate.

        Returns:
            (K,) true positives, none outside of levels; (K,) weights of false positives.
        """
        size = self.offsets[-1]
        misses = np.bincount(self.bins, wrong, minlength=size) + self.elsewhere * elsewhere
        return np.bincount(self.bins, found, minlength=size).astype(np.float64), misses

    def counts_down(self, class_id: int, hits: Doubles, misses: Doubles) -> tuple[Doubles, Doubles]:
        """Count the detections of a class down to each of its levels, the highest level first.

        Args:
            class_id: in [0, C].
            hits: (K,) of `totals`.
            misses: (K,) of `totals`.

        Returns:
            (L,) true positives; (2, L) false positives, without those at the level itself, and with them.
        """
        own = slice(self.offsets[class_id], self.offsets[class_id + 1])
        wrong = misses[own][::-1].cumsum()
        return hits[own][1::2][::-1].cumsum(), np.stack([wrong[:-1:2], wrong[1::2]])

    def counts_in_order(
        self, class_id: int, found: Doubles, wrong: Doubles, elsewhere: float, above: Doubles
    ) -> tuple[Doubles, Doubles]:
        """Count the detections of a class down to each candidate at a level, equal scores in their order.

        Args:
            class_id: one with an order.
            found: see `totals`.
            wrong: see `totals`.
            elsewhere: see `totals`.
            above: (L,) false positives above each level, of `counts_down`.

        Returns:
            (d,) true and (d,) false positives.
        """
        order = self.orders[class_id]
        first, lengths = order.runs
        own = wrong[order.own]
        upto = own.cumsum()
        at_level = upto - np.repeat((upto - own)[first], lengths)
        return found[order.own].cumsum(), above[order.level] + at_level + order.before * elsewhere

    def precision(
        self, found: Doubles, wrong: Doubles, elsewhere: float, objects: Ints, area: Area
    ) -> ClassPrecision:
        """Average precision of every class that has objects.

        Args:
            found: see `totals`.
            wrong: see `totals`.
            elsewhere: see `totals`.
            objects: (C + 1,) to be found.
            area: of a ranking.
        """
        values, lowest, highest = np.full((3, len(objects)), np.nan)
        hits, misses = self.totals(found, wrong, elsewhere)
        for class_id in objects.nonzero()[0].tolist():
            positives = float(objects[class_id])
            down, spans = self.counts_down(class_id, hits, misses)
            highest[class_id], lowest[class_id] = area(down, spans, positives)
            values[class_id] = lowest[class_id]
            if class_id in self.orders:
                counts = self.counts_in_order(class_id, found, wrong, elsewhere, spans[0])
                values[class_id] = area(*counts, positives)
        return ClassPrecision(values, lowest, highest, objects)


def _list_order(
    columns: Columns, candidates: Candidates, own: Ints, bins: Ints, rows: Ints, elsewhere: Ints
) -> Order:
    """Order the candidates of a class, those of equal scores as they stand in the list.

    Args:
        columns: of F frames.
        candidates: D detections.
        own: those of the class, ascending.
        bins: their bins in the class.
        rows: bins of the score rows of the class.
        elsewhere: of the class, by bin.
    """
    at_level = bins % 2 == 1
    chosen, level = own[at_level], bins[at_level]
    order = np.argsort(-level, kind="stable")
    chosen, level = chosen[order], level[order]
    before = np.zeros(len(chosen), np.int64)
    # Of other detections only those matter that share a level; of most levels there are none.
    shared = elsewhere > 0
    shared[::2] = False
    if shared.any():
        tied = np.flatnonzero(shared[rows])
        boxes, place = columns.scores.boxes_of_rows(int(candidates.class_id[own[0]]), tied)
        marks = np.zeros(len(columns.boxes), np.bool_)
        marks[candidates.box[own]] = True
        others, stride = ~marks[boxes], len(columns.boxes)
        keys = np.sort(rows[tied][place[others]] * stride + boxes[others])
        start = level * stride
        before = np.searchsorted(keys, start + candidates.box[chosen]) - np.searchsorted(keys, start)
    return Order(chosen, (len(elsewhere) - 2 - level) // 2, before)


def _full_order(
    columns: Columns, candidates: Candidates, own: Ints, bins: Ints, ties: Ties, elsewhere: Ints
) -> Order:
    """Order the candidates of a class, after sorting all its detections; see `_list_order`."""
    detections = columns.scores.of_class(int(candidates.class_id[own[0]]))
    order = class_order(detections, columns.frame[detections.boxes], ties)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    ranks = rank[np.searchsorted(detections.boxes, candidates.box[own])]
    best = np.argsort(ranks)
    above = (elsewhere.sum() - np.cumsum(elsewhere))[bins[best]]
    before = ranks[best] - np.arange(len(best)) - above
    at_level = bins[best] % 2 == 1
    return Order(own[best][at_level], len(elsewhere) // 2 - 1 - bins[best][at_level] // 2, before[at_level])


def places(values: Scores, levels: Scores) -> Ints:
    """Return where values stand among levels: 2 i + 1 at level i, 2 i between levels i - 1 and i.

    Args:
        values: (n,), no NaN.
        levels: (L,) of the same type, strictly ascending.

    Returns:
        (n,) int64 in [0, 2 L].
    """
    if len(levels) < 2 or len(values) < 1 << 12:
        return _search(values, levels)
    # Scores are many and levels few. So the levels' range is cut into cells: a value is searched for only if
    # there are levels in its cell.
    code = _codes(levels)
    low, span = int(code[0]), int(code[-1]) - int(code[0])
    shift = max(0, span.bit_length() - min(16, 6 + len(levels).bit_length()))

    def cells(codes: Ints) -> Ints:
        numbers: Ints = np.clip(((codes - low) >> shift) + 1, 0, (span >> shift) + 2)
        return numbers

    inside = np.bincount(cells(code), minlength=(span >> shift) + 3)
    cell, below = cells(_codes(values)), np.cumsum(inside) - inside
    found: Ints = 2 * below[cell]
    some = np.flatnonzero(inside[cell])
    found[some] = _search(values[some], levels)
    return found


def _search(values: Scores, levels: Scores) -> Ints:
    at = np.searchsorted(levels, values)
    found: Ints = 2 * at + (np.append(levels, np.nan)[at] == values)
    return found


def _codes(scores: Scores) -> Ints:
    """Return integers in the order of scores, equal for some close ones: the bits of float32."""
    with np.errstate(over="ignore"):
        bits = (scores.astype(np.float32) + np.float32(0)).view(np.int32)  # + 0 makes 0 of -0
    # Negative floats are ordered the wrong way round.
    return np.where(bits < 0, bits ^ 0x7FFFFFFF, bits).astype(np.int64)


def by_class(class_ids: Ints, classes: int) -> list[Ints]:
    """Return for each class 0 to C the positions where it stands, ascending."""
    # The smallest type is sorted fastest.
    order = np.argsort(class_ids.astype(np.min_scalar_type(classes)), kind="stable")
    return np.split(order, np.cumsum(np.bincount(class_ids, minlength=classes + 1))[:-1])
