"""Masks as JSON files have them: run lengths, compressed or as numbers, or polygons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ovvol_bench.formats.entries import Segmentations

Segmentation = tuple[bytes, tuple[int, int]]
"""Run lengths in compressed form, and (height, width)."""


def read_segmentation(value: Any, size: tuple[int, int] | None = None) -> Segmentation:
    """A mask of a file.

    Args:
        value: ``{size, counts}`` with counts as text or numbers, or a list of polygons ``[x, y, x, y, ...]``.
        size: (height, width) of the frame, which polygons are drawn in; None where polygons can't be read.

    Raises:
        TypeError, KeyError, ValueError: if it is neither.
    """
    if isinstance(value, Mapping):
        height, width = (int(side) for side in value["size"])
        counts = value["counts"]
        if isinstance(counts, str):
            return counts.encode("latin-1"), (height, width)
        return _compressed(counts, (height, width)), (height, width)
    if size is None:
        raise ValueError("polygons, and the frame's size is unknown")
    return _drawn(value, size), size


def read_segmentations(values: Iterable[Any], sizes: Iterable[tuple[int, int] | None]) -> Segmentations:
    """The masks of entries; None where there is none.

    Raises:
        TypeError, KeyError, ValueError: if one is neither run lengths nor polygons.
    """
    read = [None if v is None else read_segmentation(v, s) for v, s in zip(values, sizes, strict=True)]
    counts = tuple(None if each is None else each[0] for each in read)
    return Segmentations(
        counts, np.array([(0, 0) if each is None else each[1] for each in read], np.int64).reshape(-1, 2)
    )


def written(counts: bytes, size: Sequence[int]) -> dict[str, Any]:
    """A mask as files have it."""
    return {"size": list(size), "counts": counts.decode("latin-1")}


def _compressed(counts: Sequence[int], size: tuple[int, int]) -> bytes:
    from pycocotools import mask

    runs = [int(run) for run in counts]
    if min(runs, default=0) < 0 or sum(runs) != size[0] * size[1]:
        raise ValueError("run lengths that don't add up to the size")
    compressed: bytes = mask.frPyObjects([{"size": list(size), "counts": runs}], *size)[0]["counts"]
    return compressed


def _drawn(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> bytes:
    from pycocotools import mask

    corners = [[float(number) for number in polygon] for polygon in polygons]
    if not corners or any(len(each) < 6 or len(each) % 2 for each in corners):
        raise ValueError("polygons of fewer than three corners")
    drawn: bytes = mask.merge(mask.frPyObjects(corners, *size))["counts"]
    return drawn
