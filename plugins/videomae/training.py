"""The masked pre-training objective of VideoMAE."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ovvol_bench import SettingError

from .model import VideoMAE, VideoMAEPretraining, to_patches


def tube_mask(grid: tuple[int, int, int], ratio: float, draws: Generator, batch: int = 1) -> Tensor:
    """Draw which patches to hide: one pattern a clip, the same at every time step.

    Tong et al. 2022, section 3.3 ("tube masking").

    Args:
        grid: (S, h, w) of the clip's tokens.
        ratio: share of the patches of a step to hide, in (0, 1); int(ratio * h * w) are hidden.
        draws: CPU generator.
        batch: number of clips B, each with a pattern of its own.

    Returns:
        (B, S * h * w) bool on the CPU, true = hidden.

    Raises:
        SettingError: if the ratio hides nothing or everything.
    """
    steps, patches = grid[0], grid[1] * grid[2]
    hidden = int(ratio * patches)
    if not 0 < hidden < patches:
        raise SettingError(
            f"recipe.mask_ratio={ratio:g} hides {hidden} of the {patches} patches of a frame; expected some, "
            f"but not all. Set it to at least {math.ceil(1000 / patches) / 1000:g} and below 1."
        )
    order = torch.rand(batch, patches, generator=draws).argsort(dim=1)
    return (order < hidden).repeat(1, steps)


def patch_pixels(encoder: VideoMAE, patches: Tensor) -> Tensor:
    """Pixels of patches before they were normalised.

    Args:
        encoder: gives the pixel statistics.
        patches: (M, tubelet, 3, patch, patch) float32, normalised.

    Returns:
        (M, tubelet * patch * patch, 3) float32 in [0, 1], in the order frame, row, column.
    """
    pixels = patches.permute(0, 1, 3, 4, 2).flatten(1, 3)
    return pixels * pixels.new_tensor(encoder.std) + pixels.new_tensor(encoder.mean)


def patch_statistics(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean, and unbiased standard deviation + 1e-6, of every patch and colour.

    Args:
        pixels: (..., values, 3) float32.

    Returns:
        Twice (..., 1, 3).
    """
    variance, mean = torch.var_mean(pixels, dim=-2, keepdim=True)
    return mean, variance.sqrt() + 1e-6


def pixel_targets(model: VideoMAEPretraining, video: Tensor, mask: Tensor) -> Tensor:
    """What the model is to predict: the pixels of the hidden patches.

    With ``model.norm_targets`` each patch and colour has its mean taken off and is divided by its
    deviation, see `patch_statistics`.

    Args:
        model: gives patch size, pixel statistics and the kind of target.
        video: (B, T, 3, H, W) float, normalised.
        mask: (B, S*h*w) bool, true = hidden, the same number in every clip.

    Returns:
        (B, hidden, tubelet * patch * patch * 3) float32, values in the order frame, row, column,
        channel.
    """
    encoder = model.encoder
    patches = to_patches(video, encoder.tubelet_size, encoder.patch_size)
    pixels = patch_pixels(encoder, patches[mask.view(patches.shape[:4])].float())
    if model.norm_targets:
        mean, deviation = patch_statistics(pixels)
        pixels = (pixels - mean) / deviation
    return pixels.reshape(len(video), -1, pixels.shape[1] * 3)


def decoded_part(mask: Tensor, share: float, draws: Generator) -> Tensor:
    """Draw which of the hidden patches the decoder predicts.

    Wang et al., "VideoMAE V2: Scaling Video Masked Autoencoders with Dual Masking", CVPR 2023, section
    3.2: the decoder costs most, and a part of the targets gives the same gradient on average. Here the
    part is drawn token by token.

    Args:
        mask: (S*h*w,) bool of one clip, true = hidden.
        share: of the hidden patches, in (0, 1]; int(share * hidden) are predicted, at least one.
        draws: CPU generator.

    Returns:
        (S*h*w,) bool, true = predicted; implies ``mask``.
    """
    hidden = mask.nonzero()[:, 0]
    count = max(1, int(share * len(hidden)))
    decoded = torch.zeros_like(mask)
    decoded[hidden[torch.randperm(len(hidden), generator=draws)[:count]]] = True
    return decoded


def pretraining_loss(
    model: VideoMAEPretraining, video: Tensor, mask: Tensor, decoded: Tensor | None = None
) -> Tensor:
    """Mean squared error over the hidden patches, or those of them that are decoded, in float32.

    Args:
        model: the masked autoencoder.
        video: (B, T, 3, H, W) float, normalised.
        mask: (B, S*h*w) bool, true = hidden, the same number in every clip.
        decoded: see `VideoMAEPretraining.forward`.

    Returns:
        Scalar float32.
    """
    with torch.no_grad():
        targets = pixel_targets(model, video, mask if decoded is None else decoded)
    return F.mse_loss(model(video, mask, decoded).float(), targets)
