"""The built-in metrics: accumulators of clips around the pure functions of this package."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from ovvol_bench.benchmark import Metric, MetricValue
from ovvol_bench.errors import ContractError, DataError, SettingError
from ovvol_bench.metrics.average_precision import SWEEP, motion_ranges, name_values, vid_ap
from ovvol_bench.metrics.columns import Columns, build_columns
from ovvol_bench.metrics.localization import boxes_per_frame, corloc, detection_rate
from ovvol_bench.metrics.naming import naming_accuracy
from ovvol_bench.metrics.protocols import protocol_of
from ovvol_bench.metrics.ranking import Ties
from ovvol_bench.metrics.streams import HitStream, PrecisionStream, Stream
from ovvol_bench.predictions import ClipPrediction, pack, same_content, without_context
from ovvol_bench.types import ClipInfo, Localization


class ColumnMetric(Metric):
    """A metric that is computed from the columns of all clips at once.

    Clips may come in any order, spread over any number of accumulators that are merged, and more
    than once: none of this changes a result.

    Attributes:
        needs_truth: whether clips without truth are refused.
    """

    needs_truth: ClassVar[bool] = True

    def __init__(self, protocol: str, iou_threshold: float = 0.5) -> None:
        if not 0 < iou_threshold <= 1:
            raise SettingError(f"iou_threshold is {iou_threshold}; expected above 0 and at most 1")
        self.protocol = protocol
        self.iou_threshold = iou_threshold
        self._conventions = protocol_of(protocol)
        self._clips: dict[str, ClipPrediction] = {}

    @abstractmethod
    def score(self, columns: Columns) -> Mapping[str, MetricValue]:
        """The metric's numbers on columns of this metric's protocol; keeps nothing."""

    def stream(self) -> Stream:
        """What computes the metric piece by piece.

        Raises:
            SettingError: if the metric must see all clips at once.
        """
        raise SettingError(
            f"{type(self).__name__} with these settings can't be computed piece by piece; read all "
            "predictions at once"
        )

    def update(self, localization: Localization, clip: ClipInfo) -> None:
        """Add one clip; context frames are left out.

        Raises:
            ContractError: if localization and clip don't fit together.
            DataError: if the clip has no truth, or came before with another content.
        """
        self.check_truth(clip)
        self._add(without_context(ClipPrediction(clip, localization.input_size or (0, 0), localization)))

    def compute(self) -> Mapping[str, MetricValue]:
        """The metric's numbers over all clips so far; NaN where there is no data."""
        predictions = pack(list(self._clips.values())).in_order()
        infos = [self._clips[clip].info for clip in predictions.clip_ids]
        return self.score(build_columns(predictions, infos, self._conventions))

    def merge(self, other: Metric) -> None:
        """Add the clips of another accumulator; a clip that both have counts once.

        Raises:
            ContractError: if the other metric is of another kind or has other settings.
        """
        if not isinstance(other, ColumnMetric) or self.settings() != other.settings():
            raise ContractError(f"{type(self).__name__} can only be merged with one of the same settings")
        for clip in other._clips.values():
            self._add(clip)

    def settings(self) -> Mapping[str, object]:
        """What two metrics must share to be merged."""
        own = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return {"metric": type(self).__name__, **own}

    def check_truth(self, clip: ClipInfo) -> None:
        """Refuse a clip that can't be scored.

        Raises:
            DataError: if the clip has no truth and the metric needs it.
        """
        if self.needs_truth and clip.truth is None:
            raise DataError(
                f"clip '{clip.id}' has no truth; {type(self).__name__} needs a dataset with true boxes"
            )

    def _add(self, clip: ClipPrediction) -> None:
        known = self._clips.setdefault(clip.info.id, clip)
        if known is not clip and not same_content(known, clip):
            raise DataError(f"clip '{clip.info.id}' was added twice with different results")

    def _named(self, name: str) -> str:
        """The name with the threshold behind it, unless that is the usual one."""
        return name if self.iou_threshold == 0.5 else f"{name}_{round(100 * self.iou_threshold)}"


class CorLoc(ColumnMetric):
    """``corloc_any`` or ``corloc_top1``; see ``localization.corloc``."""

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

    def score(self, columns: Columns) -> Mapping[str, MetricValue]:
        """DetRate on columns."""
        return {self._named("detrate"): detection_rate(columns, self.iou_threshold)}

    def stream(self) -> Stream:
        """DetRate piece by piece."""
        name = self._named("detrate")
        return HitStream(
            lambda columns: columns, self.iou_threshold, lambda hits: {name: hits.detection_rate()}
        )


class VidAP(ColumnMetric):
    """``ap50`` (by the threshold), ``ap50_fast`` and so on; see ``average_precision.vid_ap``."""

    def __init__(
        self,
        protocol: str,
        iou_threshold: float = 0.5,
        ties: Ties = "group",
        motion: bool = True,
        held_out: Sequence[int] = (),
        sweep: bool = False,
    ) -> None:
        super().__init__(protocol, iou_threshold)
        self.ties = ties
        self.motion = motion
        self.held_out = tuple(held_out)
        self.sweep = sweep

    def score(self, columns: Columns) -> Mapping[str, MetricValue]:
        """Average precision on columns."""
        return vid_ap(columns, self.iou_threshold, self.ties, self.motion, self.held_out, self.sweep)

    def stream(self) -> Stream:
        """Average precision piece by piece; equal scores can't have an order then."""
        if self.ties != "group":
            return super().stream()
        thresholds = [self.iou_threshold, *(SWEEP if self.sweep else ())]
        return PrecisionStream(
            motion_ranges(self._conventions, self.motion),
            thresholds,
            lambda results: name_values(results, self.iou_threshold, self.held_out),
        )


class BoxesPerFrame(ColumnMetric):
    """``boxes_per_frame``; see ``localization.boxes_per_frame``. Fewer are better at equal CorLoc."""

    needs_truth = False
    higher_is_better = False

    def __init__(self, protocol: str) -> None:
        super().__init__(protocol)

    def score(self, columns: Columns) -> Mapping[str, MetricValue]:
        """Mean number of boxes on columns."""
        return {"boxes_per_frame": boxes_per_frame(columns)}


class NamingAccuracy(ColumnMetric):
    """``naming_accuracy``; see ``naming.naming_accuracy``."""

    def __init__(self, protocol: str, iou_threshold: float = 0.5, held_out: Sequence[int] = ()) -> None:
        super().__init__(protocol, iou_threshold)
        self.held_out = tuple(held_out)

    def score(self, columns: Columns) -> Mapping[str, MetricValue]:
        """Share of right names on columns."""
        value = naming_accuracy(columns, self.iou_threshold, self.held_out)
        return {self._named("naming_accuracy"): value}
