"""Frames and boxes at the size that models see, and augmentations of clips.

The reference resizes every frame so that its short side is 224 pixels and its long side the nearest
multiple of 16, bilinear without antialiasing, on float values, with PyTorch's float32 coordinates.
Those are rounded enough to show: exact ones, as ``cv2.resize`` has, move normalised pixels by 1e-4.

Clips to train on are cut, resized and mirrored as uint8, a quarter of the memory on the way to the device,
where they are normalised; all frames of a clip alike, so that what moves keeps its path.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Floats, Ints
from ovvol_bench.errors import SettingError

Size = tuple[int, int]
Bytes = npt.NDArray[np.uint8]

_NO_FRACTIONS = np.empty(0, np.uint16)  # OpenCV: places are whole pixels


def target_size(size: Size, short_side: int = 224, multiple: int = 16) -> Size:
    """Size of a frame after resizing: the short side is fixed, the long side a multiple.

    The long side is ``multiple * round(long / short * short_side / multiple)`` in double precision,
    halves to even, as in the reference; a square stays a square.

    Args:
        size: (height, width) of the original frame, pixels.
        short_side: of the result, pixels; a multiple of ``multiple``.
        multiple: what both sides are multiples of, usually the patch size.

    Returns:
        (height, width) of the resized frame, pixels.

    Raises:
        SettingError: if ``short_side`` is not a positive multiple of ``multiple``.

    >>> target_size((720, 1280)), target_size((500, 375)), target_size((280, 310))
    ((224, 400), (304, 224), (224, 256))
    """
    if multiple < 1 or short_side < multiple or short_side % multiple:
        raise SettingError(
            f"dataset.short_side={short_side} is no positive multiple of dataset.multiple={multiple}. "
            f"Set short_side to {max(1, round(short_side / max(multiple, 1))) * max(multiple, 1)}."
        )
    short, long = sorted(size)
    long_side = multiple * round(long / short * short_side / multiple)
    return (short_side, long_side) if size[0] <= size[1] else (long_side, short_side)


def resize_frames(frames: Iterable[Bytes], size: Size, count: int) -> Floats:
    """Scale frames to [0, 1] and to one size, bilinear without antialiasing.

    Args:
        frames: T arrays of (H, W, 3) uint8; each is done with before the next is asked for.
        size: (h, w) of the result, pixels.
        count: T.

    Returns:
        (T, h, w, 3) float32 in [0, 1], within 2e-6 of PyTorch's ``interpolate(mode="bilinear")``.
    """
    resized = np.empty((count, *size, 3), np.float32)
    resizers: dict[Size, _Resizer] = {}
    for frame, target in zip(frames, resized, strict=True):
        height, width = frame.shape[:2]
        if (height, width) == size:
            np.divide(frame, np.float32(255), out=target)
            continue
        if (height, width) not in resizers:
            resizers[height, width] = _Resizer((height, width), size)
        resizers[height, width].resize(frame, target)
    return resized


class _Resizer:
    """Resizes frames of one size to another, always in the same memory: fresh pages cost as much as the work.

    Args:
        size: (height, width) of the frames, pixels.
        new_size: (height, width) that they are resized to, pixels.
    """

    def __init__(self, size: Size, new_size: Size) -> None:
        upper, lower, down = _neighbours(size[0], new_size[0])
        left, right, across = _neighbours(size[1], new_size[1])
        # the column and the row that every pixel is taken from, as OpenCV wants them
        self._corners = np.empty((2, 2, *new_size, 2), np.int16)
        self._corners[..., 0] = np.stack([left, right])[None, :, None, :]
        self._corners[..., 1] = np.stack([upper, lower])[:, None, :, None]
        self._across, self._down = np.repeat(across, 3), down[:, None]
        self._bytes = np.empty((*new_size, 3), np.uint8)
        self._start, self._top = (np.empty((new_size[0], 3 * new_size[1]), np.float32) for _ in range(2))

    def resize(self, frame: Bytes, target: Floats) -> None:
        """Write a frame, resized and in [0, 1], to (h, w, 3) float32, contiguous."""
        bottom = target.reshape(self._top.shape)
        for corners, row in zip(self._corners, (self._top, bottom), strict=True):
            for places, values in zip(corners, (self._start, row), strict=True):
                cv2.remap(frame, places, _NO_FRACTIONS, cv2.INTER_NEAREST, dst=self._bytes)
                np.copyto(values, self._bytes.reshape(values.shape))
            _mix(self._start, row, self._across)
        _mix(self._top, bottom, self._down)
        bottom /= 255


def _neighbours(length: int, new_length: int) -> tuple[Ints, Ints, Floats]:
    """For every new position: the old ones before and after, and the weight of the one after."""
    scale = np.float32(length) / np.float32(new_length)
    centers = np.arange(new_length, dtype=np.float32) + np.float32(0.5)
    positions = np.maximum(scale * centers - np.float32(0.5), np.float32(0))
    before = positions.astype(np.int64)
    return before, np.minimum(before + 1, length - 1), positions - before.astype(np.float32)


def _mix(first: Floats, second: Floats, weight: Floats) -> None:
    """``second`` becomes ``first + (second - first) * weight``."""
    second -= first
    second *= weight
    second += first


def resize_boxes(boxes: Floats, size: Size, new_size: Size) -> Floats:
    """Scale boxes with their frame: both ends by the ratio of the sizes, as the reference does.

    Args:
        boxes: (..., 4) x1, y1, x2, y2 in pixels of a frame of ``size``.
        size: (height, width) that the boxes refer to.
        new_size: (height, width) that they shall refer to.

    Returns:
        (..., 4) float32; an inclusive end stays the scaled coordinate of the last pixel inside.
    """
    scale = np.array([new_size[1] / size[1], new_size[0] / size[0]] * 2, np.float32)
    return (np.asarray(boxes, np.float32) * scale).astype(np.float32)


SCALES = (1.0, 0.875, 0.75, 0.66)
"""Window sizes of TSN and VideoMAE, as shares of the largest window."""

# Corners, centre, edges and quarters: the points of a 5 x 5 grid whose row and column are both even or odd.
_POSITIONS = [(row, column) for row in range(5) for column in range(5) if (row + column) % 2 == 0]


class Window(NamedTuple):
    """A part of a frame, pixels."""

    top: int
    left: int
    height: int
    width: int


def draw_window(frame: Size, size: Size, scales: tuple[float, ...], rng: np.random.Generator) -> Window:
    """Draw a window by scale and position.

    Wang et al., "Temporal Segment Networks", ECCV 2016, section 3.2 (corner cropping and scale
    jittering): height and width are shares of the largest window of the shape of ``size``, drawn from
    ``scales`` so that they are the same or neighbours in it; the window lies at one of 13 fixed
    positions. With the scale 1 alone, frames of the shape of ``size`` are taken whole.

    Args:
        frame: (height, width) of the frames, pixels.
        size: (height, width) that the window will be resized to.
        scales: in (0, 1].
        rng: what to draw from.

    Returns:
        A window inside the frame, at least 1 x 1.
    """
    largest = min(frame[0] / size[0], frame[1] / size[1])
    pairs = [(i, j) for i in range(len(scales)) for j in range(len(scales)) if abs(i - j) <= 1]
    drawn = pairs[rng.integers(len(pairs))]
    height, width = (
        min(limit, max(1, round(side * largest * scales[index])))
        for limit, side, index in zip(frame, size, drawn, strict=True)
    )
    row, column = _POSITIONS[rng.integers(len(_POSITIONS))]
    return Window((frame[0] - height) * row // 4, (frame[1] - width) * column // 4, height, width)


def resize_clip(frames: Bytes, size: Size) -> Bytes:
    """Resize a clip without its shape in mind.

    Args:
        frames: (T, H, W, 3), T from 1.
        size: (h, w) of the result, pixels.

    Returns:
        (T, h, w, 3): bilinear, or the mean over each pixel's area where both sides shrink;
        ``frames`` itself where the size is already right.
    """
    if frames.shape[1:3] == size:
        return frames
    shrinks = frames.shape[1] >= size[0] and frames.shape[2] >= size[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.stack([cv2.resize(frame, size[::-1], interpolation=method) for frame in frames])


@dataclass(frozen=True)
class Augmentation:
    """Changes of a clip before it is learnt from.

    Attributes:
        scales: sizes of the window that is cut out, see `draw_window`.
        flip: mirror half of the clips, left to right.

    Raises:
        SettingError: if there is no scale, or one is not in (0, 1].
    """

    scales: tuple[float, ...] = SCALES
    flip: bool = True

    def __post_init__(self) -> None:
        if not self.scales or not all(0 < scale <= 1 for scale in self.scales):
            given = ",".join(f"{scale:g}" for scale in self.scales) or "none"
            raise SettingError(
                f"recipe.crop_scales={given}: expected shares of the largest window, above 0 and up to 1."
            )

    def apply(self, frames: Bytes, size: Size, rng: np.random.Generator) -> Bytes:
        """Cut, resize and mirror a clip.

        Args:
            frames: (T, H, W, 3), T from 1; not written to.
            size: (h, w) of the result, pixels.
            rng: what to draw from; as many draws whatever the clip.

        Returns:
            (T, h, w, 3), possibly a view of ``frames``.
        """
        window = draw_window((frames.shape[1], frames.shape[2]), size, self.scales, rng)
        mirrored = rng.random() < 0.5 and self.flip
        rows = slice(window.top, window.top + window.height)
        columns = slice(window.left, window.left + window.width)
        resized = resize_clip(frames[:, rows, columns], size)
        return resized[:, :, ::-1] if mirrored else resized
