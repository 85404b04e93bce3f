"""COCO's average precision and recall, computed by pycocotools or by a package that gives the same numbers.

No matching is written here: detections and truth are put in COCO's form, and numbers are read off the
curves that come back. The definitions are in ``docs/metrics.md``.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np

from ovvol_bench.arrays import Doubles, Floats, Ints
from ovvol_bench.detections import Detections, Labels
from ovvol_bench.errors import check_installed
from ovvol_bench.metrics.base import DetectionMetric, IouType, MetricValue
from ovvol_bench.metrics.columns import check_boxes, check_classes
from ovvol_bench.metrics.truth import TruthTable

Backend = Literal["auto", "pycocotools", "hotcoco"]

MAX_DETECTIONS = 100
"""Detections of one image and class that COCO looks at: those of the highest scores."""
LIMITS = (1, 10, MAX_DETECTIONS)
SIZES = ("", "_small", "_medium", "_large")
"""Suffixes of COCO's ranges of area: all, below 32², to 96², above."""
OUTSIDE = 1e11
"""An area that is in none of COCO's ranges. An object of it is ignored without being a crowd, which may be
found many times."""
_AT_ONCE = 16
"""Classes."""


class CocoAP(DetectionMetric):
    """``ap``, ``ap50``, ``ar100`` and so on: COCO's AP and AR of boxes or masks, by class or of all as one.

    The protocol is ``coco`` for boxes and ``coco-mask`` for masks, ``coco-manual`` and so on if interpolated
    truth is ignored.

    Args:
        iou_type: boxes or masks.
        class_agnostic: whether any detection may find any object, as COCO has it with ``useCats=0``.
        labels: whether our own boxes are detected as every class, or as their most probable one only.
        ignore_generated: whether interpolated truth is neither found nor missed.
        backend: which package computes; ``auto`` takes the faster one that is installed.
    """

    def __init__(
        self,
        *,
        iou_type: IouType = "box",
        class_agnostic: bool = False,
        labels: Labels = "all",
        ignore_generated: bool = False,
        backend: Backend = "auto",
    ) -> None:
        mask = "-mask" if iou_type == "mask" else ""
        super().__init__(f"coco{mask}{'-manual' if ignore_generated else ''}", iou_type, class_agnostic)
        self.ignore_generated, self.backend = ignore_generated, backend
        # A box that comes once for every class would only be a duplicate where classes play no part.
        self.labels = "top1" if class_agnostic else labels

    def score(self, detections: Detections, table: TruthTable) -> Mapping[str, MetricValue]:
        values = coco_values(
            detections, table, self.iou_type, self.class_agnostic, self.ignore_generated, self.backend
        )
        return {f"{name}{self.labels_suffix}": value for name, value in values.items()}


@dataclass(frozen=True)
class Curves:
    """Results of COCO's evaluation, NaN where undefined.

    Attributes:
        average_precision: (T, K, A) for T thresholds .5 to .95, K classes and the A ranges of ``SIZES``, at
            the highest limit.
        recall: (T, K, A, L) for the L = 3 limits on detections of an image.
        classes: (K,) class ids; one 0 if classes play no part.
    """

    average_precision: Doubles
    recall: Doubles
    classes: tuple[int, ...]

    @classmethod
    def joined(cls, parts: Sequence[Curves]) -> Curves:
        """Join the curves of some classes each."""
        nothing = cls(np.zeros((10, 0, len(SIZES))), np.zeros((10, 0, len(SIZES), len(LIMITS))), ())
        every = [nothing, *parts]
        return cls(
            np.concatenate([part.average_precision for part in every], axis=1),
            np.concatenate([part.recall for part in every], axis=1),
            tuple(each for part in every for each in part.classes),
        )

    def values(self, notes: Mapping[str, Any]) -> dict[str, MetricValue]:
        """Name COCO's twelve numbers: ``ap``, ``ap50``, ``ap75``, by size, and ``ar1`` and so on.

        Args:
            notes: of every number, beside ``per_class``.
        """
        precision, recall = self.average_precision, self.recall
        parts: dict[str, Doubles] = {
            "ap": precision[:, :, 0].mean(axis=0),
            "ap50": precision[0, :, 0],
            "ap75": precision[5, :, 0],
            **{f"ap{size}": precision[:, :, at].mean(axis=0) for at, size in enumerate(SIZES) if at},
            **{f"ar{limit}": recall[:, :, 0, at].mean(axis=0) for at, limit in enumerate(LIMITS)},
            **{f"ar{size}": recall[:, :, at, -1].mean(axis=0) for at, size in enumerate(SIZES) if at},
        }
        named = {}
        for name, values in parts.items():
            known = np.flatnonzero(~np.isnan(values))  # classes that have objects
            mean = float(values[known].mean()) if len(known) else float("nan")
            per_class = {str(self.classes[row]): float(values[row]) for row in known}
            own = {"per_class": per_class} if self.classes != (0,) else {}
            named[name] = MetricValue(mean, len(known), {**own, **notes})
        return named


