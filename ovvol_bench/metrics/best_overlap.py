"""How closely boxes fit, without a threshold."""

from __future__ import annotations

import numpy as np

from ovvol_bench.benchmark import MetricValue
from ovvol_bench.metrics.columns import Columns
from ovvol_bench.metrics.localization import NAN


def average_best_overlap(columns: Columns) -> MetricValue:
    """Mean over true objects of the highest IoU with any box of their frame, 0 without one.

    What CorLoc and DetRate cut at a threshold; classes play no part, and one box may serve several
    objects, so more boxes can only help (Uijlings et al., IJCV 2013, without the mean over classes).

    Returns:
        The mean in [0, 1] and the number of objects; NaN if there is none.
    """
    overlaps = columns.best.iou[columns.sought].astype(np.float64)
    return MetricValue(float(overlaps.mean()) if len(overlaps) else NAN, len(overlaps), {})
