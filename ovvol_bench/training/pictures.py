"""Pictures of a validation: clips above the slots, or the features, of their patches."""

from __future__ import annotations

import colorsys

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

_CLIPS, _STEPS = 4, 4  # of a picture
_GOLDEN_ANGLE = 0.618  # hues this far apart stay apart however many there are
_PATCH = 8  # pixels of a patch where there are no frames to show it on


def slot_picture(masks: Tensor, video: Tensor | None) -> npt.NDArray[np.uint8]:
    """Draw up to 4 clips below each other: a row of frames, and below it the frames in their slots' colours.

    Args:
        masks: (B, K, S, h, w).
        video: (B, T, H, W, 3) uint8, T a multiple of S; None: the colours alone are shown.

    Returns:
        (clips * rows * H, steps * W, 3) uint8, of up to 4 evenly spread time steps.
    """
    winners = masks[:_CLIPS].argmax(dim=1).cpu().numpy()
    hues = [colorsys.hsv_to_rgb(slot * _GOLDEN_ANGLE % 1, 0.75, 0.95) for slot in range(masks.shape[1])]
    palette = np.array([[round(255 * value) for value in hue] for hue in hues], np.uint8)
    return _clips_above_colours(palette[winners], video, opacity=0.6)


def feature_picture(grid: Tensor, video: Tensor) -> npt.NDArray[np.uint8]:
    """Draw up to 4 clips as `slot_picture` does, coloured by the first three principal components.

    Args:
        grid: (B, S, h, w, D) features.
        video: (B, T, H, W, 3) uint8, T a multiple of S.

    Returns:
        (clips * 2 * H, steps * W, 3) uint8.
    """
    features = grid[:_CLIPS].float()
    flat = features.flatten(0, 3)
    with torch.autocast(grid.device.type, enabled=False):
        centered = flat - flat.mean(dim=0)
        _, axes = torch.linalg.eigh(centered.T @ centered)  # of ascending variance
        components = F.pad(centered @ axes[:, -3:].flip(1), (0, max(0, 3 - flat.shape[1])))
    low, high = components.aminmax(dim=0)
    colours = (255 * (components - low) / (high - low).clamp(min=1e-12)).byte()
    return _clips_above_colours(colours.view(*features.shape[:4], 3).cpu().numpy(), video, opacity=1.0)


def _clips_above_colours(
    colours: npt.NDArray[np.uint8], video: Tensor | None, opacity: float
) -> npt.NDArray[np.uint8]:
    """Draw colours (B, S, h, w, 3) of patches over frames, below the frames; see `slot_picture`."""
    steps = colours.shape[1]
    shown = np.linspace(0, steps - 1, min(_STEPS, steps)).round().astype(int)
    colours = colours[:, shown]
    if video is None:
        kinds = [colours.repeat(_PATCH, axis=2).repeat(_PATCH, axis=3)]
    else:
        frames = video[: len(colours), (shown * (video.shape[1] // steps)).tolist()].cpu().numpy()
        rows, columns = (frames.shape[axis] // colours.shape[axis] for axis in (2, 3))
        enlarged = colours.repeat(rows, axis=2).repeat(columns, axis=3)
        kinds = [frames, ((1 - opacity) * frames + opacity * enlarged).astype(np.uint8)]
    # clip, kind, step, row, column, colour: clips and kinds downwards, time to the right
    stacked = np.stack(kinds, axis=1)
    clips, kinds_shown, times, height, width, _ = stacked.shape
    return stacked.transpose(0, 1, 3, 2, 4, 5).reshape(clips * kinds_shown * height, times * width, 3)
