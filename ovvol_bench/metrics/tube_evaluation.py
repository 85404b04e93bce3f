"""AP and AR of tubes: COCO's evaluation, by pycocotools, with tubes in the place of boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval

from ovvol_bench.arrays import Doubles, Ints
from ovvol_bench.benchmark import MetricValue
from ovvol_bench.detections import Detections
from ovvol_bench.metrics.coco import Curves, IouType, coco_set, curves_of, cut, in_groups
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
"""YouTube-VIS's ranges of the mean area of a tube, in the order of ``coco.SIZES``."""


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


@dataclass(frozen=True)
class TubeSettings:
    """What is compared.

    Attributes:
        iou_type: boxes or masks.
        unit: whether tracks live in a clip or in a whole video.
        class_agnostic: whether any tube may find any object.
    """

    iou_type: IouType = "box"
    unit: Unit = "clip"
    class_agnostic: bool = False


def tube_values(
    detections: Detections, table: TruthTable, settings: TubeSettings, suffix: str = ""
) -> dict[str, MetricValue]:
    """AP and AR of tracks.

    Args:
        detections: with tracks, in the frames of the table.
        table: truth of clips in order, with tracks.
        settings: what is compared.
        suffix: what stands at the end of names.

    Returns:
        COCO's twelve numbers, ``tube_ap_video`` and so on. ``count``: classes in the mean. Notes:
        ``per_class``, ``objects``, ``detections`` (both tubes) and ``cut``.

    Raises:
        DataError: if tracks or masks are missing, a track is in two places at once, a box is inverted,
            or a truth's class is not in the vocabulary.
    """
    check_boxes(detections)
    check_classes(table.classes, detections.classes)
    samples = samples_of(table, settings.unit)
    number = int(samples.max(initial=-1)) + 1
    named = detections if settings.class_agnostic else detections.keep(detections.class_ids > 0)
    found = Tubes.of(found_items(named, samples, settings.iou_type), number, settings.class_agnostic)
    check_distinct(named, found)
    truth = Tubes.of(true_items(table, samples, settings.iou_type), number, settings.class_agnostic)
    overlaps = tube_overlaps(named, table, found, truth, settings.iou_type)
    regions = with_tracks(table.crowds)
    crowds = Tubes.of(true_items(regions, samples, settings.iou_type), number, settings.class_agnostic)
    if len(crowds):
        # Of crowds, too, the overlap is a share of the union: YouTube-VIS's code takes no other.
        ignored = tube_overlaps(named, regions, found, crowds, settings.iou_type)
        overlaps = [np.concatenate(both, axis=1) for both in zip(overlaps, ignored, strict=True)]
    curves = _curves(found, (truth, crowds), overlaps, detections.classes, settings.class_agnostic)
    notes = {
        "objects": len(truth),
        "detections": len(found),
        "cut": cut(found.sample, found.classes, settings.class_agnostic),
    }
    values = curves.values("tube_", f"_{settings.unit}{suffix}")
    return {key: replace(value, notes={**value.notes, **notes}) for key, value in values.items()}


def _curves(
    found: Tubes,
    truth: tuple[Tubes, Tubes],
    overlaps: Sequence[Doubles],
    classes: int,
    class_agnostic: bool,
) -> Curves:
    """COCO's evaluation of tubes that were found, with true ones and crowds."""
    objects, crowds = truth
    behind = np.diff(objects.starts)[crowds.sample] if len(crowds) else np.zeros(0, np.int64)
    true = [*_annotations(objects, classes), *_annotations(crowds, classes, behind, crowd=True)]
    ours = _annotations(found, classes)
    owners, names = (np.array([each["category_id"] for each in tubes], np.int64) for tubes in (true, ours))
    parts = []
    for group in in_groups(owners, range(1, classes + 1), class_agnostic):
        chosen = [
            [tubes[row] for row in np.flatnonzero(np.isin(of, group)).tolist()]
            for tubes, of in ((true, owners), (ours, names))
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


def _annotations(
    tubes: Tubes, classes: int, behind: Ints | int = 0, crowd: bool = False
) -> list[Mapping[str, Any]]:
    """Tubes as COCO has boxes; those of no class count only where classes play no part, such crowds never.

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
