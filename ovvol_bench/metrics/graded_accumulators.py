"""The built-in metrics of degree, where others count hits: how closely boxes fit, how honest names are."""

from __future__ import annotations

from collections.abc import Mapping

from ovvol_bench.benchmark import MetricValue
from ovvol_bench.errors import SettingError
from ovvol_bench.metrics.bases import ColumnMetric
from ovvol_bench.metrics.best_overlap import average_best_overlap
from ovvol_bench.metrics.calibration import calibration_error
from ovvol_bench.metrics.columns import Columns


class BestOverlapOfBoxes(ColumnMetric):
    """``box_abo``; see ``best_overlap.average_best_overlap``."""

    averages = True

    def __init__(self, protocol: str) -> None:
        super().__init__(protocol)

    def score(self, columns: Columns) -> Mapping[str, MetricValue]:
        """Average best overlap on columns."""
        return {"box_abo": average_best_overlap(columns)}


class CalibrationError(ColumnMetric):
    """``naming_ece``; see ``calibration.calibration_error``."""

    higher_is_better = False
    needs = frozenset({"classes", "probabilities"})

    def __init__(self, protocol: str, iou_threshold: float = 0.5, bins: int = 15) -> None:
        super().__init__(protocol, iou_threshold)
        if bins < 1:
            raise SettingError(f"bins is {bins}; expected at least 1")
        self.bins = bins

    def score(self, columns: Columns) -> Mapping[str, MetricValue]:
        """Expected calibration error on columns."""
        value = calibration_error(columns, self.iou_threshold, self.bins)
        return {self._named("naming_ece"): value}
