"""The built-in metrics of detections that outside packages compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from ovvol_bench.benchmark import MetricValue
from ovvol_bench.detections import Detections, Labels
from ovvol_bench.errors import SettingError
from ovvol_bench.metrics.base import DetectionMetric
from ovvol_bench.metrics.coco import CocoSettings, coco_values
from ovvol_bench.metrics.tracking import TrackingSettings, tracking_values
from ovvol_bench.metrics.truth import TruthTable
from ovvol_bench.metrics.tube_evaluation import TubeSettings, tube_values


class CocoAP(DetectionMetric):
    """``ap``, ``ap50``, ``ar100`` and so on; see ``coco.coco_values``.

    The protocol is ``coco`` for boxes and ``coco-mask`` for masks, ``coco-manual`` and so on if interpolated
    truth is ignored.
    """

    def __init__(self, settings: CocoSettings | None = None, labels: Labels = "all") -> None:
        self.compared = settings or CocoSettings()
        mask = "-mask" if self.compared.iou_type == "mask" else ""
        super().__init__(f"coco{mask}{'-manual' if self.compared.ignore_generated else ''}")
        self.needs_masks = bool(mask)
        self.needs = _needs(self.compared.class_agnostic)
        # A box that comes once for every class would only be a duplicate where classes play no part.
        self.labels = "top1" if self.compared.class_agnostic else labels

    def score(self, detections: Detections, table: TruthTable) -> Mapping[str, MetricValue]:
        """COCO's numbers of detections."""
        suffix = _suffix(self.compared.class_agnostic, self.labels)
        return coco_values(detections, table, self.compared, suffix)


class TubeAP(DetectionMetric):
    """``tube_ap_UNIT``, ``tube_ap50_UNIT`` and so on; see ``tube_evaluation.tube_values``.

    The protocol is ``ytvis-box`` or ``ytvis-mask``.
    """

    def __init__(self, settings: TubeSettings | None = None, labels: Labels = "all") -> None:
        self.compared = settings or TubeSettings()
        super().__init__(f"ytvis-{self.compared.iou_type}")
        self.needs_masks = self.compared.iou_type == "mask"
        self.needs = _needs(self.compared.class_agnostic) | {"tracks", "true tracks"}
        self.labels = "top1" if self.compared.class_agnostic else labels

    def score(self, detections: Detections, table: TruthTable) -> Mapping[str, MetricValue]:
        """AP and AR of tracks."""
        return tube_values(
            detections, table, self.compared, _suffix(self.compared.class_agnostic, self.labels)
        )


class Tracking(DetectionMetric):
    """``hota_UNIT``, ``deta``, ``assa``, ``loca``, ``idf1``, ``mota``; see ``tracking.tracking_values``.

    The protocol is ``mot-box`` or ``mot-mask``. There is no ranking, so that each box counts once, under its
    best class.
    """

    package: ClassVar[str] = "trackeval"
    numbers: ClassVar[Sequence[str]] = ("hota", "deta", "assa", "loca", "idf1", "mota")

    def __init__(self, settings: TrackingSettings | None = None) -> None:
        self.compared = settings or TrackingSettings()
        if not 0 < self.compared.iou_threshold <= 1:
            raise SettingError(
                f"iou_threshold is {self.compared.iou_threshold}; expected above 0 and at most 1"
            )
        super().__init__(f"mot-{self.compared.iou_type}")
        self.needs_masks = self.compared.iou_type == "mask"
        self.needs = _needs(self.compared.class_agnostic) | {"tracks", "true tracks"}

    def score(self, detections: Detections, table: TruthTable) -> Mapping[str, MetricValue]:
        """The numbers of detections."""
        compared, parts = self.compared, [""]
        parts += ["agnostic"] if compared.class_agnostic else []
        parts += ["classes"] if compared.average == "classes" else []
        parts += [f"min{compared.min_score:g}"] if compared.min_score is not None else []
        parts += [f"iou{round(100 * compared.iou_threshold)}"] if compared.iou_threshold != 0.5 else []
        return tracking_values(detections, table, compared, self.numbers, "_".join(parts))


class IdSwitches(Tracking):
    """``id_switches_UNIT``: how often the track that follows an object changes."""

    higher_is_better = False
    numbers = ("id_switches",)


def _suffix(class_agnostic: bool, labels: Labels) -> str:
    """What tells numbers of other settings apart."""
    return "_agnostic" if class_agnostic else "_top1" if labels == "top1" else ""


def _needs(class_agnostic: bool) -> frozenset[str]:
    return frozenset() if class_agnostic else frozenset({"classes"})
