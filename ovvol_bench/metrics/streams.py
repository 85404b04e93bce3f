"""Metrics of predictions that come piece by piece: what is kept of a piece is small.

CorLoc and DetRate keep two counts a frame. Average precision keeps sums by score, and must know the
scores that can find something before it can sum: so all pieces pass twice.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ovvol_bench.arrays import Doubles, Ints
from ovvol_bench.benchmark import MetricValue
from ovvol_bench.errors import DataError
from ovvol_bench.metrics.average_precision import (
    ClassPrecision,
    Ranking,
    Sought,
    elsewhere_weight,
    outcomes_of,
)
from ovvol_bench.metrics.columns import Columns
from ovvol_bench.metrics.localization import FrameHits
from ovvol_bench.metrics.matching import find_candidates, queue_up
from ovvol_bench.metrics.protocols import ObjectRange, Protocol
from ovvol_bench.metrics.ranking import Area, precision_area
from ovvol_bench.metrics.steps import Steps

Values = Mapping[str, MetricValue]


class Stream(ABC):
    """Computes one metric from columns that pass twice, piece by piece, in any order."""

    def survey(self, columns: Columns) -> None:  # noqa: B027 - few metrics need the first passage
        """Take a piece in the first passage."""

    @abstractmethod
    def add(self, columns: Columns) -> None:
        """Take a piece in the second passage."""

    @abstractmethod
    def result(self) -> Values:
        """The numbers over all pieces."""


class HitStream(Stream):
    """A metric of the objects that are met in each frame."""

    def __init__(
        self,
        view: Callable[[Columns], Columns],
        iou_threshold: float,
        conclude: Callable[[FrameHits], Values],
    ) -> None:
        self._view, self._threshold, self._conclude = view, iou_threshold, conclude
        nothing = np.zeros(0, np.int64)
        self._pieces = [FrameHits(nothing, nothing)]

    def add(self, columns: Columns) -> None:
        """Count the hits of a piece."""
        self._pieces.append(FrameHits.of(self._view(columns), self._threshold))

    def result(self) -> Values:
        """The metric over the frames of all pieces."""
        sought = np.concatenate([each.sought for each in self._pieces])
        return self._conclude(FrameHits(sought, np.concatenate([each.met for each in self._pieces])))


class PrecisionStream(Stream):
    """Average precision of all objects and of ranges of them, at some thresholds."""

    def __init__(
        self,
        ranges: Mapping[str, ObjectRange | None],
        thresholds: Sequence[float],
        view: Callable[[Columns], Columns],
        conclude: Callable[[Mapping[str, Sequence[ClassPrecision]]], Values],
        area: Area = precision_area,
    ) -> None:
        self._area = area
        self._ranges, self._thresholds, self._conclude = ranges, thresholds, conclude
        self._view = view
        self._steps = Steps(())
        self._total: _Sums | None = None

    def survey(self, columns: Columns) -> None:
        """Collect the scores that can find something."""
        columns = self._view(columns)
        candidates = find_candidates(columns)
        near = candidates.best >= np.float32(min(self._thresholds))
        steps = Steps.of(candidates.class_id[near], candidates.score[near], columns.scores.classes)
        known = self._steps.levels
        if known and len(known) != len(steps.levels):
            raise DataError(
                f"predictions over different vocabularies: {len(known) - 1} and {len(steps.levels) - 1} "
                "foreground classes; expected one"
            )
        self._steps = self._steps.joined(steps) if known else steps

    def add(self, columns: Columns) -> None:
        """Add what became of the detections of a piece."""
        elsewhere, ranges = self._piece(self._view(columns))
        if self._total is None:
            self._total = _Sums(elsewhere, dict(ranges))
        else:
            self._total.add(elsewhere, ranges)

    def result(self) -> Values:
        """Average precision over all pieces; undefined without any."""
        if self._total is not None:
            return self._conclude(self._total.precision(self._steps, self._area))
        nothing = np.full(1, np.nan)
        undefined = ClassPrecision(nothing, nothing, nothing, np.zeros(1, np.int64))
        return self._conclude({name: [undefined] * len(self._thresholds) for name in self._ranges})

    def without(self, columns: Columns) -> Values:
        """Average precision over all pieces but one, which was added before."""
        assert self._total is not None
        elsewhere, ranges = self._piece(self._view(columns))
        rest = self._total.minus(_Sums(elsewhere, dict(ranges)))
        return self._conclude(rest.precision(self._steps, self._area))

    def _piece(self, columns: Columns) -> tuple[Ints, Iterator[tuple[str, _RangeSums]]]:
        """Detections that are no candidates, by bin, and the sums of each range when it is asked for."""
        candidates = find_candidates(columns)
        queue = queue_up(columns, candidates, min(self._thresholds), "group")
        ranking = Ranking.of(columns, candidates, self._steps, "group")

        def sums_of(chosen: ObjectRange | None) -> _RangeSums:
            sought = Sought.of(columns, chosen)
            outcomes = outcomes_of(columns.protocol, candidates, queue, sought, self._thresholds)
            sums = np.stack([ranking.sums(outcome) for outcome in outcomes])
            return _RangeSums(sums, sought.objects, sought.inside, len(columns.truth), columns.protocol)

        return ranking.elsewhere, ((name, sums_of(chosen)) for name, chosen in self._ranges.items())


@dataclass(frozen=True)
class _Sums:
    """What became of the detections of some pieces.

    Attributes:
        elsewhere: (K,) int64, detections of each bin that are no candidates.
        ranges: the candidates, by the suffix of each range.
    """

    elsewhere: Ints
    ranges: dict[str, _RangeSums]

    def add(self, elsewhere: Ints, ranges: Iterable[tuple[str, _RangeSums]]) -> None:
        """Add a piece in place: of many bins, thresholds and ranges these arrays are most of the memory."""
        np.add(self.elsewhere, elsewhere, out=self.elsewhere)
        for name, piece in ranges:
            self.ranges[name] = self.ranges[name].plus(piece, 1, self.ranges[name].sums)

    def minus(self, other: _Sums) -> _Sums:
        """These sums without others."""
        ranges = {name: each.plus(other.ranges[name], -1) for name, each in self.ranges.items()}
        return _Sums(self.elsewhere - other.elsewhere, ranges)

    def precision(self, steps: Steps, area: Area) -> dict[str, list[ClassPrecision]]:
        """Average precision of every range at each threshold."""
        return {name: each.precision(steps, self.elsewhere, area) for name, each in self.ranges.items()}


@dataclass(frozen=True)
class _RangeSums:
    """What became of the detections of some pieces, for one range and T thresholds.

    Attributes:
        sums: (T, 2, K) true positives and weights of false positives of candidates, by bin.
        objects: (C + 1,) int64, objects to be found of each class.
        inside: objects in the range, ignored ones included.
        total: objects.
        protocol: of the pieces.
    """

    sums: Doubles
    objects: Ints
    inside: int
    total: int
    protocol: Protocol

    def plus(self, other: _RangeSums, times: int, out: Doubles | None = None) -> _RangeSums:
        """These sums and, once or -1 times, others; ``out`` is the array for ``sums``, None a new one."""
        combine = np.add if times > 0 else np.subtract
        return _RangeSums(
            combine(self.sums, other.sums, out=out),
            self.objects + times * other.objects,
            self.inside + times * other.inside,
            self.total + times * other.total,
            self.protocol,
        )

    def precision(self, steps: Steps, elsewhere: Ints, area: Area) -> list[ClassPrecision]:
        """Average precision at each threshold, with (K,) detections that are no candidates."""
        rest = elsewhere * elsewhere_weight(self.protocol, self.inside, self.total)
        areas = [steps.areas(hits, misses + rest, self.objects, area) for hits, misses in self.sums]
        return [ClassPrecision(lowest, lowest, highest, self.objects) for lowest, highest in areas]
