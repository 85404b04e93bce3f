"""COCO's average precision and recall, computed by pycocotools or by a package that gives the same numbers.

No matching is written here: detections and truth are put in COCO's form, and numbers are read off the
curves that come back. The definitions are in ``docs/metrics.md``.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np

from ovvol_bench.arrays import Doubles, Floats, Ints
from ovvol_bench.benchmark import MetricValue
from ovvol_bench.detections import Detections
from ovvol_bench.errors import check_installed
from ovvol_bench.metrics.columns import check_boxes, check_classes
from ovvol_bench.metrics.truth import TruthTable

Backend = Literal["auto", "pycocotools", "hotcoco"]
IouType = Literal["box", "mask"]

MAX_DETECTIONS = 100
"""What COCO looks at in one image and class: those of the highest scores."""
LIMITS = (1, 10, MAX_DETECTIONS)
_AT_ONCE = 16
"""Classes."""
SIZES = ("", "_small", "_medium", "_large")
"""Suffixes of COCO's ranges of area: all, below 32², to 96², above."""
OUTSIDE = 1e11
"""An area that is in none of COCO's ranges: how an object is ignored without being a crowd, which may be
found many times."""


@dataclass(frozen=True)
class Curves:
    """What COCO's evaluation comes to, NaN where undefined.

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
        """Of all classes, from those of some each."""
        nothing = cls(np.zeros((10, 0, len(SIZES))), np.zeros((10, 0, len(SIZES), len(LIMITS))), ())
        every = [nothing, *parts]
        return cls(
            np.concatenate([part.average_precision for part in every], axis=1),
            np.concatenate([part.recall for part in every], axis=1),
            tuple(each for part in every for each in part.classes),
        )

    def values(self, name: str, suffix: str) -> dict[str, MetricValue]:
        """COCO's twelve numbers by name: ``ap``, ``ap50``, ``ap75``, by size, and ``ar1`` and so on.

        Args:
            name: what stands before ``ap`` and ``ar``.
            suffix: what stands at the end.
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
        return {f"{name}{part}{suffix}": self._mean(values) for part, values in parts.items()}

    def _mean(self, values: Doubles) -> MetricValue:
        """Mean over the classes that have objects."""
        known = np.flatnonzero(~np.isnan(values))
        mean = float(values[known].mean()) if len(known) else float("nan")
        notes = {"per_class": {str(self.classes[row]): float(values[row]) for row in known}}
        return MetricValue(mean, len(known), notes if self.classes != (0,) else {})


@dataclass(frozen=True)
class CocoSettings:
    """What is compared.

    Attributes:
        iou_type: boxes or masks.
        class_agnostic: whether any detection may find any object, as COCO has it with ``useCats=0``.
        ignore_generated: whether interpolated truth is neither found nor missed.
        backend: which package computes; ``auto`` takes the faster one that is installed.
    """

    iou_type: IouType = "box"
    class_agnostic: bool = False
    ignore_generated: bool = False
    backend: Backend = "auto"


def coco_values(
    detections: Detections, table: TruthTable, settings: CocoSettings, suffix: str = ""
) -> dict[str, MetricValue]:
    """COCO's numbers of detections, frame by frame.

    Args:
        detections: in the frames of the table.
        table: truth of clips in order, without context frames.
        settings: what is compared.
        suffix: what stands at the end of names.

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
    backend = _chosen(settings.backend)
    classes = _categories(detections, settings)
    found = detections.keep(np.isin(classes, _known(detections.classes, settings)))
    curves = _curves(found, table, settings, backend)
    notes = {
        "objects": int((~(table.generated & settings.ignore_generated)).sum()),
        "detections": len(found),
        "cut": cut(found.frame, _categories(found, settings), settings.class_agnostic),
        "backend": backend,
    }
    values = curves.values("", suffix)
    return {key: replace(value, notes={**value.notes, **notes}) for key, value in values.items()}


def cut(place: Ints, classes: Ints, class_agnostic: bool) -> int:
    """How many of (N,) detections are beyond the limit in their place (and class)."""
    key = np.stack([place, np.zeros_like(classes) if class_agnostic else classes])
    _, counts = np.unique(key, axis=1, return_counts=True)
    return int(np.maximum(counts - MAX_DETECTIONS, 0).sum())


@dataclass(frozen=True)
class _Form:
    """Truth and detections in COCO's form.

    Attributes:
        truth: the contents of an annotation file.
        found: the contents of a result file: (N, 7) rows of image, x, y, width, height, score and
            class, or records.
        iou_type: ``bbox`` or ``segm``.
    """

    truth: Mapping[str, Any]
    found: Doubles | Sequence[Mapping[str, Any]]
    iou_type: str


def _curves(detections: Detections, table: TruthTable, settings: CocoSettings, backend: str) -> Curves:
    """Evaluate detections of known categories."""
    # From 1 by the frames' ids, in whose order pycocotools takes equal scores.
    numbers = np.argsort(np.argsort(table.image_ids)) + 1
    images = _images(detections, numbers)
    true = [
        *_annotations(table, settings, numbers),
        *_annotations(table.crowds, settings, numbers, crowd=True),
    ]
    owners = np.array([each["category_id"] for each in true], np.int64)
    categories = _categories(detections, settings)
    results = _results(detections, settings, numbers)
    parts = []
    for group in in_groups(owners, _known(detections.classes, settings), settings.class_agnostic):
        own, found = np.flatnonzero(np.isin(owners, group)), np.flatnonzero(np.isin(categories, group))
        # From 1, as 0 means "nothing" to pycocotools.
        annotations = [{"id": number, **true[row]} for number, row in enumerate(own.tolist(), 1)]
        there = {each["image_id"] for each in annotations} | set(numbers[detections.frame[found]].tolist())
        truth = {
            "images": [images[number - 1] for number in sorted(there)],
            "annotations": annotations,
            "categories": [{"id": each, "name": str(each)} for each in group],
        }
        chosen = (
            results[found] if isinstance(results, np.ndarray) else [results[row] for row in found.tolist()]
        )
        form = _Form(truth, chosen, "bbox" if settings.iou_type == "box" else "segm")
        with redirect_stdout(io.StringIO()):  # pycocotools reports its progress there
            evaluation = _evaluation(form, backend)
        parts.append(curves_of(evaluation, group, settings.class_agnostic))
    return Curves.joined(parts)


def in_groups(owners: Ints, known: Sequence[int], class_agnostic: bool) -> Iterator[Sequence[int]]:
    """Classes that are evaluated at a time: pycocotools keeps 200 kB a class, and an entry a class and image.

    Classes without objects have no numbers. Those that play no part are all one group.

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
    precision, recall = (np.asarray(evaluation.eval[name]) for name in ("precision", "recall"))
    average = _defined(precision[..., -1]).mean(axis=1)
    return Curves(average, _defined(recall), (0,) if class_agnostic else tuple(classes))


