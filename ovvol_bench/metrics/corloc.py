"""CorLoc, and what to read it with: boxes a frame, and how closely the best of them fit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from ovvol_bench.metrics.base import ColumnMetric, MetricValue
from ovvol_bench.metrics.columns import Columns
from ovvol_bench.metrics.protocols import ProtocolName


class CorLoc(ColumnMetric):
    """``corloc_any`` or ``corloc_top1``: share of frames in which a box meets an object.

    Args:
        box: ``any`` box of a frame may meet an object, or its best-scoring one (``top1``) only.
        base: settings of `ColumnMetric`.
    """

    averages = True

    def __init__(self, *, box: Literal["any", "top1"] = "any", **base: Any) -> None:
        super().__init__(**base)
        self.box = box

    def score(self, columns: Columns) -> Mapping[str, MetricValue]:
        return {self._named(f"corloc_{self.box}"): corloc(columns, self.box, self.iou_threshold)}


class BoxesPerFrame(ColumnMetric):
    """``boxes_per_frame``: mean number of boxes a frame. Fewer are better at equal CorLoc.

    Args:
        protocol: whether segments that their frame doesn't show count.
    """

    averages = True
    needs_truth = False
    higher_is_better = False

    def __init__(self, *, protocol: ProtocolName = "vid-reference") -> None:
        super().__init__(protocol=protocol)

    def score(self, columns: Columns) -> Mapping[str, MetricValue]:
        return {"boxes_per_frame": boxes_per_frame(columns)}


class BestOverlapOfBoxes(ColumnMetric):
    """``box_abo``: average best overlap of boxes.

    Args:
        protocol: conventions of comparison.
    """

    averages = True

    def __init__(self, *, protocol: ProtocolName = "vid-reference") -> None:
        super().__init__(protocol=protocol)

    def score(self, columns: Columns) -> Mapping[str, MetricValue]:
        return {"box_abo": average_best_overlap(columns)}


def corloc(columns: Columns, box: Literal["any", "top1"] = "any", iou_threshold: float = 0.5) -> MetricValue:
    """Return the share of frames in which a predicted box meets a true one with IoU > ``iou_threshold``.

    Frames without objects are left out; a frame without boxes is a miss. Classes play no part.

    Args:
        columns: of F frames.
        box: ``any`` tries all boxes of a frame, as the reference does (more boxes can only help);
            ``top1`` only the one with the highest foreground score (the first of equals).
        iou_threshold: strictly above it counts.

    Returns:
        The share and the number of frames with objects; NaN if there is none.
    """
    columns = columns if box == "any" else columns.top_boxes()
    frame = columns.truth.frame
    with_objects, with_hits = (
        int(np.count_nonzero(np.bincount(frame[some])))
        for some in (columns.sought, columns.hits(iou_threshold))
    )
    value = with_hits / with_objects if with_objects else math.nan
    return MetricValue(value, with_objects, {"frames_without_objects": len(columns) - with_objects})


def boxes_per_frame(columns: Columns) -> MetricValue:
    """Return the mean number of boxes in a frame, over all frames; NaN without frames.

    CorLoc and DetRate must be read with it. Absent segments count if the protocol counts them;
    the note ``absent`` says how many segments their frame does not show.
    """
    value = len(columns.boxes) / len(columns) if len(columns) else math.nan
    return MetricValue(value, len(columns), {"absent": columns.absent})


def average_best_overlap(columns: Columns) -> MetricValue:
    """Return the mean over true objects of the highest IoU with any box of their frame, 0 without one.

    CorLoc and DetRate cut it at a threshold. Classes play no part, and one box may serve several
    objects, so more boxes can only help (Uijlings et al., IJCV 2013, without the mean over classes).

    Returns:
        The mean in [0, 1] and the number of objects; NaN if there is none.
    """
    overlaps = columns.best.iou[columns.sought].astype(np.float64)
    return MetricValue(float(overlaps.mean()) if len(overlaps) else math.nan, len(overlaps), {})
