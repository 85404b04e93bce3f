"""Bases of metrics: any accumulator over clips, or one that keeps a record a clip and computes from all."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from ovvol_bench.detections import Detections, Frames, Labels, detections_of
from ovvol_bench.errors import DataError, SettingError
from ovvol_bench.metrics.columns import Columns, build_columns
from ovvol_bench.metrics.protocols import ProtocolName, protocol_of
from ovvol_bench.metrics.truth import TruthTable
from ovvol_bench.predictions import ClipPrediction, Predictions, own_part, pack, same_content
from ovvol_bench.types import ClipInfo, Localization

IouType = Literal["box", "mask"]
"""Form of objects whose overlap counts."""


@dataclass(frozen=True)
class MetricValue:
    """Number of a result.

    Attributes:
        value: NaN where undefined (never 0 for "no data").
        count: what was averaged over (frames, objects or classes, as the metric documents).
        notes: further numbers that belong beside the value, by name.
        higher_is_better: direction; scoring sets it to the metric's.
    """

    value: float
    count: int
    notes: Mapping[str, Any]
    higher_is_better: bool = True


class Metric(ABC):
    """A pure function over localizations and truth, as a thin accumulator.

    Attributes:
        protocol: id of the exact conventions, for example ``vid-reference``.
        higher_is_better: direction, for ranking and bold print.
        averages: whether each number is a mean over its ``count``, so that the numbers of videos make that
            of all of them; such metrics get intervals.
        needs: what predictions and truth must hold beside boxes: ``classes``, ``probabilities`` (scores in
            [0, 1]), ``tracks``, ``masks``, ``slots``, ``true masks``, ``true tracks``. ``--metrics all``
            leaves out the metrics that lack something.
    """

    protocol: str
    needs: frozenset[str] = frozenset()
    higher_is_better: ClassVar[bool] = True
    averages: ClassVar[bool] = False

    @abstractmethod
    def update(self, localization: Localization, clip: ClipInfo) -> None:
        """Add one clip; writes to neither argument."""

    @abstractmethod
    def compute(self) -> Mapping[str, MetricValue]:
        """The metric's numbers so far, by name (one metric may yield several)."""


class RecordMetric(Metric):
    """A metric that keeps one record a clip.

    Clips may come in any order and more than once: neither changes a result.

    Attributes:
        needs_truth: whether clips without truth are refused.
    """

    needs_truth: ClassVar[bool] = True

    def __init__(self, protocol: str) -> None:
        self.protocol = protocol
        self._records: dict[str, Any] = {}

    @abstractmethod
    def record(self, clip: ClipPrediction) -> Any:
        """Return what the metric keeps of a clip without context frames."""

    def same(self, record: Any, other: Any) -> bool:
        """Return whether two records of a clip hold the same."""
        return _same(record, other)

    def update(self, localization: Localization, clip: ClipInfo) -> None:
        """Add one clip; context frames and frames that could not be read are left out.

        Raises:
            ContractError: if localization and clip don't fit together.
            DataError: if the truth is not what the metric needs, or the clip came before with another
                content.
        """
        self.check_truth(clip)
        own = own_part(ClipPrediction(clip, localization.input_size or (0, 0), localization))
        record = self.record(own)
        known = self._records.setdefault(clip.id, record)
        if known is not record and not self.same(known, record):
            raise DataError(f"clip '{clip.id}' was added twice with different results")

    def in_order(self) -> list[Any]:
        """Return the records by clip id, in whatever order the clips came."""
        return [self._records[clip] for clip in sorted(self._records)]

    def check_truth(self, clip: ClipInfo) -> None:
        """Refuse a clip that can't be scored.

        Raises:
            DataError: if the clip has no truth and the metric needs it.
        """
        if self.needs_truth and clip.truth is None:
            raise DataError(
                f"clip '{clip.id}' has no truth; {type(self).__name__} needs a dataset with true boxes"
            )


