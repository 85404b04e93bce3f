"""Which numbers of a column are printed bold or underlined: only those that other videos would confirm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from ovvol_bench.results.columns import NumberColumn
from ovvol_bench.results.rows import Row
from ovvol_bench.results.statistics import LEAST_VIDEOS, Sample, difference

Honour = Literal["best", "second", ""]


def honours(column: NumberColumn, rows: Sequence[Row]) -> list[Honour]:
    """The best row, if it is better than each other beyond the 95% interval of their paired difference.

    The second is honoured likewise over all rows below it. Rows that leave out clips have no part. Where a
    row isn't known by video, or there are fewer than ten videos, nothing is known and nobody honoured.

    Returns:
        One word a row, in their order.
    """
    given: list[Honour] = [""] * len(rows)
    samples = [(place, column.sample(row)) for place, row in enumerate(rows) if not row.coverage < 1]
    known = [(place, sample) for place, sample in samples if sample is not None]
    if len(known) < 2 or len(known) < len(samples) or len(known[0][1].videos) < LEAST_VIDEOS:
        return given
    sign = 1 if column.higher_is_better else -1
    ranked = sorted(known, key=lambda each: -sign * _or_last(each[1].value, sign))
    if _beats_all(ranked[0][1], [sample for _, sample in ranked[1:]], sign):
        given[ranked[0][0]] = "best"
        if len(ranked) > 2 and _beats_all(ranked[1][1], [sample for _, sample in ranked[2:]], sign):
            given[ranked[1][0]] = "second"
    return given


def _or_last(value: float, sign: int) -> float:
    return -sign * math.inf if math.isnan(value) else value


def _beats_all(sample: Sample, others: Sequence[Sample], sign: int) -> bool:
    return all(sample.videos == other.videos and _beats(sample, other, sign) for other in others)


def _beats(sample: Sample, other: Sample, sign: int) -> bool:
    if math.isnan(other.value):
        return not math.isnan(sample.value)
    found = difference(sample, other).interval
    return (found.low if sign > 0 else -found.high) > 0
