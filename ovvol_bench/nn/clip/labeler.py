"""Base of labelers on a frozen CLIP: its towers, embedded prompts, patches on any grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor

from ovvol_bench.components import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD, AnyLabeler
from ovvol_bench.errors import SettingError
from ovvol_bench.nn.clip.text import embed_sentences
from ovvol_bench.nn.clip.towers import ClipTowers, packed_block
from ovvol_bench.nn.grids import GridCache

PixelStatistics = Literal["clip", "imagenet"]


class ClipLabeler(AnyLabeler):
    """Base of labelers on the two frozen towers of a CLIP.

    Args:
        towers: of the CLIP.
        pixel_statistics: ``clip``, what CLIP was trained with, or ``imagenet``, what the reference's
            evaluation feeds it.

    Attributes:
        own_blocks: how many of the tower's last blocks the labeler takes apart or replaces.
    """

    own_blocks = 0

    def __init__(self, towers: ClipTowers, pixel_statistics: PixelStatistics = "clip") -> None:
        super().__init__()
        self.numbers = towers.numbers
        self.patch_size, self.dim = self.numbers.patch_size, self.numbers.embed_dim
        if pixel_statistics == "imagenet":
            self.mean, self.std = IMAGENET_MEAN, IMAGENET_STD
        else:
            self.mean, self.std = CLIP_MEAN, CLIP_STD
        self.model: VisionTransformer = towers.image.requires_grad_(False)
        self.text = towers.text.requires_grad_(False)
        self._grids = GridCache()

    def prepare(self, precision: torch.dtype) -> None:
        # Only the blocks that are ever run as they are.
        blocks = self.model.transformer.resblocks
        for index in range(len(blocks) - self.own_blocks):
            blocks[index] = packed_block(blocks[index], self.numbers.quick_gelu, precision)

    def embed_text(self, prompts: Sequence[str]) -> Tensor:
        return embed_sentences(self.text, prompts)

    def tokens(self, images: Tensor, last_blocks: int = 0) -> Tensor:
        """Return the image tower's tokens before its last blocks.

        Args:
            images: (B, 3, H, W) float, normalised.
            last_blocks: how many blocks are left out.

        Returns:
            (B, 1 + h*w, width), class token first.

        Raises:
            SettingError: if the images' size is no multiple of ``patch_size``.
        """
        embedded = self.model.conv1(images).flatten(2).transpose(1, 2)
        table = self.model.positional_embedding
        grid = table[1:].view(1, *self.model.grid_size, -1)
        positions = self._grids.resize(grid, self.grid(images)).flatten(0, 2)
        first = (self.model.class_embedding + table[0]).expand(len(embedded), 1, -1)
        tokens = self.model.ln_pre(torch.cat((first, embedded + positions), dim=1))
        blocks = self.model.transformer.resblocks
        for block in blocks[: len(blocks) - last_blocks]:
            tokens = block(tokens)
        return tokens  # type: ignore[no-any-return]

    def shared(self, tokens: Tensor) -> Tensor:
        """Project tokens (..., width) into the space that texts share, (..., E)."""
        return self.model.ln_post(tokens) @ self.model.proj  # type: ignore[no-any-return]

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Return the (h, w) patches of images (..., H, W).

        Raises:
            SettingError: if the images' size is no multiple of ``patch_size``.
        """
        height, width = images.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise SettingError(
                f"CLIP: frames of {height} x {width} pixels; expected multiples of "
                f"patch_size={self.patch_size}."
            )
        return height // self.patch_size, width // self.patch_size
