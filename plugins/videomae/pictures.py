"""Pictures of what masked pre-training sees and predicts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .model import VideoMAEPretraining, to_patches
from .training import patch_pixels, patch_statistics

_CLIPS, _FRAMES = 4, 3
_GREY = 0.5


def comparison(model: VideoMAEPretraining, video: Tensor, mask: Tensor) -> npt.NDArray[np.uint8]:
    """A row for each of up to 4 clips: up to 3 frames, each whole, masked, and with predictions.

    Args:
        model: the masked autoencoder.
        video: (B, T, 3, H, W) float, normalised.
        mask: (B, S*h*w) bool, true = hidden, the same number in every clip.

    Returns:
        (clips * H, frames * 3 * W, 3) uint8.
    """
    kinds = torch.stack(reconstruction(model, video[:_CLIPS], mask[:_CLIPS]), dim=2)
    shown = np.linspace(0, kinds.shape[1] - 1, min(_FRAMES, kinds.shape[1])).round().astype(int)
    # clip, frame, kind, row, column, colour -> clip, row, frame, kind, column, colour
    strip = kinds[:, shown.tolist()].permute(0, 3, 1, 2, 4, 5).flatten(2, 4).flatten(0, 1)
    pixels: npt.NDArray[np.uint8] = (strip.clamp(0, 1) * 255).round().byte().cpu().numpy()
    return pixels


def reconstruction(model: VideoMAEPretraining, video: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A clip whole, with grey for hidden patches, and with what is predicted for them.

    Predictions of normalised pixels are brought back with the true patch's mean and deviation, as in He
    et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022.

    Args:
        model: the masked autoencoder.
        video: (B, T, 3, H, W) float, normalised.
        mask: (B, S*h*w) bool, true = hidden, the same number in every clip.

    Returns:
        Three times (B, T, H, W, 3) float32; in [0, 1] but for predictions.
    """
    encoder = model.encoder
    patches = to_patches(video.float(), encoder.tubelet_size, encoder.patch_size)
    whole = patch_pixels(encoder, patches.flatten(0, 3)).unflatten(0, patches.shape[:4])
    hidden = mask.view(whole.shape[:4])
    with torch.no_grad():
        predicted = model(video, mask).float().reshape(-1, *whole.shape[4:])
    if model.norm_targets:
        mean, deviation = patch_statistics(whole[hidden])
        predicted = predicted * deviation + mean
    masked, filled = whole.clone(), whole.clone()
    masked[hidden], filled[hidden] = _GREY, predicted
    kernel = (encoder.tubelet_size, encoder.patch_size, encoder.patch_size)
    whole, masked, filled = (_to_frames(pixels, kernel) for pixels in (whole, masked, filled))
    return whole, masked, filled


def _to_frames(pixels: Tensor, kernel: tuple[int, int, int]) -> Tensor:
    """(B, S, h, w, values, 3) pixels of patches back to (B, T, H, W, 3)."""
    cut: Tensor = pixels.unflatten(4, kernel).permute(0, 1, 4, 2, 5, 3, 6, 7)
    return cut.flatten(5, 6).flatten(3, 4).flatten(1, 2)
