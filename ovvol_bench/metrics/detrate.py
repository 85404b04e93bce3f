"""DetRate: the share of true objects that boxes meet, and the same by size and motion of the objects."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from ovvol_bench.arrays import Bools
from ovvol_bench.metrics.base import ColumnMetric, MetricValue
from ovvol_bench.metrics.columns import Columns

SIZES = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7)
"""Where bins of size begin; an object's size is the root of the share of the frame that its box takes."""


class DetectionRate(ColumnMetric):
    """``detrate``: mean share of a frame's objects that boxes meet."""

    averages = True

    def score(self, columns: Columns) -> Mapping[str, MetricValue]:
        return {self._named("detrate"): detection_rate(columns, self.iou_threshold)}


class DetectionRateBy(ColumnMetric):
    """``detrate_by_size`` and ``detrate_by_motion``: DetRate and CorLoc by size and motion of the objects."""

    def score(self, columns: Columns) -> Mapping[str, MetricValue]:
        values = detection_rate_by(columns, self.iou_threshold)
        return {self._named(name): value for name, value in values.items()}


def detection_rate(columns: Columns, iou_threshold: float = 0.5) -> MetricValue:
    """Return the mean over frames of the share of true objects that a box meets with IoU > ``iou_threshold``.

    One box may serve several objects. Frames without objects are left out.

    Returns:
        The mean and the number of frames with objects; NaN if there is none. The note
        ``per_object`` is the share of all objects, which weighs crowded frames more.
    """
    frame, size = columns.truth.frame, len(columns)
    sought = np.bincount(frame[columns.sought], minlength=size)
    met = np.bincount(frame[columns.hits(iou_threshold)], minlength=size)
    some, objects = sought > 0, int(sought.sum())
    # In float32, as in the reference: 1/3 is 0.33333334.
    shares = met[some].astype(np.float32) / sought[some].astype(np.float32)
    value = float(shares.mean(dtype=np.float64)) if objects else math.nan
    per_object = int(met.sum()) / objects if objects else math.nan
    return MetricValue(value, len(shares), {"objects": objects, "per_object": per_object})


def detection_rate_by(columns: Columns, iou_threshold: float = 0.5) -> dict[str, MetricValue]:
    """Return the share of sought objects that are met, by their size and by their motion.

    Args:
        columns: of F frames; the protocol says which motion ranges there are.
        iou_threshold: strictly above it an object is met.

    Returns:
        ``detrate_by_size`` and ``detrate_by_motion``: mean over bins with objects, each weighing the same,
        and their number; NaN if there is none. Objects of unknown size or motion are in no mean. Note
        ``bins``: of each its ``name``, sought ``objects``, the share of them that is ``met``,
        ``frames`` with such an object, and their ``corloc``, the share in which one of these is met.
    """
    table, motion = columns.truth.table, columns.truth.motion
    size = np.full(len(columns.truth), np.nan) if table is None else table.relative_sizes
    sizes = {f"{low:g} to {high:g}": (size >= low) & (size < high) for low, high in pairwise(SIZES)}
    sizes |= {f"from {SIZES[-1]:g}": size >= SIZES[-1], "unknown": np.isnan(size)}
    motions = {each.name: each.contains(motion) for each in columns.protocol.motion}
    hit = columns.hits(iou_threshold)
    return {
        "detrate_by_size": _mean_over_bins(columns, hit, sizes),
        "detrate_by_motion": _mean_over_bins(columns, hit, {**motions, "unknown": np.isnan(motion)}),
    }


def _mean_over_bins(columns: Columns, hit: Bools, bins: Mapping[str, Bools]) -> MetricValue:
    """Return the mean share of met objects over bins, (M,) bool by name, with a row for each in the notes."""
    rows: list[dict[str, Any]] = []
    for name, inside in bins.items():
        sought, met = columns.sought & inside, hit & inside
        objects = int(np.count_nonzero(sought))
        frames, met_frames = (
            int(np.count_nonzero(np.bincount(columns.truth.frame[some]))) for some in (sought, met)
        )
        share = int(np.count_nonzero(met)) / objects if objects else math.nan
        corloc = met_frames / frames if frames else math.nan
        rows.append({"name": name, "objects": objects, "met": share, "frames": frames, "corloc": corloc})
    shares = [row["met"] for row in rows if row["objects"] and row["name"] != "unknown"]
    return MetricValue(float(np.mean(shares)) if shares else math.nan, len(shares), {"bins": rows})
