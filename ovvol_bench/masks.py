"""Masks as run lengths, in COCO's compressed form: a few dozen bytes where pixels take a megabyte."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Bools, Floats, Ints


@dataclass(frozen=True)
class RleMasks:
    """M masks of one size.

    Attributes:
        size: (height, width), pixels.
        counts: (M,) run lengths, column by column, as ``pycocotools.mask`` writes them.
    """

    size: tuple[int, int]
    counts: tuple[bytes, ...]

    @classmethod
    def of(cls, masks: Bools) -> RleMasks:
        """Encode (M, H, W) bool."""
        from pycocotools import mask

        height, width = masks.shape[1:]
        planes = np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8))
        return cls((height, width), tuple(each["counts"] for each in mask.encode(planes)))

    def __len__(self) -> int:
        return len(self.counts)

    def keep(self, rows: Sequence[int] | Ints) -> RleMasks:
        """The masks at the given positions, in that order."""
        return RleMasks(self.size, tuple(self.counts[row] for row in rows))

    def decode(self) -> Bools:
        """(M, H, W) bool."""
        from pycocotools import mask

        if not self.counts:
            return np.zeros((0, *self.size), np.bool_)
        pixels: Bools = np.ascontiguousarray(mask.decode(self._runs()).transpose(2, 0, 1)).astype(np.bool_)
        return pixels

    def areas(self) -> Ints:
        """(M,) int64 pixels of each mask."""
        from pycocotools import mask

        runs = self._runs()
        # Of 256 masks or more pycocotools makes an error, as it writes their number into a byte.
        parts = [mask.area(runs[start : start + 255]) for start in range(0, len(runs), 255)]
        return np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)

    def boxes(self) -> Floats:
        """(M, 4) float32 x1, y1, x2, y2 of the outermost pixels, ends inclusive; zeros for an empty mask."""
        from pycocotools import mask

        corner_and_size = np.asarray(mask.toBbox(self._runs()), np.float32).reshape(-1, 4)
        x, y, width, height = corner_and_size.T
        boxes: Floats = np.stack([x, y, x + width - 1, y + height - 1], axis=1)
        return np.where((self.areas() > 0)[:, None], boxes, np.float32(0))

    def iou(self, other: RleMasks) -> npt.NDArray[np.float64]:
        """(M, N) intersection over union with the masks of another set of the same size."""
        from pycocotools import mask

        if not len(self) or not len(other):
            return np.zeros((len(self), len(other)))
        return np.asarray(mask.iou(self._runs(), other._runs(), [0] * len(other)), np.float64)

    def intersections(self, other: RleMasks) -> npt.NDArray[np.float64]:
        """(M, N) pixels in common with the masks of another set of the same size."""
        sums = self.areas()[:, None] + other.areas()
        iou = self.iou(other)
        return np.rint(iou * sums / (1 + iou))  # iou is shared / (sum - shared), and shared a whole number

    def _runs(self) -> list[dict[str, Any]]:
        return [{"size": list(self.size), "counts": counts} for counts in self.counts]


MOST_PIXELS = 1 << 28
"""Of a frame; more are a mistake in a file, or meant to fill memory."""

_LONGEST_OUTLINE = 1 << 22
"""Pixels along the edges of a polygon: pycocotools keeps five points of each."""


def check_size(size: tuple[int, int]) -> None:
    """Refuse sizes of frames that can't be.

    Raises:
        ValueError: if a side is below 1 or there are more than ``MOST_PIXELS``.
    """
    if min(size) < 1 or size[0] * size[1] > MOST_PIXELS:
        raise ValueError(
            f"height and width are {tuple(size)!s:.60}; expected at least 1 each, {MOST_PIXELS} pixels in all"
        )


def run_lengths_of(counts: Any, size: tuple[int, int]) -> bytes:
    """Compress run lengths that are listed as numbers: runs of zeros and ones in turn, column by column.

    Raises:
        ValueError: if they are something else or don't add up to the size.
    """
    from pycocotools import mask

    if not isinstance(counts, list) or not all(type(run) is int and run >= 0 for run in counts):
        raise ValueError("has counts that are neither text nor a list of whole numbers from 0")
    if sum(counts) != size[0] * size[1]:
        raise ValueError(f"has counts of {sum(counts)!s:.30} pixels in all; expected {size[0] * size[1]}")
    return bytes(mask.frPyObjects({"size": list(size), "counts": counts}, *size)["counts"])


def run_lengths_of_polygons(polygons: Any, size: tuple[int, int]) -> bytes:
    """Draw polygons ``[x, y, x, y, ...]``, whose union counts.

    Everything is checked first: coordinates far away or an outline without end kill the process in
    pycocotools.

    Raises:
        ValueError: if they are something else.
    """
    from pycocotools import mask

    if not isinstance(polygons, list) or not polygons:
        raise ValueError("is no mask; expected {size, counts} or a list of polygons")
    check_size(size)
    outline = 0.0
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError("has a polygon that is no list of at least 3 points x, y")
        if not all(type(value) in (int, float) for value in polygon):
            raise ValueError("has a polygon with a coordinate that is no finite number")
        if not all(abs(value) <= _LONGEST_OUTLINE for value in polygon):  # NaN isn't either
            raise ValueError(f"has a polygon with a coordinate beyond {_LONGEST_OUTLINE} pixels")
        points = np.array(polygon, np.float64).reshape(-1, 2)
        outline += float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum())
        if outline > _LONGEST_OUTLINE:
            raise ValueError(f"has polygons whose outlines are longer than {_LONGEST_OUTLINE} pixels")
    return bytes(mask.merge(mask.frPyObjects(polygons, *size))["counts"])


def nearest_cells(source: int, target: int) -> Ints:
    """(target,) cell of a line of ``source`` cells that the centre of each of ``target`` cells lies in.

    >>> nearest_cells(2, 5)
    array([0, 0, 1, 1, 1])
    """
    centres: Ints = (2 * np.arange(target, dtype=np.int64) + 1) * source // (2 * target)
    return centres


def bilinear_winners(shares: npt.NDArray[np.uint8], size: tuple[int, int]) -> Ints:
    """The slot that wins each pixel once shares are enlarged bilinearly, the first of equals.

    Pixels are areas and the first and last cells go on beyond their centres, as in PyTorch's ``interpolate``
    with ``align_corners=False``.

    Args:
        shares: (K, h, w) of every slot in every patch.
        size: (H, W) of the frame.

    Returns:
        (H, W) int64 in [0, K).
    """
    down, across = (_bilinear(source, target) for source, target in zip(shares.shape[1:], size, strict=True))
    best, winner = np.full(size, -1.0), np.zeros(size, np.int64)
    for slot, share in enumerate(shares):  # one at a time: frames may be large and slots many
        enlarged = down @ share @ across.T
        better = enlarged > best
        best[better], winner[better] = enlarged[better], slot
    return winner


def _bilinear(source: int, target: int) -> npt.NDArray[np.float64]:
    """(target, source) weight of every cell of a line in every cell of another."""
    place = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    weights: npt.NDArray[np.float64] = np.maximum(1 - np.abs(place[:, None] - np.arange(source)), 0)
    return weights


def covered(counts: Sequence[bytes]) -> Ints:
    """(M,) int64 pixels that compressed run lengths cover, -1 where they are broken.

    Decoding broken ones reads memory that was never written, so those of other programs are checked first.
    A run is a number of 5-bit digits, the lowest first, each one character from ``0`` on; all but the last
    have 32 added, and 16 in the last one is the sign. From the fourth on, a run is the difference to the run
    before the one before it.

    >>> covered([b"52203", b"o"]).tolist()
    [16, -1]
    """
    parts = [_covered(counts[start : start + _AT_ONCE]) for start in range(0, len(counts), _AT_ONCE)]
    return np.concatenate([np.zeros(0, np.int64), *parts])


_AT_ONCE = 256
"""Masks whose digits stay in a processor's cache."""

