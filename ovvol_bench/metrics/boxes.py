"""Overlap of boxes, in the three pixel conventions that evaluation programs use."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Doubles, Floats, Ints
from ovvol_bench.errors import DataError

_AT_ONCE = 1 << 13
"""Pairs whose intermediate arrays stay in a processor's cache."""


def box_iou(first: Floats, second: Floats, offset: int = 0) -> Floats:
    """Intersection over union of every box of one set with every box of another.

    Args:
        first: (N, 4) boxes x1, y1, x2, y2.
        second: (M, 4) boxes.
        offset: what is added to ``x2 - x1`` to get a side. 0: continuous ends, as torchvision;
            1: ends inclusive, as the VOC and ILSVRC kits; 2: the reference's VID AP, which adds 1
            to the ends and then another 1 to the sides.

    Returns:
        (N, M) float32 in [0, 1]; 0 where two empty boxes meet. N or M may be 0.

    Raises:
        DataError: if a box is inverted (x2 < x1 or y2 < y1) or not finite.

    >>> box_iou(np.array([[0, 0, 9, 9]]), np.array([[0, 0, 9, 4], [20, 20, 29, 29]]), offset=1)
    array([[0.5, 0. ]], dtype=float32)
    """
    first, second = checked(first, "first set"), checked(second, "second set")
    return _overlap(first.T[:, :, None], second.T[:, None], offset)


def paired_iou(first: Floats, rows: Ints, second: Floats, others: Ints, offset: int = 0) -> Floats:
    """Intersection over union of pairs of boxes, as ``box_iou``.

    Args:
        first: (N, 4) boxes that were ``checked``.
        rows: (P,) the row of ``first`` in each pair.
        second: (M, 4) boxes that were ``checked``.
        others: (P,) the row of ``second`` in each pair.
        offset: as in ``box_iou``.

    Returns:
        (P,) float32 in [0, 1].
    """
    iou = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        one, two = first.take(rows[part], axis=0), second.take(others[part], axis=0)
        iou[part] = _overlap(np.ascontiguousarray(one.T), np.ascontiguousarray(two.T), offset)
    return iou


def box_areas(boxes: Floats | Doubles, offset: int = 0) -> Doubles:
    """(N,) areas of (N, 4) boxes, with ``offset`` added to their sides."""
    sides = boxes[:, 2:].astype(np.float64) - boxes[:, :2] + offset
    areas: Doubles = sides[:, 0] * sides[:, 1]
    return areas


def checked(boxes: npt.ArrayLike, what: str | Callable[[int], str], thin: bool = False) -> Floats:
    """Boxes as (N, 4) float32.

    Args:
        boxes: (N, 4) or empty.
        what: what the boxes are, for the message; a function gets the row of the wrong one.
        thin: whether boxes may be thinner than a pixel: with inclusive ends, x2 from x1 - 1 on.

    Raises:
        DataError: if one is inverted or not finite: its overlap with anything would be undefined,
            and an undefined overlap passes a threshold test in some programs.
    """
    array = np.asarray(boxes, np.float32).reshape(-1, 4)
    # At the precision that they came with: a width of 0 could be below it in float32.
    given = np.asarray(boxes).reshape(-1, 4)
    low, high = given[:, :2] - 1 if thin else given[:, :2], given[:, 2:]
    if not (np.isfinite(array).all() and (low <= high).all()):
        row = int(np.argmin(np.isfinite(array).all(axis=1) & (low <= high).all(axis=1)))
        name = f"{what}, box {row}" if isinstance(what, str) else what(row)
        raise DataError(
            f"{name}: {array[row].tolist()}; expected finite x1, y1, x2, y2 with x1 <= x2 and y1 <= y2 "
            "(a box is two corners, not a corner, width and height)"
        )
    return array


def _overlap(first: Floats, second: Floats, offset: int) -> Floats:
    """IoU of boxes whose four coordinates are the first axis; the others are broadcast."""
    # Offset 2 is added in two steps, as the reference does: float32 rounds each of them.
    grow, side = np.float32(offset == 2), np.float32(1 if offset == 2 else offset)
    a_high, b_high = first[2:] + grow, second[2:] + grow
    inner = np.minimum(a_high, b_high) - np.maximum(first[:2], second[:2]) + side
    np.maximum(inner, 0, out=inner)
    shared = inner[0] * inner[1]
    union = _area(first[:2], a_high, side) + _area(second[:2], b_high, side) - shared
    iou: Floats = np.divide(shared, union, out=np.zeros_like(union), where=union > 0)
    return iou


def _area(low: Floats, high: Floats, side: np.float32) -> Floats:
    sides = high - low + side
    area: Floats = sides[0] * sides[1]
    return area
