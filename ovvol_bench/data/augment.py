"""Crops, sizes and mirror images of clips to train on: uint8 in, uint8 out.

All frames of a clip are cut, resized and mirrored alike, so that what moves keeps its path. Pixels stay
bytes: a quarter of the memory on the way to the device, where they are normalised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from ovvol_bench.data.transforms import Size
from ovvol_bench.errors import SettingError

Frames = npt.NDArray[np.uint8]

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


def resize_clip(frames: Frames, size: Size) -> Frames:
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

    def apply(self, frames: Frames, size: Size, rng: np.random.Generator) -> Frames:
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