_MOST_DIGITS = 7
"""Of a run: 35 bits, more than any frame has pixels, with room for a sign."""


def _covered(counts: Sequence[bytes]) -> Ints:
    lengths = np.array([len(each) for each in counts], np.int64)
    if not lengths.sum():
        return np.zeros(len(counts), np.int64)
    owner = np.repeat(np.arange(len(counts)), lengths)
    digits = np.frombuffer(b"".join(counts), np.uint8).astype(np.int64) - 48
    last = digits & 32 == 0
    ends = np.flatnonzero(np.diff(owner, append=len(counts)))
    wrong = (digits < 0) | (digits > 63)
    wrong[ends] |= ~last[ends]
    last[ends] = True  # so that a mask's digits end with it, whole or not
    starts = np.flatnonzero(np.insert(last[:-1], 0, True))
    place = np.arange(len(digits)) - np.repeat(starts, np.diff(starts, append=len(digits)))
    wrong |= place > _MOST_DIGITS
    place = np.minimum(place, _MOST_DIGITS)
    runs = np.add.reduceat((digits & 31) << (5 * place), starts)
    runs -= np.where(digits[last] & 16, 1 << (5 * (place[last] + 1)), 0)
    runs, total = _undone(runs, owner[starts]), np.zeros(len(counts), np.int64)
    np.add.at(total, owner[starts], runs)
    total[owner[wrong]] = total[owner[starts][runs < 0]] = -1
    return total


def _undone(runs: Ints, owner: Ints) -> Ints:
    """The runs of masks, from the differences that are stored."""
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    lengths = np.diff(starts, append=len(runs))
    position = np.arange(len(runs)) - np.repeat(starts, lengths)
    undone = runs.copy()
    for chain in (position % 2 == 1, (position % 2 == 0) & (position > 0)):
        sums = np.cumsum(np.where(chain, runs, 0))
        before = np.repeat(np.insert(sums, 0, 0)[starts], lengths)
        undone[chain] = (sums - before)[chain]
    return undone
