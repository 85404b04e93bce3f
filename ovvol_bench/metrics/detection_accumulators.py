"""The built-in metrics of detections that outside packages compute."""

from __future__ import annotations

from collections.abc import Mapping

from ovvol_bench.benchmark import MetricValue
from ovvol_bench.detections import Detections, Labels
from ovvol_bench.metrics.bases import DetectionMetric
from ovvol_bench.metrics.coco import CocoSettings, coco_values
from ovvol_bench.metrics.truth import TruthTable


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
        # A box that comes once for every class would only be a duplicate where classes play no part.
        self.labels = "top1" if self.compared.class_agnostic else labels

    def score(self, detections: Detections, table: TruthTable) -> Mapping[str, MetricValue]:
        """COCO's numbers of detections."""
        top1 = "_top1" if self.labels == "top1" else ""
        suffix = "_agnostic" if self.compared.class_agnostic else top1
        return coco_values(detections, table, self.compared, suffix=suffix)
