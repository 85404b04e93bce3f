"""Masks as JSON files have them: run lengths, compressed or as numbers, or polygons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ovvol_bench.formats.entries import Segmentations
from ovvol_bench.masks import check_size, run_lengths_of, run_lengths_of_polygons

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
        check_size((height, width))
        counts = value["counts"]
        if isinstance(counts, str):
            return counts.encode("latin-1"), (height, width)
        return run_lengths_of(counts, (height, width)), (height, width)
    if size is None:
        raise ValueError("polygons, and the frame's size is unknown")
    return run_lengths_of_polygons(value, size), size


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
