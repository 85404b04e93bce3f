"""Masks as run lengths in COCO's compressed form, read from JSON and checked before native code sees them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Bools, Doubles, Floats, Ints

MOST_PIXELS = 1 << 28  # of a frame; more are a mistake in a file, or meant to fill memory
_LONGEST_OUTLINE = 1 << 22  # pixels along polygons' edges: pycocotools keeps five points of each
_MOST_DIGITS = 7  # of a run: 35 bits, more than any frame has pixels, with room for a sign
_AT_ONCE = 256  # masks whose digits stay in a processor's cache
_FORMS = "is no mask; expected {size, counts} or a list of polygons"


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
        """Return the masks at the given positions, in that order."""
        return RleMasks(self.size, tuple(self.counts[row] for row in rows))

    def decode(self) -> Bools:
        """Decode to (M, H, W) bool."""
        from pycocotools import mask

        if not self.counts:
            return np.zeros((0, *self.size), np.bool_)
        pixels: Bools = np.ascontiguousarray(mask.decode(self._runs()).transpose(2, 0, 1)).astype(np.bool_)
        return pixels

    def areas(self) -> Ints:
        """Count the pixels of each mask, (M,) int64."""
        from pycocotools import mask

        runs = self._runs()
        # Of 256 masks or more pycocotools makes an error, as it writes their number into a byte.
        parts = [mask.area(runs[start : start + 255]) for start in range(0, len(runs), 255)]
        return np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)

    def boxes(self) -> Floats:
        """Return x1, y1, x2, y2 of the outermost pixels, (M, 4) float32, ends inclusive; zeros if empty."""
        from pycocotools import mask

        corner_and_size = np.asarray(mask.toBbox(self._runs()), np.float32).reshape(-1, 4)
        x, y, width, height = corner_and_size.T
        boxes: Floats = np.stack([x, y, x + width - 1, y + height - 1], axis=1)
        return np.where((self.areas() > 0)[:, None], boxes, np.float32(0))

    def iou(self, other: RleMasks) -> Doubles:
        """Return the (M, N) intersection over union with masks of another set of the same size."""
        from pycocotools import mask

        if not len(self) or not len(other):
            return np.zeros((len(self), len(other)))
        return np.asarray(mask.iou(self._runs(), other._runs(), [0] * len(other)), np.float64)

    def intersections(self, other: RleMasks) -> Doubles:
        """Count the (M, N) pixels in common with masks of another set of the same size."""
        sums = self.areas()[:, None] + other.areas()
        iou = self.iou(other)
        return np.rint(iou * sums / (1 + iou))  # iou is shared / (sum - shared), and shared a whole number

    def _runs(self) -> list[dict[str, Any]]:
        return [{"size": list(self.size), "counts": counts} for counts in self.counts]


@dataclass(frozen=True)
class SizedMasks:
    """Masks of E entries of a file, each of a size of its own.

    Attributes:
        counts: (E,) compressed run lengths, None where an entry has no mask.
        sizes: (E, 2) int64 (height, width), pixels.
    """

    counts: Sequence[bytes | None]
    sizes: Ints

    @classmethod
    def read(cls, values: Iterable[Any], sizes: Iterable[tuple[int, int]]) -> SizedMasks:
        """Read masks of JSON files, see `read_mask`; None stands for no mask.

        Raises:
            ValueError: if one is neither run lengths nor polygons.
        """
        pairs = zip(values, sizes, strict=True)
        found = [(None, (0, 0)) if value is None else read_mask(value, size) for value, size in pairs]
        return cls(
            [each[0] for each in found], np.array([each[1] for each in found], np.int64).reshape(-1, 2)
        )

    @cached_property
    def missing(self) -> Bools:
        """Entries without a mask, (E,)."""
        return np.array([counts is None for counts in self.counts], np.bool_)

    @cached_property
    def broken(self) -> Bools:
        """Masks whose run lengths don't add up to their size, (E,), which must not be decoded."""
        pixels = covered([counts or b"" for counts in self.counts])
        wrong: Bools = ~self.missing & (pixels != self.sizes.prod(axis=1))
        return wrong

    def boxes(self) -> Doubles:
        """Return x1, y1, x2, y2 of the outermost pixels, (E, 4), ends inclusive.

        NaN for missing and broken masks; 0, 0, -1, -1, a box without width and height, for empty ones.
        """
        boxes = np.full((len(self.counts), 4), np.nan)
        sound = ~(self.missing | self.broken)
        for height, width in np.unique(self.sizes[sound], axis=0).tolist():
            rows = np.flatnonzero(sound & (self.sizes == (height, width)).all(axis=1))
            found = RleMasks((height, width), tuple(self.counts[row] or b"" for row in rows.tolist()))
            boxes[rows] = np.where(found.areas()[:, None] > 0, found.boxes(), (0, 0, -1, -1))
        return boxes


