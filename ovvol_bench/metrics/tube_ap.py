"""AP and AR of tracks: COCO's evaluation, by pycocotools, with tubes in the place of boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval

from ovvol_bench.arrays import Doubles, Ints
from ovvol_bench.detections import Detections, Labels
from ovvol_bench.metrics.base import DetectionMetric, IouType, MetricValue
from ovvol_bench.metrics.coco_ap import Curves, coco_set, curves_of, cut, in_groups
from ovvol_bench.metrics.columns import check_boxes, check_classes
from ovvol_bench.metrics.truth import TruthTable
from ovvol_bench.metrics.tubes import (
    Tubes,
    Unit,
    check_distinct,
    found_items,
    samples_of,
    true_items,
    tube_overlaps,
    with_tracks,
)

AREAS = ((0, 1e10), (0, 128**2), (128**2, 256**2), (256**2, 1e10))
"""YouTube-VIS's ranges of the mean area of a tube, in the order of ``coco_ap.SIZES``."""


class TubeAP(DetectionMetric):
    """``tube_ap_UNIT``, ``tube_ap50_UNIT`` and so on: AP and AR of tracks, as YouTube-VIS has it.

    The protocol is ``ytvis-box`` or ``ytvis-mask``.

    Args:
        iou_type: boxes or masks.
        unit: whether tracks live in a clip or in a whole video.
        class_agnostic: whether any tube may find any object.
        labels: whether our own boxes are detected as every class, or as their most probable one only.
    """

    def __init__(
        self,
        *,
        iou_type: IouType = "box",
        unit: Unit = "clip",
        class_agnostic: bool = False,
        labels: Labels = "all",
    ) -> None:
        super().__init__(f"ytvis-{iou_type}", iou_type, class_agnostic)
        self.unit = unit
        self.needs |= {"tracks", "true tracks"}
        self.labels = "top1" if class_agnostic else labels

    def score(self, detections: Detections, table: TruthTable) -> Mapping[str, MetricValue]:
        values = tube_values(detections, table, self.iou_type, self.unit, self.class_agnostic)
        return {f"{name}{self.labels_suffix}": value for name, value in values.items()}


def tube_values(
    detections: Detections,
    table: TruthTable,
    iou_type: IouType = "box",
    unit: Unit = "clip",
    class_agnostic: bool = False,
) -> dict[str, MetricValue]:
    """Compute AP and AR of tracks.

    Args:
        detections: with tracks, in the frames of the table.
        table: truth of clips in order, with tracks.
        iou_type: see `TubeAP`.
        unit: see `TubeAP`.
        class_agnostic: see `TubeAP`.

    Returns:
        COCO's twelve numbers, ``tube_ap_video`` and so on. ``count``: classes in the mean. Notes:
        ``per_class``, ``objects``, ``detections`` (both tubes) and ``cut``.

    Raises:
        DataError: if tracks or masks are missing, a track is in two places at once, a box is inverted,
            or a truth's class is not in the vocabulary.
    """
    check_boxes(detections)
    check_classes(table.classes, detections.classes)
    samples = samples_of(table, unit)
    number = int(samples.max(initial=-1)) + 1
    named = detections if class_agnostic else detections.keep(detections.class_ids > 0)
    found = Tubes.of(found_items(named, samples, iou_type), number, class_agnostic)
    check_distinct(named, found)
    truth = Tubes.of(true_items(table, samples, iou_type), number, class_agnostic)
    overlaps = tube_overlaps(named, table, found, truth, iou_type)
    regions = with_tracks(table.crowds)
    crowds = Tubes.of(true_items(regions, samples, iou_type), number, class_agnostic)
    if len(crowds):
        # Of crowds, too, the overlap is a share of the union: YouTube-VIS's code takes no other.
        ignored = tube_overlaps(named, regions, found, crowds, iou_type)
        overlaps = [np.concatenate(both, axis=1) for both in zip(overlaps, ignored, strict=True)]
    behind = np.diff(truth.starts)[crowds.sample] if len(crowds) else 0
    true = [
        *_annotations(truth, detections.classes),
        *_annotations(crowds, detections.classes, behind, crowd=True),
    ]
    ours = _annotations(found, detections.classes)
    notes = {
        "objects": len(truth),
        "detections": len(found),
        "cut": cut(found.sample, found.classes, class_agnostic),
    }
    values = _curves(true, ours, overlaps, detections.classes, class_agnostic).values(notes)
    return {f"tube_{name}_{unit}": value for name, value in values.items()}


