"""The built-in metrics of boxes: accumulators of clips around the pure functions of this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ovvol_bench.benchmark import MetricValue
from ovvol_bench.detections import Labels
from ovvol_bench.errors import SettingError
from ovvol_bench.metrics.average_precision import (
    SWEEP,
    ClassPrecision,
    name_values,
    object_ranges,
    precision_by_threshold,
)
from ovvol_bench.metrics.bases import ColumnMetric
from ovvol_bench.metrics.columns import Columns
from ovvol_bench.metrics.localization import boxes_per_frame, corloc, detection_rate
from ovvol_bench.metrics.naming import naming_accuracy
from ovvol_bench.metrics.ranking import Ties, eleven_point_area, precision_area
from ovvol_bench.metrics.streams import HitStream, PrecisionStream, Stream


class CorLoc(ColumnMetric):
    """``corloc_any`` or ``corloc_top1``; see ``localization.corloc``."""

    averages = True

    def __init__(
        self, protocol: str, box: Literal["any", "top1"] = "any", iou_threshold: float = 0.5
    ) -> None:
        super().__init__(protocol, iou_threshold)
        self.box = box

    def score(self, columns: Columns) -> Mapping[str, MetricValue]:
        """CorLoc on columns."""
        return {self._named(f"corloc_{self.box}"): corloc(columns, self.box, self.iou_threshold)}

    def stream(self) -> Stream:
        """CorLoc piece by piece."""
        name = self._named(f"corloc_{self.box}")
        return HitStream(
            lambda columns: columns if self.box == "any" else columns.top_boxes(),
            self.iou_threshold,
            lambda hits: {name: hits.corloc()},
        )


class DetectionRate(ColumnMetric):
    """``detrate``; see ``localization.detection_rate``."""

    averages = True

    def score(self, columns: Columns) -> Mapping[str, MetricValue]:
        """DetRate on columns."""
        return {self._named("detrate"): detection_rate(columns, self.iou_threshold)}

    def stream(self) -> Stream:
        """DetRate piece by piece."""
        name = self._named("detrate")
        return HitStream(
            lambda columns: columns, self.iou_threshold, lambda hits: {name: hits.detection_rate()}
        )


@dataclass(frozen=True)
class Extent:
    """What AP is taken of, and which values beside that of all objects at one threshold.

    Attributes:
        motion: those of the protocol's motion ranges.
        sizes: those of COCO's ranges of size.
        sweep: the means over the thresholds .5 to .95.
        class_agnostic: as if there were one class.
        labels: a box is detected as every class, or (``top1``) as its most probable one only, which is the
            background for some: the published program's ``--duplicate_box False``.
        eleven_points: the mean of eleven precisions (VOC 2007) in place of the area under all points.
    """

    motion: bool = True
    sizes: bool = False
    sweep: bool = False
    class_agnostic: bool = False
    labels: Labels = "all"
    eleven_points: bool = False

    def __post_init__(self) -> None:
        if self.class_agnostic and self.labels == "top1":
            raise SettingError(
                "class_agnostic counts every box once, under its best score; labels=top1 adds nothing. "
                "Choose one of them"
            )

    @property
    def suffix(self) -> str:
        """What tells the names of these values from those of all classes and points."""
        marks = {
            "_agnostic": self.class_agnostic,
            "_top1": self.labels == "top1",
            "_voc07": self.eleven_points,
        }
        return "".join(mark for mark, holds in marks.items() if holds)


class VidAP(ColumnMetric):
    """``ap50`` (by the threshold), ``ap50_fast`` and so on; see ``average_precision.name_values``."""

    def __init__(
        self,
        protocol: str,
        iou_threshold: float = 0.5,
        ties: Ties = "earlier",
        held_out: Sequence[int] = (),
        extent: Extent | None = None,
    ) -> None:
        super().__init__(protocol, iou_threshold)
        self.ties = ties
        self.held_out = tuple(held_out)
        self.extent = extent or Extent()
        self.needs = frozenset() if self.extent.class_agnostic else frozenset({"classes"})
        self._ranges = object_ranges(self._conventions, self.extent.motion, self.extent.sizes)
        self._thresholds = (iou_threshold, *(SWEEP if self.extent.sweep else ()))
        self._area = eleven_point_area if self.extent.eleven_points else precision_area

    def score(self, columns: Columns) -> Mapping[str, MetricValue]:
        """Average precision on columns."""
        ranges = list(self._ranges.values())
        results = precision_by_threshold(self._view(columns), self._thresholds, self.ties, ranges, self._area)
        return self._conclude(dict(zip(self._ranges, results, strict=True)))

    def grouped(self) -> VidAP:
        """The same metric with grouped ties."""
        return VidAP(self.protocol, self.iou_threshold, "group", self.held_out, self.extent)

    def stream(self) -> PrecisionStream:
        """Average precision piece by piece; equal scores can't have an order then."""
        if self.ties != "group":
            raise SettingError(
                f"ties={self.ties} can't be computed piece by piece; read all predictions at once, or set "
                "ties=group"
            )
        return PrecisionStream(self._ranges, self._thresholds, self._view, self._conclude, self._area)

    def _view(self, columns: Columns) -> Columns:
        if self.extent.class_agnostic:
            return columns.nameless()
        return columns.named_once() if self.extent.labels == "top1" else columns

    def _conclude(self, results: Mapping[str, Sequence[ClassPrecision]]) -> Mapping[str, MetricValue]:
        values = name_values(results, self.iou_threshold, self.held_out)
        return {f"{name}{self.extent.suffix}": value for name, value in values.items()}


class BoxesPerFrame(ColumnMetric):
    """``boxes_per_frame``; see ``localization.boxes_per_frame``. Fewer are better at equal CorLoc."""

    averages = True
    needs_truth = False
    higher_is_better = False

    def __init__(self, protocol: str) -> None:
        super().__init__(protocol)

    def score(self, columns: Columns) -> Mapping[str, MetricValue]:
        """Mean number of boxes on columns."""
        return {"boxes_per_frame": boxes_per_frame(columns)}


class NamingAccuracy(ColumnMetric):
    """``naming_accuracy``; see ``naming.naming_accuracy``."""

    averages = True
    needs = frozenset({"classes"})

    def __init__(self, protocol: str, iou_threshold: float = 0.5, held_out: Sequence[int] = ()) -> None:
        super().__init__(protocol, iou_threshold)
        self.held_out = tuple(held_out)

    def score(self, columns: Columns) -> Mapping[str, MetricValue]:
        """Share of right names on columns."""
        value = naming_accuracy(columns, self.iou_threshold, self.held_out)
        return {self._named("naming_accuracy"): value}