def coco_values(
    detections: Detections,
    table: TruthTable,
    iou_type: IouType = "box",
    class_agnostic: bool = False,
    ignore_generated: bool = False,
    backend: Backend = "auto",
) -> dict[str, MetricValue]:
    """Compute COCO's numbers of detections, frame by frame.

    Args:
        detections: in the frames of the table.
        table: truth of clips in order, without context frames.
        iou_type: see `CocoAP`.
        class_agnostic: see `CocoAP`.
        ignore_generated: see `CocoAP`.
        backend: see `CocoAP`.

    Returns:
        Twelve numbers. ``count``: classes in the mean. Notes: ``per_class``, ``cut`` (detections beyond
        the 100 that COCO looks at in one image and class), ``detections``, ``objects``, ``backend``.

    Raises:
        DataError: if a box is inverted, masks are missing or of another size, or a truth's class is not
            in the vocabulary.
        SettingError: if the backend isn't installed.
    """
    check_boxes(detections)
    check_classes(table.classes, detections.classes)
    package: str = backend
    if backend == "auto":
        package = "hotcoco" if find_spec("hotcoco") else "pycocotools"
    else:
        check_installed(backend, f"backend={backend}", "coco")
    # If classes play no part there is one more, for detections of no class.
    known, nameless = range(1, detections.classes + 1 + class_agnostic), detections.classes + 1
    categories = np.where(detections.class_ids == 0, nameless if class_agnostic else 0, detections.class_ids)
    kept = np.isin(categories, known)
    found, categories = detections.keep(kept), categories[kept]
    # Images are numbered from 1 by the frames' ids, in whose order pycocotools takes equal scores.
    numbers = np.argsort(np.argsort(table.image_ids)) + 1
    ignored = ignore_generated & table.generated
    true = [
        *_annotations(table, iou_type, ignored, numbers),
        *_annotations(table.crowds, iou_type, ignore_generated & table.crowds.generated, numbers, crowd=True),
    ]
    results = _results(found, iou_type, categories, numbers)
    sizes = found.frames.sizes[found.frames.video][np.argsort(numbers)].tolist()
    owners = np.array([each["category_id"] for each in true], np.int64)
    parts = []
    for group in in_groups(owners, known, class_agnostic):
        own, chosen = np.flatnonzero(np.isin(owners, group)), np.flatnonzero(np.isin(categories, group))
        # From 1, as 0 means "nothing" to pycocotools.
        annotations = [{"id": number, **true[row]} for number, row in enumerate(own.tolist(), 1)]
        images = {each["image_id"] for each in annotations} | set(numbers[found.frame[chosen]].tolist())
        truth = {
            "images": [
                {"id": each, "height": sizes[each - 1][0], "width": sizes[each - 1][1]}
                for each in sorted(images)
            ],
            "annotations": annotations,
            "categories": [{"id": each, "name": str(each)} for each in group],
        }
        some = (
            results[chosen] if isinstance(results, np.ndarray) else [results[row] for row in chosen.tolist()]
        )
        with redirect_stdout(io.StringIO()):  # pycocotools reports its progress there
            evaluation = _evaluation(truth, some, "bbox" if iou_type == "box" else "segm", package)
        parts.append(curves_of(evaluation, group, class_agnostic))
    notes = {
        "objects": int((~ignored).sum()),
        "detections": len(found),
        "cut": cut(found.frame, categories, class_agnostic),
        "backend": package,
    }
    return Curves.joined(parts).values(notes)


def cut(place: Ints, classes: Ints, class_agnostic: bool) -> int:
    """Count those of (N,) detections that are beyond the limit in their place (and class)."""
    key = np.stack([place, np.zeros_like(classes) if class_agnostic else classes])
    _, counts = np.unique(key, axis=1, return_counts=True)
    return int(np.maximum(counts - MAX_DETECTIONS, 0).sum())


