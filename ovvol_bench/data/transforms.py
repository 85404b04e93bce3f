"""Frames and boxes at the size that models see.

The reference resizes every frame so that its short side is 224 pixels and its long side the nearest
multiple of 16, with bilinear interpolation and no antialiasing on float values. ``cv2.resize`` with
``INTER_LINEAR`` on float32 gives the same pixels (on uint8 it would round them).
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt

from ovvol_bench.errors import SettingError
from ovvol_bench.types import Floats

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
            f"short_side={short_side} does not fit multiple={multiple}: expected a positive multiple of it. "
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
        (T, h, w, 3) float32 in [0, 1].
    """
    resized = [_resize(frame.astype(np.float32) / np.float32(255), size) for frame in frames]
    return np.stack(resized) if resized else np.empty((0, *size, 3), np.float32)


def _resize(frame: Floats, size: Size) -> Floats:
    if frame.shape[:2] == size:
        return frame
    resized: Floats = cv2.resize(frame, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    return resized


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
