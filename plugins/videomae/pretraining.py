"""VideoMAE's pre-training: a masked autoencoder, its masks and its objective.

Tong et al., "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video
Pre-Training", NeurIPS 2022: most of a clip is hidden, and its pixels are predicted. Module names are those
of the published checkpoints.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from ovvol_bench import SettingError
from ovvol_bench.nn.grids import GridCache

from .model import Block, VideoMAE, initialise, to_patches
from .settings import LAYER_NORM_EPS, VideoMAESettings

_GREY = 0.5  # of hidden patches in pictures


class PretrainingDecoder(nn.Module):
    """Narrow transformer from visible and masked tokens to the pixels of the masked ones."""

    def __init__(self, settings: VideoMAESettings) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(settings.dim, settings.heads, settings.mlp_ratio) for _ in range(settings.depth)
        )
        self.norm = nn.LayerNorm(settings.dim, eps=LAYER_NORM_EPS)
        self.head = nn.Linear(settings.dim, 3 * settings.tubelet_size * settings.patch_size**2)

    def forward(self, tokens: Tensor, wanted: int) -> Tensor:
        """(B, N, D) to the pixels of the last ``wanted`` tokens, (B, wanted, values)."""
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(self.norm(tokens[:, -wanted:]))  # type: ignore[no-any-return]


class VideoMAEPretraining(nn.Module):
    """Masked autoencoder: the encoder sees the visible tokens, the decoder fills in the rest.

    Args:
        encoder: to be trained; built with ``final_norm=True``, as the decoder reads normalised
            tokens.
        decoder_dim, decoder_depth, decoder_heads: of the decoder's transformer.
        norm_targets: predict pixels normalised within each patch and colour (He et al., "Masked
            Autoencoders Are Scalable Vision Learners", CVPR 2022, section 3); used by the loss.

    Raises:
        SettingError: if the encoder lacks its final norm.
    """

    def __init__(
        self,
        encoder: VideoMAE,
        decoder_dim: int = 384,
        decoder_depth: int = 4,
        decoder_heads: int = 6,
        norm_targets: bool = True,
    ) -> None:
        super().__init__()
        if not encoder.settings.final_norm:
            raise SettingError("videomae: pre-training needs an encoder with final_norm=True.")
        self.norm_targets = norm_targets
        self.encoder = encoder
        settings = replace(encoder.settings, dim=decoder_dim, depth=decoder_depth, heads=decoder_heads)
        self.encoder_to_decoder = nn.Linear(encoder.dim, decoder_dim, bias=False)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_dim))
        self.decoder = PretrainingDecoder(settings)
        self.positions: Tensor
        self.register_buffer("positions", settings.position_table(decoder_dim), persistent=False)
        self._grids = GridCache()
        self.encoder_to_decoder.apply(initialise)
        self.decoder.apply(initialise)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def forward(self, video: Tensor, mask: Tensor, decoded: Tensor | None = None) -> Tensor:
        """Predict hidden patches.

        Args:
            video: (B, T, 3, H, W) float, normalised.
            mask: (B, S*h*w) bool, true = hidden; the same number in every clip.
            decoded: (B, S*h*w) bool, the hidden patches to predict, the same number in every clip; the
                decoder sees no other hidden ones. All if None.

        Returns:
            (B, predicted, tubelet * patch * patch * 3) float, patches in ascending order; values in the
            order frame, row, column, channel.
        """
        visible = self.encoder.transform(self.encoder.embed_some(video, ~mask))
        visible = self.encoder_to_decoder(visible)
        steps, height, width = self.encoder.grid(video)
        table = self._grids.resize(self.positions, (height, width))[:steps].flatten(0, 2)
        positions = table.expand(len(video), -1, -1)
        shown = visible + positions[~mask].view(visible.shape)
        wanted = positions[mask if decoded is None else decoded]
        hidden = self.mask_token + wanted.view(len(video), -1, visible.shape[-1])
        return self.decoder(torch.cat((shown, hidden), dim=1), hidden.shape[1])  # type: ignore[no-any-return]


def tube_mask(grid: tuple[int, int, int], ratio: float, draws: Generator, batch: int = 1) -> Tensor:
    """Draw the patches to hide: one pattern a clip, the same at every time step.

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


def decoded_part(mask: Tensor, share: float, draws: Generator) -> Tensor:
    """Draw the hidden patches that the decoder predicts.

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
    """Compute the mean squared error over the hidden patches, or the decoded ones of them, in float32.

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


def pixel_targets(model: VideoMAEPretraining, video: Tensor, mask: Tensor) -> Tensor:
    """Compute what the model is to predict: the pixels of the hidden patches.

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


def patch_pixels(encoder: VideoMAE, patches: Tensor) -> Tensor:
    """Return the pixels of patches before they were normalised.

    Args:
        encoder: gives the pixel statistics.
        patches: (M, tubelet, 3, patch, patch) float32, normalised.

    Returns:
        (M, tubelet * patch * patch, 3) float32 in [0, 1], in the order frame, row, column.
    """
    pixels = patches.permute(0, 1, 3, 4, 2).flatten(1, 3)
    return pixels * pixels.new_tensor(encoder.std) + pixels.new_tensor(encoder.mean)


def patch_statistics(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Compute mean, and unbiased standard deviation + 1e-6, of every patch and colour.

    Args:
        pixels: (..., values, 3) float32.

    Returns:
        Twice (..., 1, 3).
    """
    variance, mean = torch.var_mean(pixels, dim=-2, keepdim=True)
    return mean, variance.sqrt() + 1e-6  # the published program's constant; plain patches have no variance


def reconstruction(model: VideoMAEPretraining, video: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Show a clip whole, with grey for hidden patches, and with predictions in their place.

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
        # Predictions don't know a patch's mean and deviation: the true ones are used (He et al. 2022).
        mean, deviation = patch_statistics(whole[hidden])
        predicted = predicted * deviation + mean
    masked, filled = whole.clone(), whole.clone()
    masked[hidden], filled[hidden] = _GREY, predicted
    kernel = (encoder.tubelet_size, encoder.patch_size, encoder.patch_size)
    # (B, S, h, w, values, 3) to (B, S, tubelet, h, patch, w, patch, 3), and that to (B, T, H, W, 3)
    cut = [pixels.unflatten(4, kernel).permute(0, 1, 4, 2, 5, 3, 6, 7) for pixels in (whole, masked, filled)]
    whole, masked, filled = (pixels.flatten(5, 6).flatten(3, 4).flatten(1, 2) for pixels in cut)
    return whole, masked, filled
