"""PACL: a small head that brings the patches of a frozen CLIP into its text space.

Mukhoti et al., "Open Vocabulary Semantic Segmentation with Patch Aligned Contrastive Learning", CVPR
2023, in the form of Fan et al., ICCV 2023 (patch-based CLIP of figure 2): one more transformer block and a
residual MLP on what enters the frozen tower's last block. Module names are those of the reference's
checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from open_clip.transformer import LayerNorm, ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn

from ovvol_bench import Labeler, SettingError
from ovvol_bench.components import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD
from ovvol_bench.grids import GridCache

from .clip import ClipTowers
from .text import embed_tokens, tokenize

PixelStatistics = Literal["clip", "imagenet"]
_PROMPTS_AT_ONCE = 256


@dataclass(frozen=True)
class Alignment:
    """Patches of a batch of images beside the frozen tower's view of the whole.

    Attributes:
        image: (B, E) the frozen tower's embedding of the image.
        patches: (B, h, w, E) trained patch embeddings.
        attention: (B, h, w) softmax over the image's patches of their inner product with ``image``.
        pooled: (B, E) mean of ``patches`` weighted by ``attention``.
    """

    image: Tensor
    patches: Tensor
    attention: Tensor
    pooled: Tensor

    @classmethod
    def of(cls, image: Tensor, patches: Tensor) -> Alignment:
        """Pool patches (B, h, w, E) by their likeness to the image's embedding (B, E) float32."""
        flat = patches.flatten(1, 2).float()
        # The products are not scaled down before the softmax: half precision would show.
        with torch.autocast(image.device.type, enabled=False):
            attention = torch.einsum("be,bne->bn", image, flat).softmax(dim=1)
            pooled = torch.einsum("bn,bne->be", attention, flat)
        return cls(image, patches, attention.view(patches.shape[:3]), pooled)


class Embedder(nn.Module):
    """Residual two-layer MLP: res(x) + main(x)."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.main = nn.Sequential(nn.Linear(width, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.res = nn.Linear(width, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., width) to (..., E)."""
        return self.res(tokens) + self.main(tokens)  # type: ignore[no-any-return]


class PaclLabeler(Labeler):
    """Patch embeddings in CLIP's text space.

    Only ``last_transformer``, ``ln_last`` and ``vision_emb`` train; both towers are frozen.

    Args:
        towers: of the CLIP.
        pixel_statistics: ``clip``, what CLIP was trained with, or ``imagenet``, what the reference's
            evaluation feeds it.
    """

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
        width = self.numbers.width
        self.last_transformer = _similar_block(towers.image.transformer.resblocks[-1], width)
        self.ln_last = LayerNorm(width)
        self.vision_emb = Embedder(width, self.dim)
        self._grids = GridCache()

    def embed_patches(self, video: Tensor) -> Tensor:
        """See `Labeler.embed_patches`.

        Raises:
            SettingError: if the frames' size is no multiple of ``patch_size``.
        """
        patches = self.head(self.trunk(video.flatten(0, 1)))
        return patches.view(*video.shape[:2], *self._grid(video), self.dim)

    def embed_text(self, prompts: Sequence[str]) -> Tensor:
        """See `Labeler.embed_text`.

        Raises:
            SettingError: if a prompt is too long.
        """
        tokens = tokenize(prompts).to(self.model.proj.device)
        embedded = torch.cat([embed_tokens(self.text, part) for part in tokens.split(_PROMPTS_AT_ONCE)])
        return F.normalize(embedded.float(), dim=-1)

    def align(self, images: Tensor) -> Alignment:
        """Patches and whole of every image, for training; gradients reach the trained part only.

        Args:
            images: (B, 3, H, W) float, normalised.
        """
        with torch.no_grad():
            tokens = self.trunk(images)
            image = self.tower_output(tokens)[:, 0].float()
        return Alignment.of(image, self.head(tokens).unflatten(1, self._grid(images)))

    def trunk(self, images: Tensor) -> Tensor:
        """All of the frozen tower but its last block.

        Args:
            images: (B, 3, H, W) float, normalised.

        Returns:
            (B, 1 + h*w, width), class token first.
        """
        embedded = self.model.conv1(images).flatten(2).transpose(1, 2)
        table = self.model.positional_embedding
        grid = table[1:].view(1, *self.model.grid_size, -1)
        positions = self._grids.resize(grid, self._grid(images)).flatten(0, 2)
        first = (self.model.class_embedding + table[0]).expand(len(embedded), 1, -1)
        tokens = self.model.ln_pre(torch.cat((first, embedded + positions), dim=1))
        for block in self.model.transformer.resblocks[:-1]:
            tokens = block(tokens)
        return tokens  # type: ignore[no-any-return]

    def tower_output(self, tokens: Tensor) -> Tensor:
        """What the frozen tower makes of the trunk's tokens: (B, 1 + h*w, E), class token first."""
        tokens = self.model.transformer.resblocks[-1](tokens)
        return self.model.ln_post(tokens) @ self.model.proj  # type: ignore[no-any-return]

    def head(self, tokens: Tensor) -> Tensor:
        """The trunk's tokens (B, 1 + h*w, width) to trained patch embeddings (B, h*w, E)."""
        patches = self.last_transformer(tokens)[:, 1:]
        return self.vision_emb(self.ln_last(patches))  # type: ignore[no-any-return]

    def load_weights(self, path: Path) -> None:
        """Load a checkpoint of any layout that `checkpoint` reads."""
        from .checkpoint import load_labeler

        load_labeler(self, path)

    def _grid(self, images: Tensor) -> tuple[int, int]:
        height, width = images.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise SettingError(
                f"pacl: frames of {height} x {width} pixels; expected multiples of "
                f"patch_size={self.patch_size}."
            )
        return height // self.patch_size, width // self.patch_size


def _similar_block(block: ResidualAttentionBlock, width: int) -> ResidualAttentionBlock:
    """A block of the same architecture with weights of its own."""
    ratio = block.mlp.c_fc.out_features / width
    return ResidualAttentionBlock(width, block.attn.num_heads, ratio, act_layer=type(block.mlp.gelu))
