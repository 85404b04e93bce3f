"""Whether a name's probability says how often the name is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Bools, Ints
from ovvol_bench.benchmark import MetricValue
from ovvol_bench.errors import DataError
from ovvol_bench.metrics.columns import Columns
from ovvol_bench.metrics.localization import NAN, truth_hits


def calibration_error(columns: Columns, iou_threshold: float = 0.5, bins: int = 15) -> MetricValue:
    """Expected calibration error of the names of localized objects (Guo et al., arXiv 1706.04599, eq. 3).

    Objects and their names are those of ``naming.naming_accuracy``; a name's confidence is its
    probability. Over bins (i / bins, (i + 1) / bins] of confidence, the first with 0, the error is
    the mean of |share of right names - mean confidence|, weighted by the objects in each bin.

    Args:
        columns: of F frames.
        iou_threshold: strictly above it an object is localized.
        bins: of equal width, at least 1.

    Returns:
        The error in [0, 1] and the number of localized objects; NaN if there is none. Notes: the mean
        ``confidence`` and ``accuracy``, and ``reliability``, one row for each bin that isn't empty.

    Raises:
        DataError: if a confidence is no probability.
    """
    hit = truth_hits(columns, iou_threshold)
    box = columns.best.box[hit]
    named, score = columns.scores.top()
    confidence, right = score[box].astype(np.float64), named[box] == columns.truth.classes[hit]
    wrong = confidence[(confidence < 0) | (confidence > 1 + 1e-6)]
    if len(wrong):
        raise DataError(f"score {wrong[0]:g} is no probability; calibration needs scores between 0 and 1")
    number = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    table = [_reliability(confidence, right, number, each, bins) for each in np.unique(number).tolist()]
    gaps = sum(row["count"] * abs(row["accuracy"] - row["confidence"]) for row in table)
    notes = {"confidence": _mean(confidence), "accuracy": _mean(right), "reliability": table}
    return MetricValue(gaps / len(right) if len(right) else NAN, len(right), notes)


def _reliability(
    confidence: npt.NDArray[np.float64], right: Bools, number: Ints, each: int, bins: int
) -> dict[str, Any]:
    inside = number == each
    return {
        "above": each / bins,
        "to": (each + 1) / bins,
        "count": int(inside.sum()),
        "confidence": _mean(confidence[inside]),
        "accuracy": _mean(right[inside]),
    }


def _mean(values: npt.NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else NAN
