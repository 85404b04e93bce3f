"""Localization without names: CorLoc, DetRate, boxes a frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ovvol_bench.arrays import Bools, Ints
from ovvol_bench.benchmark import MetricValue
from ovvol_bench.metrics.columns import Columns

NAN = float("nan")


@dataclass(frozen=True)
class FrameHits:
    """How many objects are looked for and met in each of F frames.

    Attributes:
        sought: (F,) int64, true objects that are looked for.
        met: (F,) int64, those of them that some box meets.
    """

    sought: Ints
    met: Ints

    @classmethod
    def of(cls, columns: Columns, iou_threshold: float) -> FrameHits:
        """The hits of columns with IoU > ``iou_threshold``."""
        frame, size = columns.truth.frame, len(columns)
        hit = truth_hits(columns, iou_threshold)
        return cls(
            np.bincount(frame[columns.sought], minlength=size), np.bincount(frame[hit], minlength=size)
        )

    def corloc(self) -> MetricValue:
        """See ``corloc``."""
        count = int((self.sought > 0).sum())
        value = int((self.met > 0).sum()) / count if count else NAN
        return MetricValue(value, count, {"frames_without_objects": len(self.sought) - count})

    def detection_rate(self) -> MetricValue:
        """See ``detection_rate``."""
        some, objects = self.sought > 0, int(self.sought.sum())
        shares = self.met[some].astype(np.float32) / self.sought[some].astype(np.float32)
        notes = {"objects": objects, "per_object": int(self.met.sum()) / objects if objects else NAN}
        return MetricValue(float(shares.mean(dtype=np.float64)) if objects else NAN, len(shares), notes)


def corloc(columns: Columns, box: Literal["any", "top1"] = "any", iou_threshold: float = 0.5) -> MetricValue:
    """Share of frames in which a predicted box meets a true one with IoU > ``iou_threshold``.

    Frames without objects are left out; a frame without boxes is a miss. Classes play no part.

    Args:
        columns: of F frames.
        box: ``any`` tries all boxes of a frame, as the reference does (more boxes can only help);
            ``top1`` only the one with the highest foreground score (the first of equals).
        iou_threshold: strictly above it counts.

    Returns:
        The share and the number of frames with objects; NaN if there is none.
    """
    return FrameHits.of(columns if box == "any" else columns.top_boxes(), iou_threshold).corloc()


def detection_rate(columns: Columns, iou_threshold: float = 0.5) -> MetricValue:
    """Mean over frames of the share of true objects that a box meets with IoU > ``iou_threshold``.

    One box may serve several objects. Frames without objects are left out. The share of a frame is
    a float32, as in the reference (1/3 is 0.33333334).

    Returns:
        The mean and the number of frames with objects; NaN if there is none. The note
        ``per_object`` is the share of all objects, which weighs crowded frames more.
    """
    return FrameHits.of(columns, iou_threshold).detection_rate()


def boxes_per_frame(columns: Columns) -> MetricValue:
    """Mean number of boxes in a frame, over all frames; NaN without frames.

    What CorLoc and DetRate must be read with. Absent segments count if the protocol counts them;
    the note ``absent`` says how many segments their frame does not show.
    """
    value = len(columns.boxes) / len(columns) if len(columns) else NAN
    return MetricValue(value, len(columns), {"absent": columns.absent})


def truth_hits(columns: Columns, iou_threshold: float) -> Bools:
    """(M,) bool, the true objects that some box of their frame meets with IoU > ``iou_threshold``."""
    hits: Bools = (columns.best.iou > np.float32(iou_threshold)) & columns.sought
    return hits