def _evaluation(form: _Form, backend: str) -> Any:
    """A backend's ``COCOeval``, ready to run."""
    if backend == "pycocotools":
        from pycocotools.cocoeval import COCOeval

        truth = coco_set(form.truth)
    else:
        package = import_module(backend)
        COCOeval, truth = package.COCOeval, package.COCO(form.truth)  # noqa: N806 - the packages' name
    if len(form.found):
        return COCOeval(truth, truth.loadRes(form.found), form.iou_type)
    nothing = {**form.truth, "annotations": []}
    empty = coco_set(nothing) if backend == "pycocotools" else type(truth)(nothing)
    return COCOeval(truth, empty, form.iou_type)


def coco_set(contents: Mapping[str, Any]) -> Any:
    """Contents of an annotation file as pycocotools holds them, which reads files only."""
    from pycocotools.coco import COCO

    held = COCO()
    held.dataset = contents
    with redirect_stdout(io.StringIO()):
        held.createIndex()
    return held


def _chosen(backend: Backend) -> str:
    if backend == "auto":
        return "hotcoco" if find_spec("hotcoco") else "pycocotools"
    check_installed(backend, f"backend={backend}", "coco")
    return backend


def _known(classes: int, settings: CocoSettings) -> range:
    """Categories; if classes play no part also one for detections of no class."""
    return range(1, classes + 1 + settings.class_agnostic)


def _categories(detections: Detections, settings: CocoSettings) -> Ints:
    """(D,) category of each detection."""
    nameless = detections.classes + 1 if settings.class_agnostic else 0
    return np.where(detections.class_ids == 0, nameless, detections.class_ids)


def _images(detections: Detections, numbers: Ints) -> list[dict[str, int]]:
    """The frames as images, by their numbers."""
    frames = detections.frames
    sizes = frames.sizes[frames.video][np.argsort(numbers)].tolist()
    return [
        {"id": number, "height": height, "width": width} for number, (height, width) in enumerate(sizes, 1)
    ]


def _annotations(
    table: TruthTable, settings: CocoSettings, numbers: Ints, crowd: bool = False
) -> Iterator[dict[str, Any]]:
    """True objects or crowds as COCO has them, with the areas that annotations say."""
    corners = corner_and_size(table.boxes)
    areas = corners[:, 2] * corners[:, 3]
    masks = list(_true_masks(table)) if settings.iou_type == "mask" else None
    if masks is not None:
        areas = np.array([area for _, area in masks])
    areas = np.where(np.isnan(table.areas), areas, table.areas)
    areas = np.where(table.generated & settings.ignore_generated, OUTSIDE, areas)
    images = numbers[table.frame].tolist()
    columns = zip(images, table.classes.tolist(), corners.tolist(), areas.tolist(), strict=True)
    for row, (image, class_id, box, area) in enumerate(columns):
        shape = {} if masks is None else {"segmentation": masks[row][0]}
        yield {
            "image_id": image,
            "category_id": class_id,
            "bbox": box,
            "area": area,
            "iscrowd": int(crowd),
            **shape,
        }


def _true_masks(table: TruthTable) -> Iterator[tuple[dict[str, Any], int]]:
    """Run lengths and area of every object."""
    for frame in range(len(table.truths)):
        masks = table.runs(frame)
        for counts, area in zip(masks.counts, masks.areas().tolist(), strict=True):
            yield {"size": list(masks.size), "counts": counts}, area


def _results(detections: Detections, settings: CocoSettings, numbers: Ints) -> Doubles | list[dict[str, Any]]:
    """The rows or records of a result file."""
    images, categories = numbers[detections.frame], _categories(detections, settings)
    if settings.iou_type == "box":
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


def _defined(values: Doubles) -> Doubles:
    return np.where(values < 0, np.nan, values)
