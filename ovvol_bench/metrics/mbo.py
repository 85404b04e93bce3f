"""Overlap of true masks with groups: mean best overlap, and mean IoU of groups matched one to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from ovvol_bench.arrays import Doubles, Ints
from ovvol_bench.errors import SettingError
from ovvol_bench.metrics.contingency import BACKGROUND, DROPPED, ClipTable, Overlaps
from ovvol_bench.metrics.masks import MaskMetric, join, samples_of_clips


class MeanBestOverlap(MaskMetric):
    """``mbo_instance_UNIT`` or ``mbo_class_UNIT``: mean best overlap of true objects.

    Args:
        of: instances, or all objects of a class as one.
        background: whether points that no object covers are one more object to find
            (object_centric_bench's mBO without ``skip``).
        base: settings of `MaskMetric`.
    """

    name = "mbo"

    def __init__(
        self,
        *,
        of: Literal["instance", "class"] = "instance",
        background: Literal["ignored", "object"] = "ignored",
        **base: Any,
    ) -> None:
        self.of, self.background = of, background
        self.identity = "class" if of == "class" else "track"
        super().__init__(**base)

    def score(self, overlaps: Overlaps) -> Mapping[str, Doubles]:
        return {f"mbo_{self.of}": best_overlaps(overlaps, self.background == "object")}


class MatchedIoU(MaskMetric):
    """``miou_UNIT``: mean IoU of true masks under Hungarian matching.

    Args:
        background: whether points that no object covers are one more object to find
            (object_centric_bench's mIoU without ``skip``).
        iou: of a sample's frames as one ``volume``, or the mean over the ``frames`` in which object or group
            show, and over all objects of all samples at once (SOLV); groups are given to objects once a
            sample either way.
        base: settings of `MaskMetric`.
    """

    name = "miou"

    def __init__(
        self,
        *,
        background: Literal["ignored", "object"] = "ignored",
        iou: Literal["volume", "frames"] = "volume",
        **base: Any,
    ) -> None:
        self.background, self.iou = background, iou
        super().__init__(**base)
        if iou == "frames" and self.unit == "image":
            raise SettingError("iou=frames is of the frames of a clip or video; expected unit=clip or video")

    def score(self, overlaps: Overlaps) -> Mapping[str, Doubles]:
        return {"miou": matched_overlaps(overlaps, self.background == "object")}

    def score_tables(self, tables: Sequence[ClipTable], overlaps: Overlaps) -> Mapping[str, Doubles]:
        if self.iou == "volume":
            return self.score(overlaps)
        _, first = samples_of_clips(tables, self.unit)
        samples = np.repeat(np.array(first, np.int64), [table.overlaps.samples for table in tables])
        return {"miou": matched_by_frame(join(tables, "image"), samples, self.background == "object")}


def best_overlaps(overlaps: Overlaps, background: bool = False) -> Doubles:
    """Return the mean over true objects of the highest IoU with any group; several may share one.

    Mean best overlap (Pont-Tuset et al., arXiv 1503.00848, section 6; for slots DINOSAUR, arXiv
    2209.14860, section 4).

    Args:
        overlaps: of S tables.
        background: whether the background is an object too.

    Returns:
        (S,) float64, NaN where there are no objects.
    """
    cells, iou = _object_cells(overlaps, background)
    value = np.zeros(len(cells.row_sample))
    np.maximum.at(value, cells.row, iou)
    return cells.mean_over_rows(value)


def matched_overlaps(overlaps: Overlaps, background: bool = False) -> Doubles:
    """Return the mean over true objects of the IoU with their own group, 0 without one.

    Groups are given to objects one to one so that the sum of the table's IoUs is highest (Hungarian
    matching); groups may be left over.

    Args:
        overlaps: of S tables.
        background: whether the background is an object too.

    Returns:
        (S,) float64, NaN where there are no objects.
    """
    cells, iou = _object_cells(overlaps, background)
    starts = np.flatnonzero(np.diff(cells.sample, prepend=-1)).tolist()
    values = [np.zeros(0)]
    for start, end in pairwise([*starts, len(iou)]):
        row, column = cells.row[start:end], cells.column[start:end]
        table = np.zeros((np.ptp(row) + 1, np.ptp(column) + 1))
        table[row - row.min(), column - column.min()] = iou[start:end]
        values.append(_best_one_to_one(table))
    return cells.mean_over_rows(np.concatenate(values))


def matched_by_frame(frames: Overlaps, samples: Ints, background: bool = False) -> Doubles:
    """Return the IoU of each true object of each sample with its own group, as a mean over frames.

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
        values.append(_best_one_to_one(means[(rows > BACKGROUND) | background]))
    return np.concatenate(values)


def _best_one_to_one(table: Doubles) -> Doubles:
    """(R,) the value of every row of (R, C) with the column that it gets, 0 without one."""
    from scipy.optimize import linear_sum_assignment

    values = np.zeros(len(table))
    rows, columns = linear_sum_assignment(table, maximize=True)
    values[rows] = table[rows, columns]
    return values


def _object_cells(overlaps: Overlaps, background: bool) -> tuple[Overlaps, Doubles]:
    """Return the cells of objects, sorted, and their IoU."""
    overlaps = overlaps.summed()
    objects = (overlaps.truth > BACKGROUND) | background
    return overlaps.keep(objects), _iou(overlaps)[objects]


def _iou(overlaps: Overlaps) -> Doubles:
    """(E,) IoU of each cell's row and column; 0 in the column of points that were dropped."""
    union = overlaps.row_points[overlaps.row] + overlaps.column_points[overlaps.column] - overlaps.points
    return np.where(overlaps.group == DROPPED, 0, overlaps.points / np.maximum(union, 1))
