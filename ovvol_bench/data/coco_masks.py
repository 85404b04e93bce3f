"""Masks as COCO's files hold them, all brought into one form: compressed run lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ovvol_bench.ragged import offsets_of
from ovvol_bench.types import Ints

Size = tuple[int, int]

_FIRST, _LAST = 48, 111  # compressed run lengths are characters between these, 6 bits each:
_BITS, _SIGN, _MORE = (
    5,
    16,
    32,
)  # 5 bits of a number, the highest its sign in the last group; then whether more follow
_LONGEST = 8  # groups of the largest number that is told from larger ones
_VALID = bytes(range(_FIRST, _LAST + 1))
_CHUNK = 512  # masks that are checked at once, as many as stay in a processor's cache


def run_lengths(segmentation: Any, size: Size) -> bytes:
    """Compressed run lengths of one mask.

    Args:
        segmentation: compressed run lengths (``counts`` is text), uncompressed ones (``counts`` is a list)
            or polygons (a list of lists x, y, x, y, ...), whose union counts.
        size: (height, width) of the frame, pixels.

    Raises:
        ValueError: if it has another form or size; says what was expected.
    """
    if isinstance(segmentation, list):
        return _of_polygons(segmentation, size)
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        raise ValueError("is no mask; expected {size, counts} or a list of polygons")
    if segmentation["size"] != list(size):
        raise ValueError(f"is of size {segmentation['size']}; expected [height, width] {list(size)}")
    counts = segmentation["counts"]
    if isinstance(counts, str):
        return _checked(counts)
    return _of_counts(counts, size)


def _checked(counts: str) -> bytes:
    runs = counts.encode()
    if not runs or runs.translate(None, _VALID):
        raise ValueError("has counts that are no compressed run lengths")
    return runs


def _of_counts(counts: Any, size: Size) -> bytes:
    """Runs of zeros and ones in turn, column by column."""
    from pycocotools import mask

    if not isinstance(counts, list) or not all(type(run) is int and run >= 0 for run in counts):
        raise ValueError("has counts that are neither text nor a list of whole numbers from 0")
    if sum(counts) != size[0] * size[1]:
        raise ValueError(f"has counts of {sum(counts)} pixels in all; expected {size[0] * size[1]}")
    return bytes(mask.frPyObjects({"size": list(size), "counts": counts}, *size)["counts"])


def _of_polygons(polygons: Sequence[Any], size: Size) -> bytes:
    from pycocotools import mask

    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError("has a polygon that is no list of at least 3 points x, y")
        if not all(type(value) in (int, float) and np.isfinite(value) for value in polygon):
            raise ValueError("has a polygon with a coordinate that is no finite number")
    return bytes(mask.merge(mask.frPyObjects(list(polygons), *size))["counts"])


def wrong_totals(masks: Sequence[bytes], pixels: Ints) -> Ints:
    """Which compressed run lengths don't add up to the pixels of their frame, as those cut off don't.

    Args:
        masks: M run lengths, none empty.
        pixels: (M,) height times width.

    Returns:
        Positions of the wrong ones.
    """
    parts = [
        start + np.flatnonzero(_totals(masks[start : start + _CHUNK]) != pixels[start : start + _CHUNK])
        for start in range(0, len(masks), _CHUNK)
    ]
    return np.concatenate([np.zeros(0, np.int64), *parts])


def _totals(masks: Sequence[bytes]) -> Ints:
    """(M,) sum of the runs of each mask.

    A number is stored in groups of 5 bits, lowest first, and from the fourth on as the difference from
    the number two before; so a number counts as often as there are numbers of its kind behind it.
    """
    digits = np.frombuffer(b"".join(masks), np.uint8) - np.uint8(_FIRST)
    last = digits & _MORE == 0
    ends = np.cumsum(np.fromiter(map(len, masks), np.int64, len(masks)))
    last[ends - 1] = True  # of a mask that is cut off: no number reaches into the next mask
    stops = np.flatnonzero(last)
    numbers = _numbers((digits & (_MORE - 1)).astype(np.int8), stops)
    counts = np.diff(np.searchsorted(stops, ends - 1, side="right"), prepend=0)
    behind = np.repeat(offsets_of(counts)[1:], counts) - np.arange(len(numbers))
    weights = (behind + 1) // 2
    weights[offsets_of(counts)[:-1]] = 1
    return np.add.reduceat(numbers * weights, offsets_of(counts)[:-1])


def _numbers(groups: npt.NDArray[np.int8], stops: Ints) -> Ints:
    """Numbers whose highest groups of bits are at ``stops``, each with the sign of its highest bit."""
    highest = groups[stops]
    numbers = highest.astype(np.int64) - np.where(highest & _SIGN, _SIGN * 2, 0)
    lengths = np.diff(stops, prepend=-1)
    for place in range(1, min(int(lengths.max(initial=0)), _LONGEST)):
        longer = np.flatnonzero(lengths > place)
        numbers[longer] = (numbers[longer] << _BITS) + groups[stops[longer] - place]
    return numbers
