"""Adjusted Rand index: agreement of groups and true objects as partitions of the same points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from ovvol_bench.arrays import Doubles, Ints
from ovvol_bench.metrics.contingency import Overlaps, weighted_counts
from ovvol_bench.metrics.masks import MaskMetric


class AdjustedRand(MaskMetric):
    """``ari_UNIT``: adjusted Rand index over all points."""

    name = "ari"

    def score(self, overlaps: Overlaps) -> Mapping[str, Doubles]:
        return {"ari": np.where(overlaps.with_objects, adjusted_rand_index(overlaps), np.nan)}


class ForegroundAdjustedRand(MaskMetric):
    """``fg_ari_UNIT``: adjusted Rand index over the points of true objects.

    Args:
        empty: whether samples without objects are left out or count as 1, where both partitions are of no
            point (FG-ARI of SAVi, OCL and VideoSAUR).
        base: settings of `MaskMetric`.
    """

    name = "fg_ari"

    def __init__(self, *, empty: Literal["dropped", "one"] = "dropped", **base: Any) -> None:
        self.empty = empty
        super().__init__(**base)

    def score(self, overlaps: Overlaps) -> Mapping[str, Doubles]:
        values = adjusted_rand_index(overlaps.foreground())
        return {"fg_ari": np.nan_to_num(values, nan=1.0) if self.empty == "one" else values}


def adjusted_rand_index(overlaps: Overlaps) -> Doubles:
    """Return the agreement of rows and columns as two partitions of the same points, corrected for chance.

    With pairs(n) = n (n - 1), n the points of a cell and A, B, N those of its row, column and table:
    (Σ pairs(n) - E) / ((Σ pairs(A) + Σ pairs(B)) / 2 - E), E = Σ pairs(A) Σ pairs(B) / pairs(N)
    (Hubert and Arabie 1985, equation 5). If both partitions are one part, or both only single points,
    the denominator is 0 and the index 1, as in SAVi's evaluation (arXiv 2111.12594).

    Args:
        overlaps: of S tables; those without background rows give FG-ARI.

    Returns:
        (S,) float64, at most 1, 0 for chance; NaN for tables without points.
    """

    def pairs(points: Ints | Doubles) -> Doubles:
        return np.asarray(points * (points - 1.0), np.float64)

    def totals(sample: Ints, points: Ints) -> Doubles:
        return weighted_counts(sample, pairs(points), overlaps.samples)

    size = weighted_counts(overlaps.sample, overlaps.points, overlaps.samples)
    both = totals(overlaps.sample, overlaps.points)
    rows = totals(overlaps.row_sample, overlaps.row_points)
    columns = totals(overlaps.column_sample, overlaps.column_points)
    # In this order a single column gives exactly the rows' pairs, so that the denominator is exactly 0.
    expected = rows * (columns / np.maximum(pairs(size), 1))
    excess = (rows + columns) / 2 - expected
    index = np.divide(both - expected, excess, out=np.ones_like(excess), where=excess != 0)
    return np.where(size > 0, index, np.nan)
