"""What the built-in metrics share: clips are kept as they come, and scored all at once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from ovvol_bench.benchmark import Metric, MetricValue
from ovvol_bench.detections import Detections, Frames, Labels, detections_of
from ovvol_bench.errors import ContractError, DataError, SettingError
from ovvol_bench.metrics.columns import Columns, build_columns
from ovvol_bench.metrics.protocols import protocol_of
from ovvol_bench.metrics.streams import Stream
from ovvol_bench.metrics.truth import TruthTable
from ovvol_bench.predictions import ClipPrediction, Predictions, own_part, pack, same_content
from ovvol_bench.types import ClipInfo, Localization


class ClipMetric(Metric):
    """A metric that keeps clips and is computed from all of them at once.

    Clips may come in any order, spread over any number of accumulators that are merged, and more
    than once: none of this changes a result.

    Attributes:
        needs_truth: whether clips without truth are refused.
        needs_masks: whether the slot of every patch is looked at.
    """

    needs_truth: ClassVar[bool] = True
    needs_masks: bool = False

    def __init__(self, protocol: str) -> None:
        self.protocol = protocol
        self._clips: dict[str, ClipPrediction] = {}

    @abstractmethod
    def score_clips(self, predictions: Predictions, table: TruthTable) -> Mapping[str, MetricValue]:
        """The metric's numbers on clips in order and their truth; keeps nothing."""

    def update(self, localization: Localization, clip: ClipInfo) -> None:
        """Add one clip; context frames and frames that could not be read are left out.

        Raises:
            ContractError: if localization and clip don't fit together.
            DataError: if the clip has no truth, or came before with another content.
        """
        self.check_truth(clip)
        self._add(own_part(ClipPrediction(clip, localization.input_size or (0, 0), localization)))

    def compute(self) -> Mapping[str, MetricValue]:
        """The metric's numbers over all clips so far; NaN where there is no data."""
        predictions = pack(list(self._clips.values())).in_order()
        infos = [self._clips[clip].info for clip in predictions.clip_ids]
        return self.score_clips(predictions, TruthTable.of(infos))

    def merge(self, other: Metric) -> None:
        """Add the clips of another accumulator; a clip that both have counts once.

        Raises:
            ContractError: if the other metric is of another kind or has other settings.
        """
        if not isinstance(other, ClipMetric) or self.settings() != other.settings():
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


class ColumnMetric(ClipMetric):
    """A metric of boxes and their scores, computed from columns under a protocol."""

    def __init__(self, protocol: str, iou_threshold: float = 0.5) -> None:
        if not 0 < iou_threshold <= 1:
            raise SettingError(f"iou_threshold is {iou_threshold}; expected above 0 and at most 1")
        super().__init__(protocol)
        self.iou_threshold = iou_threshold
        self._conventions = protocol_of(protocol)

    @abstractmethod
    def score(self, columns: Columns) -> Mapping[str, MetricValue]:
        """The metric's numbers on columns of this metric's protocol; keeps nothing."""

    def score_clips(self, predictions: Predictions, table: TruthTable) -> Mapping[str, MetricValue]:
        """See ``ClipMetric.score_clips``."""
        return self.score(build_columns(predictions, table, self._conventions))

    def stream(self) -> Stream:
        """What computes the metric piece by piece.

        Raises:
            SettingError: if the metric must see all clips at once.
        """
        raise SettingError(
            f"{type(self).__name__} with these settings can't be computed piece by piece; read all "
            "predictions at once"
        )

    def _named(self, name: str) -> str:
        """The name with the threshold behind it, unless that is the usual one."""
        return name if self.iou_threshold == 0.5 else f"{name}_{round(100 * self.iou_threshold)}"


class DetectionMetric(ClipMetric):
    """A metric of detections over whole videos: tracks, masks, or what an outside package computes.

    Attributes:
        labels: which classes a segment of our own predictions is detected as, see ``detections_of``.
    """

    labels: Labels = "top1"

    @abstractmethod
    def score(self, detections: Detections, table: TruthTable) -> Mapping[str, MetricValue]:
        """The metric's numbers on detections in the frames of a truth; keeps nothing.

        Args:
            detections: of any origin.
            table: truth of clips in order (see ``detections.in_order``); its frames are those of the
                detections, one to one.
        """

    def score_clips(self, predictions: Predictions, table: TruthTable) -> Mapping[str, MetricValue]:
        """See ``ClipMetric.score_clips``."""
        frames = Frames.of(table.infos)
        return self.score(detections_of(predictions, frames, self.labels, self.needs_masks), table)
