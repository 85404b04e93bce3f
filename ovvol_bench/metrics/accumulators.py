"""The built-in metrics of boxes: accumulators of clips around the pure functions of this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ovvol_bench.benchmark import MetricValue
from ovvol_bench.errors import SettingError
from ovvol_bench.metrics.average_precision import SWEEP, ClassPrecision, name_values, object_ranges, vid_ap
from ovvol_bench.metrics.bases import ColumnMetric
from ovvol_bench.metrics.columns import Columns
from ovvol_bench.metrics.localization import boxes_per_frame, corloc, detection_rate
from ovvol_bench.metrics.naming import naming_accuracy
from ovvol_bench.metrics.ranking import Ties
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
    """Which values of AP are computed, beside that of all objects at one threshold.

    Attributes:
        motion: those of the protocol's motion ranges.
        sizes: those of COCO's ranges of size.
        sweep: the means over the thresholds .5 to .95.
        class_agnostic: as if there were one class.
    """

    motion: bool = True
    sizes: bool = False
    sweep: bool = False
    class_agnostic: bool = False


class VidAP(ColumnMetric):
    """``ap50`` (by the threshold), ``ap50_fast`` and so on; see ``average_precision.vid_ap``."""

    def __init__(
        self,
        protocol: str,
        iou_threshold: float = 0.5,
        ties: Ties = "group",
        held_out: Sequence[int] = (),
        extent: Extent | None = None,
    ) -> None:
        super().__init__(protocol, iou_threshold)
        self.ties = ties
        self.held_out = tuple(held_out)
        self.extent = extent or Extent()
        self.needs = frozenset() if self.extent.class_agnostic else frozenset({"classes"})
        self._ranges = object_ranges(self._conventions, self.extent.motion, self.extent.sizes)

    def score(self, columns: Columns) -> Mapping[str, MetricValue]:
        """Average precision on columns."""
        settings = (self.iou_threshold, self.ties, self._ranges, self.held_out, self.extent.sweep)
        return self._marked(vid_ap(self._view(columns), *settings))

    def stream(self) -> PrecisionStream:
        """Average precision piece by piece; equal scores can't have an order then."""
        if self.ties != "group":
            raise SettingError(
                f"ties={self.ties} can't be computed piece by piece; read all predictions at once, or set "
                "ties=group"
            )
        thresholds = [self.iou_threshold, *(SWEEP if self.extent.sweep else ())]

        def conclude(results: Mapping[str, Sequence[ClassPrecision]]) -> Mapping[str, MetricValue]:
            return self._marked(name_values(results, self.iou_threshold, self.held_out))

        return PrecisionStream(self._ranges, thresholds, self._view, conclude)

    def _view(self, columns: Columns) -> Columns:
        return columns.nameless() if self.extent.class_agnostic else columns

    def _marked(self, values: Mapping[str, MetricValue]) -> Mapping[str, MetricValue]:
        suffix = "_agnostic" if self.extent.class_agnostic else ""
        return {f"{name}{suffix}": value for name, value in values.items()}


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
