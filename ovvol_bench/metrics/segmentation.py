"""How well masks are found: adjusted Rand index, mean best overlap, mean IoU of matched masks.

Functions on contingency tables (see ``contingency``); the definitions are in ``docs/metrics.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ovvol_bench.arrays import Doubles, Ints
from ovvol_bench.metrics.contingency import BACKGROUND, DROPPED, Overlaps


@dataclass(frozen=True)
class ObjectScores:
    """One number for every true object that has a point.

    Attributes:
        sample: (R,) int64, ascending, the table that the object is in.
        value: (R,) float64.
        samples: number of tables S.
    """

    sample: Ints
    value: Doubles
    samples: int

    def by_sample(self) -> Doubles:
        """(S,) mean over the objects of each table, NaN where there are none."""
        objects = np.bincount(self.sample, minlength=self.samples)
        sums = weighted_counts(self.sample, self.value, self.samples)
        means: Doubles = np.where(objects > 0, sums / np.maximum(objects, 1), np.nan)
        return means


def adjusted_rand_index(overlaps: Overlaps) -> Doubles:
    """Agreement of rows and columns as two partitions of the same points, corrected for chance.

    With pairs(n) = n (n - 1), n the points of a cell and A, B, N those of its row, column and table:
    (Σ pairs(n) - E) / ((Σ pairs(A) + Σ pairs(B)) / 2 - E), E = Σ pairs(A) Σ pairs(B) / pairs(N)
    (Hubert and Arabie 1985, equation 5). If both partitions are one part, or both only single points,
    the denominator is 0 and the index 1, as in SAVi's evaluation (arXiv 2111.12594).

    Args:
        overlaps: of S tables; those without background rows give FG-ARI.

    Returns:
        (S,) float64, at most 1, 0 for chance; NaN for tables without points.
    """

    def totals(sample: Ints, points: Ints) -> Doubles:
        return weighted_counts(sample, _pairs(points), overlaps.samples)

    size = weighted_counts(overlaps.sample, overlaps.points, overlaps.samples)
    both = totals(overlaps.sample, overlaps.points)
    rows = totals(overlaps.row_sample, overlaps.row_points)
    columns = totals(overlaps.column_sample, overlaps.column_points)
    # In this order a single column gives exactly the rows' pairs, so that the denominator is exactly 0.
    expected = rows * (columns / np.maximum(_pairs(size), 1))
    excess = (rows + columns) / 2 - expected
    index = np.divide(both - expected, excess, out=np.ones_like(excess), where=excess != 0)
    return np.where(size > 0, index, np.nan)


def best_overlaps(overlaps: Overlaps, background: bool = False) -> ObjectScores:
    """The highest IoU of each true object with any group of its table; several may share one.

    Mean best overlap (Pont-Tuset et al., arXiv 1503.00848, section 6; for slots DINOSAUR, arXiv
    2209.14860, section 4), without the mean.

    Args:
        overlaps: of S tables.
        background: whether the background is an object too.
    """
    cells, iou = _object_cells(overlaps, background)
    value = np.zeros(len(cells.row_sample))
    np.maximum.at(value, cells.row, iou)
    return ObjectScores(cells.row_sample, value, overlaps.samples)


def matched_overlaps(overlaps: Overlaps, background: bool = False) -> ObjectScores:
    """The IoU of each true object with its own group, 0 without one.

    Groups are given to objects one to one so that the sum of the table's IoUs is highest (Hungarian
    matching); groups may be left over.

    Args:
        overlaps: of S tables.
        background: whether the background is an object too.
    """
    cells, iou = _object_cells(overlaps, background)
    starts = np.flatnonzero(np.diff(cells.sample, prepend=-1))
    parts = (slice(start, end) for start, end in pairwise([*starts.tolist(), len(iou)]))
    values = [_matched(cells.row[part], cells.column[part], iou[part]) for part in parts]
    return ObjectScores(cells.row_sample, np.concatenate([np.zeros(0), *values]), overlaps.samples)


def matched_by_frame(frames: Overlaps, samples: Ints, background: bool = False) -> Doubles:
    """The IoU of each true object of each sample with its own group, as a mean over frames.

    The IoU of an object and a group is taken in each frame that shows either, and averaged over these; on
    these means groups are given to a sample's objects one to one (Hungarian matching), an object that gets
    none has 0 (SOLV's evaluation, arXiv 2310.06907).

    Args:
        frames: of F tables, one a frame; rows and columns have the same numbers in all of a sample.
        samples: (F,) the sample of each frame.
        background: whether the background is an object too.

    Returns:
        (R,) float64, sample by sample.
    """
    frames, values = frames.summed(), [np.zeros(0)]
    iou = _iou(frames)
    sample = samples[frames.sample]
    order = np.argsort(sample, kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(sample[order])) + 1) if len(order) else ():
        rows, row = np.unique(frames.truth[part], return_inverse=True)
        columns, column = np.unique(frames.group[part], return_inverse=True)
        steps, step = np.unique(frames.sample[part], return_inverse=True)
        shown, seen = np.zeros((len(rows), len(steps))), np.zeros((len(columns), len(steps)))
        shown[row, step] = seen[column, step] = 1
        means = np.zeros((len(rows), len(columns)))
        np.add.at(means, (row, column), iou[part])
        means /= shown.sum(axis=1)[:, None] + seen.sum(axis=1) - shown @ seen.T
        objects = means[(rows > BACKGROUND) | background]
        values.append(_best_one_to_one(objects))
    return np.concatenate(values)


def _matched(row: Ints, column: Ints, iou: Doubles) -> Doubles:
    """IoU of every row of one table with the column that it gets."""
    table = np.zeros((np.ptp(row) + 1, np.ptp(column) + 1))
    table[row - row.min(), column - column.min()] = iou
    return _best_one_to_one(table)


def _best_one_to_one(table: Doubles) -> Doubles:
    """(R,) the value of every row of (R, C) with the column that it gets, 0 without one."""
    from scipy.optimize import linear_sum_assignment

    values = np.zeros(len(table))
    rows, columns = linear_sum_assignment(table, maximize=True)
    values[rows] = table[rows, columns]
    return values


def _object_cells(overlaps: Overlaps, background: bool) -> tuple[Overlaps, Doubles]:
    """The cells of objects, sorted, and their IoU."""
    overlaps = overlaps.summed()
    objects = (overlaps.truth > BACKGROUND) | background
    return overlaps.keep(objects), _iou(overlaps)[objects]


def _iou(overlaps: Overlaps) -> Doubles:
    """(E,) IoU of each cell's row and column; 0 in the column of what was dropped."""
    union = overlaps.row_points[overlaps.row] + overlaps.column_points[overlaps.column] - overlaps.points
    return np.where(overlaps.group == DROPPED, 0, overlaps.points / np.maximum(union, 1))


def _pairs(points: Ints | Doubles) -> Doubles:
    return np.asarray(points * (points - 1.0), np.float64)


def weighted_counts(numbers: Ints, weights: Ints | Doubles, length: int = 0) -> Doubles:
    """Sum of the weights of every number from 0, at least ``length`` of them."""
    return np.asarray(np.bincount(numbers, weights=weights, minlength=length), np.float64)