def in_groups(owners: Ints, known: Sequence[int], class_agnostic: bool) -> Iterator[Sequence[int]]:
    """Part the classes into groups that are evaluated at a time.

    pycocotools keeps 200 kB a class, and an entry a class and image. Classes without objects have no numbers.
    Those that play no part are all one group.

    Args:
        owners: (M,) class of each true object.
        known: all classes.
        class_agnostic: whether classes play no part.
    """
    if class_agnostic:
        yield known
        return
    classes = np.intersect1d(owners, known).tolist()
    for start in range(0, len(classes), _AT_ONCE):
        yield classes[start : start + _AT_ONCE]


def curves_of(evaluation: Any, classes: Sequence[int], class_agnostic: bool) -> Curves:
    """Run a backend's ``COCOeval`` over its K classes."""
    evaluation.params.useCats = int(not class_agnostic)
    with redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
    precision, recall = (
        np.where(values < 0, np.nan, values)
        for values in (np.asarray(evaluation.eval[name]) for name in ("precision", "recall"))
    )
    return Curves(precision[..., -1].mean(axis=1), recall, (0,) if class_agnostic else tuple(classes))


def _evaluation(truth: Mapping[str, Any], found: Any, iou_type: str, backend: str) -> Any:
    """Make a backend's ``COCOeval``, ready to run.

    Args:
        truth: the contents of an annotation file.
        found: the contents of a result file, see `_results`.
        iou_type: ``bbox`` or ``segm``.
        backend: package.
    """
    if backend == "pycocotools":
        from pycocotools.cocoeval import COCOeval

        coco = coco_set
    else:
        package = import_module(backend)
        COCOeval, coco = package.COCOeval, package.COCO  # noqa: N806 - the packages' name
    held = coco(truth)
    return COCOeval(held, held.loadRes(found) if len(found) else coco({**truth, "annotations": []}), iou_type)


def coco_set(contents: Mapping[str, Any]) -> Any:
    """Put contents of an annotation file in the form of pycocotools, which reads files only."""
    from pycocotools.coco import COCO

    held = COCO()
    held.dataset = contents
    with redirect_stdout(io.StringIO()):
        held.createIndex()
    return held


def _annotations(
    table: TruthTable, iou_type: IouType, ignored: Any, numbers: Ints, crowd: bool = False
) -> Iterator[dict[str, Any]]:
    """Put true objects or crowds in COCO's form, with the areas that annotations say.

    Args:
        table: truth of F frames.
        iou_type: see `CocoAP`.
        ignored: (M,) bool, objects that are neither found nor missed.
        numbers: (F,) number of each frame.
        crowd: whether the objects are crowds.
    """
    corners = corner_and_size(table.boxes)
    areas = corners[:, 2] * corners[:, 3]
    shapes: list[dict[str, Any]] = [{}] * len(areas)
    if iou_type == "mask":
        runs = [table.runs(frame) for frame in range(len(table.truths))]
        areas = np.concatenate([np.zeros(0), *(masks.areas() for masks in runs)])
        shapes = [
            {"segmentation": {"size": list(masks.size), "counts": counts}}
            for masks in runs
            for counts in masks.counts
        ]
    areas = np.where(np.isnan(table.areas), areas, table.areas)
    areas = np.where(ignored, OUTSIDE, areas)
    images = numbers[table.frame].tolist()
    columns = zip(images, table.classes.tolist(), corners.tolist(), areas.tolist(), shapes, strict=True)
    for image, class_id, box, area, shape in columns:
        yield {
            "image_id": image,
            "category_id": class_id,
            "bbox": box,
            "area": area,
            "iscrowd": int(crowd),
            **shape,
        }


def _results(
    detections: Detections, iou_type: IouType, categories: Ints, numbers: Ints
) -> Doubles | list[dict[str, Any]]:
    """Return the contents of a result file: records, or (N, 7) image, x, y, width, height, score, class."""
    images = numbers[detections.frame]
    if iou_type == "box":
        corners = corner_and_size(detections.boxes)
        return np.column_stack([images, corners, detections.scores, categories])
    sizes = detections.frames.sizes[detections.video].tolist()
    scores = detections.scores.tolist()
    columns = zip(images.tolist(), categories.tolist(), scores, sizes, detections.runs, strict=True)
    return [
        {
            "image_id": image,
            "category_id": category,
            "score": score,
            "segmentation": {"size": size, "counts": counts},
        }
        for image, category, score, size, counts in columns
    ]


def corner_and_size(boxes: Floats | Doubles) -> Doubles:
    """(N, 4) x, y, width, height of boxes whose ends are inclusive."""
    low, high = boxes[:, :2].astype(np.float64), boxes[:, 2:].astype(np.float64)
    corners: Doubles = np.concatenate([low, high - low + 1], axis=1)
    return corners
