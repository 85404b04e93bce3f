"""The objects that COCO's annotations and results share: a corner and a size, a class, perhaps a mask.

Boxes are ``[x, y, width, height]``: the sides of the area that the pixels cover, so that our inclusive
ends are ``x2 = x + width - 1``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ovvol_bench.arrays import Doubles, Ints
from ovvol_bench.detections import Detections
from ovvol_bench.formats.json_files import integers, numbers
from ovvol_bench.masks import SizedMasks, written_mask

EXPECTED = "an object with image_id, category_id, bbox [x, y, width, height] or segmentation, and score"

Sizes = Callable[[Ints], Ints]
"""From image numbers, (E,), to (height, width), (E, 2); 1 x 1 where unknown."""


@dataclass(frozen=True)
class Objects:
    """E objects as their file has them.

    Attributes:
        images: (E,) int64 numbers.
        classes: (E,) int64 numbers.
        boxes: (E, 4) float64 x1, y1, x2, y2, ends inclusive; from the mask where there is no ``bbox``.
        scores: (E,) float64.
        tracks: (E,) int64, -1 where unknown.
        masks: or None where no object has one.
    """

    images: Ints
    classes: Ints
    boxes: Doubles
    scores: Doubles
    tracks: Ints
    masks: SizedMasks | None


def read_objects(entries: Sequence[Mapping[str, Any]], sizes: Sizes, track: str) -> Objects:
    """Objects to columns.

    Args:
        entries: of a file.
        sizes: of images, for polygons.
        track: the field with the track's number.

    Raises:
        KeyError, TypeError, ValueError: if one is not as ``EXPECTED``.
    """
    images, masks = integers(entries, "image_id"), None
    segmentations = [entry.get("segmentation") or None for entry in entries]  # no polygon is no mask
    if any(each is not None for each in segmentations):
        masks = SizedMasks.read(segmentations, map(tuple, sizes(images).tolist()))
    return Objects(
        images,
        integers(entries, "category_id"),
        _boxes(entries, masks),
        numbers([entry["score"] for entry in entries]),
        integers(entries, track, missing=-1),
        masks,
    )


def _boxes(entries: Sequence[Mapping[str, Any]], masks: SizedMasks | None) -> Doubles:
    if masks is None:
        return _corners([entry["bbox"] for entry in entries])
    own = np.array([entry.get("bbox") is not None for entry in entries], np.bool_)
    bare = ~own & masks.missing
    if bare.any():
        raise KeyError("bbox")
    boxes = np.zeros((len(entries), 4)) if own.all() else masks.boxes()
    boxes[own] = _corners([entry["bbox"] for entry in entries if entry.get("bbox") is not None])
    return boxes


def _corners(boxes: Sequence[Any]) -> Doubles:
    """(E, 4) inclusive corners of x, y, width, height."""
    array = numbers(boxes, (4,))
    with np.errstate(over="ignore"):  # infinity is refused later, by its entry
        array[:, 2:] += array[:, :2] - 1
    return array


def written_boxes(detections: Detections) -> list[list[float]]:
    """x, y, width, height of each detection."""
    boxes = detections.boxes.astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2] - 1
    rows: list[list[float]] = boxes.tolist()
    return rows


def segmentation(detections: Detections, row: int) -> dict[str, Any]:
    """The ``segmentation`` of a detection as a field, none without masks."""
    if detections.masks is None:
        return {}
    size = detections.frames.sizes[detections.video[row]].tolist()
    return {"segmentation": written_mask(detections.masks[row], size)}
