"""VideoMAE before any training: what its architecture alone is worth."""

from __future__ import annotations

import torch

from ovvol_bench.registry.annotations import Cells, Layers, Side, Width
from ovvol_plugins.videomae.model import VideoMAE
from ovvol_plugins.videomae.settings import VideoMAESettings


class RandomVideoMAE(VideoMAE):
    """Build a VideoMAE whose weights are random.

    Args:
        seed: of the weights.
        patch_size: side of a patch, pixels.
        dim: width of the transformer.
        depth: number of blocks.
        heads: attention heads.
        position_frames: longest clip, frames.
        position_grid: side of the square grid of patches that positions are made for.
        final_norm: apply a LayerNorm after the last block.

    Raises:
        SettingError: if the sizes do not fit together.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        patch_size: Side = 16,
        dim: Width = 768,
        depth: Layers = 12,
        heads: Layers = 12,
        position_frames: Cells = 16,
        position_grid: Cells = 14,
        final_norm: bool = False,
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            super().__init__(
                VideoMAESettings(
                    patch_size=patch_size,
                    dim=dim,
                    depth=depth,
                    heads=heads,
                    position_frames=position_frames,
                    position_grid=position_grid,
                    final_norm=final_norm,
                )
            )