class TubeEval(COCOeval):
    """COCO's evaluation of overlaps that are known.

    Attributes:
        overlaps: of each sample, found by true tubes; annotations have their ``place`` in it.
    """

    def __init__(self, truth: Any, found: Any, overlaps: Sequence[Doubles]) -> None:
        super().__init__(truth, found, "bbox")
        self.params.areaRng = [list(bounds) for bounds in AREAS]
        self.overlaps = overlaps

    def computeIoU(self, imgId: int, catId: int) -> Doubles:  # noqa: N802, N803 - pycocotools's names
        """(N, M) overlaps in a sample and class, found tubes by falling score, the first 100 of them."""
        classes = [catId] if self.params.useCats else self.params.catIds
        found, true = (
            [each for class_id in classes for each in held[imgId, class_id]]
            for held in (self._dts, self._gts)
        )
        best = np.argsort([-each["score"] for each in found], kind="mergesort")[: self.params.maxDets[-1]]
        rows = np.array([found[at]["place"] for at in best], np.int64)
        columns = np.array([each["place"] for each in true], np.int64)
        chosen: Doubles = self.overlaps[imgId - 1][np.ix_(rows, columns)]
        return chosen


def _annotations(
    tubes: Tubes, classes: int, behind: Ints | int = 0, crowd: bool = False
) -> list[Mapping[str, Any]]:
    """Put tubes in the form that COCO has boxes in.

    Those of no class count only where classes play no part, such crowds never.

    Args:
        tubes: found or true ones, or crowds.
        classes: C.
        behind: (N,) how many columns of overlaps come before the first tube of each one's sample.
        crowd: whether the tubes are crowds.
    """
    places: Ints = np.arange(len(tubes)) - tubes.starts[tubes.sample] + behind
    named = np.where((tubes.classes == 0) & (not crowd), classes, tubes.classes)
    columns = (tubes.sample + 1, named, tubes.area, tubes.scores, places)
    keys = ("image_id", "category_id", "area", "score", "place")
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [{"iscrowd": int(crowd), **dict(zip(keys, each, strict=True))} for each in rows]


def _curves(
    true: Sequence[Mapping[str, Any]],
    found: Sequence[Mapping[str, Any]],
    overlaps: Sequence[Doubles],
    classes: int,
    class_agnostic: bool,
) -> Curves:
    """Run COCO's evaluation of tubes, some classes at a time."""
    owners, names = (np.array([each["category_id"] for each in tubes], np.int64) for tubes in (true, found))
    parts = []
    for group in in_groups(owners, range(1, classes + 1), class_agnostic):
        chosen = [
            [tubes[row] for row in np.flatnonzero(np.isin(of, group)).tolist()]
            for tubes, of in ((true, owners), (found, names))
        ]
        samples = sorted({each["image_id"] for tubes in chosen for each in tubes})
        outline = {
            "images": [{"id": number} for number in samples],
            "categories": [{"id": each, "name": str(each)} for each in group],
        }
        sets = [
            coco_set({**outline, "annotations": [{"id": row, **each} for row, each in enumerate(tubes, 1)]})
            for tubes in chosen
        ]
        parts.append(curves_of(TubeEval(sets[0], sets[1], overlaps), group, class_agnostic))
    return Curves.joined(parts)
