"""Which objects are met: small or large ones, fast or slow ones."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from ovvol_bench.arrays import Bools
from ovvol_bench.benchmark import MetricValue
from ovvol_bench.metrics.columns import Columns
from ovvol_bench.metrics.localization import NAN, truth_hits

SIZES = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7)
"""Where bins of size begin; an object's size is the root of the share of the frame that its box takes."""


def detection_rate_by(columns: Columns, iou_threshold: float = 0.5) -> dict[str, MetricValue]:
    """The share of sought objects that are met, by their size and by their motion.

    Args:
        columns: of F frames; the protocol says which motion ranges there are.
        iou_threshold: strictly above it an object is met.

    Returns:
        ``detrate_by_size`` and ``detrate_by_motion``: mean over bins with objects, each weighing the same,
        and their number; NaN if there is none. Objects of unknown size or motion are in no mean. Note
        ``bins``: of each its ``name``, sought ``objects``, the share of them that is ``met``,
        ``frames`` with such an object, and their ``corloc``, the share in which one of these is met.
    """
    motion = columns.truth.motion
    ranges = {each.name: each.contains(motion) for each in columns.protocol.motion}
    return {
        "detrate_by_size": _value(columns, iou_threshold, _sizes(columns)),
        "detrate_by_motion": _value(columns, iou_threshold, {**ranges, "unknown": np.isnan(motion)}),
    }


def _sizes(columns: Columns) -> dict[str, Bools]:
    """The objects of each bin of size."""
    table, count = columns.truth.table, len(columns.truth)
    sizes = np.full(count, np.nan) if table is None else table.relative_sizes
    bins = {f"{low:g} to {high:g}": (sizes >= low) & (sizes < high) for low, high in pairwise(SIZES)}
    return {**bins, f"from {SIZES[-1]:g}": sizes >= SIZES[-1], "unknown": np.isnan(sizes)}


def _value(columns: Columns, iou_threshold: float, bins: Mapping[str, Bools]) -> MetricValue:
    hit = truth_hits(columns, iou_threshold)
    rows = [{"name": name, **_bin(columns, hit, inside)} for name, inside in bins.items()]
    shares = [row["met"] for row in rows if row["objects"] and row["name"] != "unknown"]
    return MetricValue(float(np.mean(shares)) if shares else NAN, len(shares), {"bins": rows})


def _bin(columns: Columns, hit: Bools, inside: Bools) -> dict[str, Any]:
    sought, met = columns.sought & inside, hit & inside
    objects, frames = int(sought.sum()), _frames(columns, sought)
    return {
        "objects": objects,
        "met": int(met.sum()) / objects if objects else NAN,
        "frames": frames,
        "corloc": _frames(columns, met) / frames if frames else NAN,
    }


def _frames(columns: Columns, objects: Bools) -> int:
    """The number of frames that some of the objects are in."""
    return int(np.count_nonzero(np.bincount(columns.truth.frame[objects])))
