"""Pictures of what slots win."""

from __future__ import annotations

import colorsys

import numpy as np
import numpy.typing as npt
from torch import Tensor

_CLIPS, _STEPS = 4, 4
_GOLDEN_ANGLE = 0.618  # hues this far apart stay apart however many there are
_PATCH = 8  # pixels of a patch where there are no frames to show it on


def slot_picture(masks: Tensor, video: Tensor | None) -> npt.NDArray[np.uint8]:
    """Up to 4 clips below each other: a row of frames, and below it the frames in the colours of their slots.

    Args:
        masks: (B, K, S, h, w).
        video: (B, T, H, W, 3) uint8, T a multiple of S; None: the colours alone are shown.

    Returns:
        (clips * rows * H, steps * W, 3) uint8, of up to 4 evenly spread time steps.
    """
    winners = masks[:_CLIPS].argmax(dim=1).cpu().numpy()
    shown = np.linspace(0, winners.shape[1] - 1, min(_STEPS, winners.shape[1])).round().astype(int)
    colours = _palette(masks.shape[1])[winners[:, shown]]
    if video is None:
        return _tiled([_enlarged(colours, _PATCH, _PATCH)])
    frames = video[:_CLIPS, (shown * (video.shape[1] // winners.shape[1])).tolist()].cpu().numpy()
    rows, columns = (frames.shape[axis] // colours.shape[axis] for axis in (2, 3))
    tinted = (0.4 * frames + 0.6 * _enlarged(colours, rows, columns)).astype(np.uint8)
    return _tiled([frames, tinted])


def _palette(count: int) -> npt.NDArray[np.uint8]:
    hues = [colorsys.hsv_to_rgb(index * _GOLDEN_ANGLE % 1, 0.75, 0.95) for index in range(count)]
    return np.array([[round(255 * value) for value in hue] for hue in hues], np.uint8)


def _enlarged(grid: npt.NDArray[np.uint8], rows: int, columns: int) -> npt.NDArray[np.uint8]:
    return grid.repeat(rows, axis=2).repeat(columns, axis=3)


def _tiled(kinds: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """Pictures (B, S, H, W, 3) of one or more kinds: clips and kinds downwards, time to the right."""
    stacked = np.stack(kinds, axis=1)
    clips, rows, steps, height, width, _ = stacked.shape
    return stacked.transpose(0, 1, 3, 2, 4, 5).reshape(clips * rows * height, steps * width, 3)
