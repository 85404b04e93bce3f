"""Frames and boxes at the size that models see.

The reference resizes every frame so that its short side is 224 pixels and its long side the nearest
multiple of 16, bilinear without antialiasing, on float values, with PyTorch's float32 coordinates.
Those are rounded enough to show: exact ones, as ``cv2.resize`` has, move normalised pixels by 1e-4.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from ovvol_bench.errors import SettingError
from ovvol_bench.types import Floats, Ints

Size = tuple[int, int]


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


def resize_frames(frames: Iterable[npt.NDArray[np.uint8]], size: Size) -> Floats:
    """Scale frames to [0, 1] and to one size, bilinear without antialiasing.

    Args:
        frames: T arrays of (H, W, 3) uint8.
        size: (h, w) of the result, pixels.

    Returns:
        (T, h, w, 3) float32 in [0, 1], within 1e-6 of PyTorch's ``interpolate(mode="bilinear")``.
    """
    resized = [_resize(frame, size) for frame in frames]
    return np.stack(resized) if resized else np.empty((0, *size, 3), np.float32)


def _resize(frame: npt.NDArray[np.uint8], size: Size) -> Floats:
    height, width, channels = frame.shape
    if (height, width) == size:
        return frame.astype(np.float32) / np.float32(255)
    upper, lower, down = _neighbours(height, size[0])
    left, right, across = _neighbours(width, size[1])
    # Columns of all channels are one axis: long inner loops make this as quick as OpenCV.
    columns = [(side[:, None] * channels + np.arange(channels)).ravel() for side in (left, right)]
    flat = frame.reshape(height, -1)
    weights = np.repeat(across, channels)
    top, bottom = (
        _mixed(rows.take(columns[0], 1), rows.take(columns[1], 1), weights)
        for rows in (flat.take(upper, 0), flat.take(lower, 0))
    )
    mixed = _mixed(top, bottom, down[:, None])
    mixed /= 255
    return mixed.reshape(*size, channels)


def _neighbours(length: int, new_length: int) -> tuple[Ints, Ints, Floats]:
    """For every new position: the old ones before and after, and the weight of the one after."""
    scale = np.float32(length) / np.float32(new_length)
    centers = np.arange(new_length, dtype=np.float32) + np.float32(0.5)
    positions = np.maximum(scale * centers - np.float32(0.5), np.float32(0))
    before = positions.astype(np.int64)
    return before, np.minimum(before + 1, length - 1), positions - before.astype(np.float32)


def _mixed(first: npt.NDArray[Any], second: npt.NDArray[Any], weight: Floats) -> Floats:
    """``first + (second - first) * weight`` in float32."""
    start = first.astype(np.float32)
    mixed = second.astype(np.float32)
    mixed -= start
    mixed *= weight
    mixed += start
    return mixed


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
