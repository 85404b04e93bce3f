"""PACL: a small head that brings the patches of a frozen CLIP into its text space.

Mukhoti et al., "Open Vocabulary Semantic Segmentation with Patch Aligned Contrastive Learning", CVPR
2023, in the form of Fan et al., ICCV 2023 (patch-based CLIP of figure 2): one more transformer block and a
residual MLP on what enters the frozen tower's last block. Module names are those of the reference's
checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from open_clip.transformer import LayerNorm, ResidualAttentionBlock
from torch import Tensor, nn

from ovvol_bench import Labeler
from ovvol_bench.nn.clip.labeler import ClipLabeler, PixelStatistics
from ovvol_bench.nn.clip.towers import ClipTowers, packed_block


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


class PaclLabeler(ClipLabeler, Labeler):
    """Patch embeddings in CLIP's text space.

    Only ``last_transformer``, ``ln_last`` and ``vision_emb`` train; both towers are frozen.

    Args:
        towers: of the CLIP.
        pixel_statistics: ``clip``, what CLIP was trained with, or ``imagenet``, what the reference's
            evaluation feeds it.
    """

    own_blocks = 1

    def __init__(self, towers: ClipTowers, pixel_statistics: PixelStatistics = "clip") -> None:
        super().__init__(towers, pixel_statistics)
        width = self.numbers.width
        last = towers.image.transformer.resblocks[-1]  # of the same architecture, with weights of its own
        ratio, activation = last.mlp.c_fc.out_features / width, type(last.mlp.gelu)
        self.last_transformer = ResidualAttentionBlock(
            width, last.attn.num_heads, ratio, act_layer=activation
        )
        self.ln_last = LayerNorm(width)
        self.vision_emb = Embedder(width, self.dim)

    def prepare(self, precision: torch.dtype) -> None:
        super().prepare(precision)
        self.last_transformer = packed_block(self.last_transformer, self.numbers.quick_gelu, precision)

    def embed_patches(self, video: Tensor) -> Tensor:
        """See `Labeler.embed_patches`.

        Raises:
            SettingError: if the frames' size is no multiple of ``patch_size``.
        """
        patches = self.head(self.trunk(video.flatten(0, 1)))
        return patches.view(*video.shape[:2], *self.grid(video), self.dim)

    def align(self, images: Tensor) -> Alignment:
        """Patches and whole of every image, for training; gradients reach the trained part only.

        Args:
            images: (B, 3, H, W) float, normalised.
        """
        with torch.no_grad():
            tokens = self.trunk(images)
            image = self.tower_output(tokens)[:, 0].float()
        return Alignment.of(image, self.head(tokens).unflatten(1, self.grid(images)))

    def trunk(self, images: Tensor) -> Tensor:
        """All of the frozen tower but its last block.

        Args:
            images: (B, 3, H, W) float, normalised.

        Returns:
            (B, 1 + h*w, width), class token first.
        """
        return self.tokens(images, last_blocks=1)

    def tower_output(self, tokens: Tensor) -> Tensor:
        """Finish the frozen tower on the trunk's tokens: (B, 1 + h*w, E), class token first."""
        return self.shared(self.model.transformer.resblocks[-1](tokens))

    def head(self, tokens: Tensor) -> Tensor:
        """The trunk's tokens (B, 1 + h*w, width) to trained patch embeddings (B, h*w, E)."""
        patches = self.last_transformer(tokens)[:, 1:]
        return self.vision_emb(self.ln_last(patches))  # type: ignore[no-any-return]

    def load_weights(self, path: Path) -> None:
        """Load a checkpoint of any layout that `checkpoint` reads."""
        from .checkpoint import load_labeler

        load_labeler(self, path)
