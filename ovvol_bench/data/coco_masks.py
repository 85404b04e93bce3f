"""Masks as COCO's files hold them, all brought into one form: compressed run lengths."""

from __future__ import annotations

from typing import Any

from ovvol_bench.files import shown
from ovvol_bench.masks import run_lengths_of, run_lengths_of_polygons

_FIRST, _LAST, _MORE = 48, 111, 32  # characters of 6 bits each; the highest says that the number goes on
_VALID = bytes(range(_FIRST, _LAST + 1))


def run_lengths(segmentation: Any, size: tuple[int, int]) -> bytes:
    """Compressed run lengths of one mask.

    Args:
        segmentation: compressed run lengths (``counts`` is text), uncompressed ones (``counts`` is a list)
            or polygons (a list of lists x, y, x, y, ...), whose union counts.
        size: (height, width) of the frame, pixels.

    Raises:
        ValueError: if it has another form or size; says what was expected.
    """
    if isinstance(segmentation, list):
        return run_lengths_of_polygons(segmentation, size)
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        raise ValueError("is no mask; expected {size, counts} or a list of polygons")
    if segmentation["size"] != list(size):
        raise ValueError(f"is of size {shown(segmentation['size'])}; expected [height, width] {list(size)}")
    counts = segmentation["counts"]
    if isinstance(counts, str):
        runs = counts.encode("utf-8", "surrogatepass")
        # One that is cut off would let pycocotools read on behind its end.
        if not runs or runs.translate(None, _VALID) or (runs[-1] - _FIRST) & _MORE:
            raise ValueError("has counts that are no compressed run lengths")
        return runs
    return run_lengths_of(counts, size)