class ClipMetric(RecordMetric):
    """A metric that keeps clips as they come, and is computed from all of them at once.

    Attributes:
        needs_masks: whether the slot of every patch is looked at.
    """

    needs_masks: bool = False

    @abstractmethod
    def score_clips(self, predictions: Predictions, table: TruthTable) -> Mapping[str, MetricValue]:
        """Compute the metric's numbers on clips in order and their truth; keep nothing."""

    def record(self, clip: ClipPrediction) -> ClipPrediction:
        return clip

    def same(self, record: ClipPrediction, other: ClipPrediction) -> bool:
        return same_content(record, other)

    def compute(self) -> Mapping[str, MetricValue]:
        """Compute the metric's numbers over all clips so far; NaN where there is no data."""
        predictions = pack(list(self._records.values())).in_order()
        infos = [self._records[clip].info for clip in predictions.clip_ids]
        return self.score_clips(predictions, TruthTable.of(infos))


class ColumnMetric(ClipMetric):
    """A metric of boxes and their scores, computed from columns under a protocol.

    Args:
        protocol: conventions of comparison, see ``docs/metrics.md``.
        iou_threshold: overlap of a box and an object that counts, strictly above it; for average precision
            from it on.
    """

    def __init__(self, *, protocol: ProtocolName = "vid-reference", iou_threshold: float = 0.5) -> None:
        if not 0 < iou_threshold <= 1:
            raise SettingError(f"iou_threshold is {iou_threshold}; expected above 0 and at most 1")
        super().__init__(protocol)
        self.iou_threshold = iou_threshold
        self._conventions = protocol_of(protocol)

    @abstractmethod
    def score(self, columns: Columns) -> Mapping[str, MetricValue]:
        """Compute the metric's numbers on columns of this metric's protocol; keep nothing."""

    def score_clips(self, predictions: Predictions, table: TruthTable) -> Mapping[str, MetricValue]:
        return self.score(build_columns(predictions, table, self._conventions))

    def _named(self, name: str) -> str:
        """Append the threshold to a name, unless it is the usual one."""
        return name if self.iou_threshold == 0.5 else f"{name}_{round(100 * self.iou_threshold)}"


class DetectionMetric(ClipMetric):
    """A metric of detections over whole videos: tracks, masks, or numbers that an outside package computes.

    Attributes:
        labels: which classes a segment of our own predictions is detected as, see ``detections_of``.
    """

    labels: Labels = "top1"

    def __init__(self, protocol: str, iou_type: IouType, class_agnostic: bool) -> None:
        super().__init__(protocol)
        self.iou_type, self.class_agnostic = iou_type, class_agnostic
        self.needs_masks = iou_type == "mask"
        self.needs = frozenset() if class_agnostic else frozenset({"classes"})

    @property
    def labels_suffix(self) -> str:
        """End of a number's name where not every class of a box counts."""
        return "_agnostic" if self.class_agnostic else "_top1" if self.labels == "top1" else ""

    @abstractmethod
    def score(self, detections: Detections, table: TruthTable) -> Mapping[str, MetricValue]:
        """Compute the metric's numbers on detections in the frames of a truth; keep nothing.

        Args:
            detections: of any origin.
            table: truth of clips in order (see ``detections.in_order``); its frames are those of the
                detections, one to one.
        """

    def score_clips(self, predictions: Predictions, table: TruthTable) -> Mapping[str, MetricValue]:
        frames = Frames.of(table.infos)
        return self.score(detections_of(predictions, frames, self.labels, self.needs_masks), table)


def _same(first: Any, second: Any) -> bool:
    """Compare two records field by field, arrays included; NaN equals NaN."""
    if is_dataclass(first):
        names = [field.name for field in fields(first)]
        return all(_same(getattr(first, name), getattr(second, name)) for name in names)
    both_undefined = isinstance(first, float) and math.isnan(first) and math.isnan(second)
    return both_undefined or bool(np.array_equal(first, second))