def read_mask(value: Any, frame: tuple[int, int]) -> tuple[bytes, tuple[int, int]]:
    """Read a mask of a JSON file.

    Compressed run lengths may still be broken: `covered` checks those of many masks at once.

    Args:
        value: ``{size, counts}`` with counts as text or numbers, or a list of polygons ``[x, y, x, y, ...]``,
            whose union counts.
        frame: (height, width) of the frame that polygons are drawn in, pixels.

    Returns:
        Compressed run lengths, and their (height, width).

    Raises:
        ValueError: if it has another form, or a size that no frame has; says what was expected.
    """
    from pycocotools import mask

    if not isinstance(value, dict):
        return _drawn(value, frame), frame
    try:
        size, counts = value["size"], value["counts"]
        height, width = map(int, size)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ValueError(_FORMS) from None
    if [height, width] != size:  # text, or a half pixel
        raise ValueError(_FORMS)
    check_size((height, width))
    if isinstance(counts, str):
        if not counts or not counts.isascii():
            raise ValueError("has counts that are no compressed run lengths")
        return counts.encode(), (height, width)
    # Numbers are zeros and ones in turn, column by column.
    if not isinstance(counts, list) or not all(type(run) is int and run >= 0 for run in counts):
        raise ValueError("has counts that are neither text nor a list of whole numbers from 0")
    if sum(counts) != height * width:
        raise ValueError(f"has counts of {sum(counts)!s:.30} pixels in all; expected {height * width}")
    listed = {"size": [height, width], "counts": counts}
    return bytes(mask.frPyObjects(listed, height, width)["counts"]), (height, width)


def written_mask(counts: bytes, size: Sequence[int]) -> dict[str, Any]:
    """Return a mask of (height, width) as JSON files have it."""
    return {"size": list(size), "counts": counts.decode("latin-1")}


def check_size(size: tuple[int, int]) -> None:
    """Refuse sizes of frames that can't be.

    Raises:
        ValueError: if a side is below 1 or there are more than ``MOST_PIXELS``.
    """
    if min(size) < 1 or size[0] * size[1] > MOST_PIXELS:
        raise ValueError(
            f"height and width are {tuple(size)!s:.60}; expected at least 1 each, {MOST_PIXELS} pixels in all"
        )


def _drawn(polygons: Any, size: tuple[int, int]) -> bytes:
    """Draw polygons ``[x, y, x, y, ...]``, whose union counts."""
    from pycocotools import mask

    # Coordinates far away or an outline without end kill the process in pycocotools: all is checked first.
    if not isinstance(polygons, list) or not polygons:
        raise ValueError(_FORMS)
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


def covered(counts: Sequence[bytes]) -> Ints:
    """Count the pixels that compressed run lengths cover: (M,) int64, -1 where they are broken.

    Decoding broken ones reads memory that was never written, so those of other programs are checked first.
    A run is a number of 5-bit digits, the lowest first, each one character from ``0`` on; all but the last
    have 32 added, and 16 in the last one is the sign. From the fourth on, a run is the difference to the run
    before the one before it.

    >>> covered([b"52203", b"o"]).tolist()
    [16, -1]
    """
    parts = [_covered(counts[start : start + _AT_ONCE]) for start in range(0, len(counts), _AT_ONCE)]
    return np.concatenate([np.zeros(0, np.int64), *parts])


def _covered(counts: Sequence[bytes]) -> Ints:
    lengths = np.array([len(each) for each in counts], np.int64)
    total = np.zeros(len(counts), np.int64)
    if not lengths.sum():
        return total
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
    stored = np.add.reduceat((digits & 31) << (5 * place), starts)
    stored -= np.where(digits[last] & 16, 1 << (5 * (place[last] + 1)), 0)
    # Runs from the differences that are stored: those at odd places sum up, and at even ones from the third.
    owner_of_run = owner[starts]
    firsts = np.flatnonzero(np.diff(owner_of_run, prepend=-1))
    repeats = np.diff(firsts, append=len(stored))
    position = np.arange(len(stored)) - np.repeat(firsts, repeats)
    runs = stored.copy()
    for chain in (position % 2 == 1, (position % 2 == 0) & (position > 0)):
        sums = np.cumsum(np.where(chain, stored, 0))
        before = np.repeat(np.insert(sums, 0, 0)[firsts], repeats)
        runs[chain] = (sums - before)[chain]
    np.add.at(total, owner_of_run, runs)
    total[owner[wrong]] = total[owner_of_run[runs < 0]] = -1
    return total


def nearest_cells(source: int, target: int) -> Ints:
    """Return the (target,) cell, of a line of ``source``, that each of ``target`` cells has its centre in.

    >>> nearest_cells(2, 5)
    array([0, 0, 1, 1, 1])
    """
    centres: Ints = (2 * np.arange(target, dtype=np.int64) + 1) * source // (2 * target)
    return centres


def bilinear_winners(shares: npt.NDArray[np.uint8], size: tuple[int, int]) -> Ints:
    """Return the slot that wins each pixel once shares are enlarged bilinearly, the first of equals.

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


def _bilinear(source: int, target: int) -> Doubles:
    """Return the (target, source) weight of every cell of a line in every cell of another."""
    place = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    weights: Doubles = np.maximum(1 - np.abs(place[:, None] - np.arange(source)), 0)
    return weights
