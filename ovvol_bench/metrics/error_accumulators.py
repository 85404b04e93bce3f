"""The built-in metrics that look behind a number: error causes, confusion, curves, sizes and speeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ovvol_bench.benchmark import MetricValue
from ovvol_bench.metrics.bases import ColumnMetric
from ovvol_bench.metrics.breakdown import detection_rate_by
from ovvol_bench.metrics.causes import Rules
from ovvol_bench.metrics.columns import Columns
from ovvol_bench.metrics.confusion import confusion
from ovvol_bench.metrics.curves import precision_curves
from ovvol_bench.metrics.errors import error_causes


class Errors(ColumnMetric):
    """``right_objects`` and ``right_boxes``; see ``errors.error_causes``."""

    needs = frozenset({"classes"})

    def __init__(
        self,
        protocol: str,
        iou_threshold: float = 0.5,
        touch: float = 0.1,
        most: float = 0.5,
        gains: bool = True,
        class_names: Sequence[str] = (),
    ) -> None:
        super().__init__(protocol, iou_threshold)
        self.rules = Rules(iou_threshold, touch, most)
        self.gains = gains
        self.class_names = tuple(class_names)

    def score(self, columns: Columns) -> Mapping[str, MetricValue]:
        """Error causes on columns."""
        values = error_causes(columns, self.rules, self.gains, self.class_names)
        return {self._named(name): value for name, value in values.items()}


class Confusion(ColumnMetric):
    """``naming_balanced``; see ``confusion.confusion``."""

    needs = frozenset({"classes"})

    def __init__(
        self,
        protocol: str,
        iou_threshold: float = 0.5,
        held_out: Sequence[int] = (),
        class_names: Sequence[str] = (),
    ) -> None:
        super().__init__(protocol, iou_threshold)
        self.held_out, self.class_names = tuple(held_out), tuple(class_names)

    def score(self, columns: Columns) -> Mapping[str, MetricValue]:
        """The confusion matrix of columns."""
        value = confusion(columns, self.iou_threshold, self.held_out, self.class_names)
        return {self._named("naming_balanced"): value}


class PrecisionCurves(ColumnMetric):
    """``pr_curves``; see ``curves.precision_curves``."""

    needs = frozenset({"classes"})

    def __init__(self, protocol: str, iou_threshold: float = 0.5, class_names: Sequence[str] = ()) -> None:
        super().__init__(protocol, iou_threshold)
        self.class_names = tuple(class_names)

    def score(self, columns: Columns) -> Mapping[str, MetricValue]:
        """Precision-recall curves of columns."""
        return {self._named("pr_curves"): precision_curves(columns, self.iou_threshold, self.class_names)}


class DetectionRateBy(ColumnMetric):
    """``detrate_by_size`` and ``detrate_by_motion``; see ``breakdown.detection_rate_by``."""

    def score(self, columns: Columns) -> Mapping[str, MetricValue]:
        """DetRate of columns by size and motion."""
        values = detection_rate_by(columns, self.iou_threshold)
        return {self._named(name): value for name, value in values.items()}
