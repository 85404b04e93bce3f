"""PACL: a small head that brings the patches of a frozen CLIP into its text space.

Mukhoti et al., "Open Vocabulary Semantic Segmentation with Patch Aligned Contrastive Learning", CVPR
2023, in the form of Fan et al., ICCV 2023 (patch-based CLIP of figure 2): one more transformer block and a
residual MLP on what enters the frozen tower's last block. Module names are those of the reference's
checkpoints.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated

import torch
from open_clip.transformer import LayerNorm, ResidualAttentionBlock
from torch import Tensor, nn

from ovvol_bench import Labeler, Pretrained, Weights, WeightsError
from ovvol_bench.nn.clip.files import holds_text, stored_numbers
from ovvol_bench.nn.clip.labeler import ClipLabeler, PixelStatistics
from ovvol_bench.nn.clip.pretrained import load_pretrained
from ovvol_bench.nn.clip.towers import ClipNumbers, ClipTowers, build_towers, clip_config, packed_block
from ovvol_bench.registry.annotations import Layers, Side, Width
from ovvol_bench.weights import read_state, resolve_weights

from .checkpoint import load_state, with_positions_for

BUNDLED = Path(__file__).parent / "weights"


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
        patches = self.head(self.trunk(video.flatten(0, 1)))
        return patches.view(*video.shape[:2], *self.grid(video), self.dim)

    def trunk(self, images: Tensor) -> Tensor:
        """Run all of the frozen tower but its last block.

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
        """Bring the trunk's tokens (B, 1 + h*w, width) to trained patch embeddings (B, h*w, E)."""
        patches = self.last_transformer(tokens)[:, 1:]
        return self.vision_emb(self.ln_last(patches))  # type: ignore[no-any-return]

    def load_weights(self, path: Path) -> None:
        """Load a checkpoint of the reference, or a file written by `save_labeler`; see `load_state`."""
        load_state(self, read_state(path), path)


def build_pacl(
    *,
    weights: Annotated[str | None, Weights] = None,
    model: str = "ViT-B-16-quickgelu",
    pretrained: Annotated[str | None, Pretrained] = "openai",
    pixel_statistics: PixelStatistics = "clip",
    embed_dim: Width | None = None,
    patch_size: Side | None = None,
    image_size: Side | None = None,
    width: Width | None = None,
    layers: Layers | None = None,
    heads: Layers | None = None,
    text_width: Width | None = None,
    text_layers: Layers | None = None,
    text_heads: Layers | None = None,
    quick_gelu: bool | None = None,
) -> PaclLabeler:
    """Build a PACL labeler.

    Args:
        weights: path of a PACL checkpoint, or the name of one that comes with the plugin; None leaves
            the trained part random.
        model: name of a CLIP in open_clip, or ``custom``, stated by the numbers below; those not set
            are read from ``weights`` where that file states them.
        pretrained: where the CLIP's weights come from: a tag of open_clip's (``openai``), a file, or
            None for random ones. Not read where ``weights`` holds a text tower.
        pixel_statistics: ``clip``, or ``imagenet`` as the reference's evaluation has it.
        embed_dim: custom: channels of the shared space.
        patch_size: custom: side of a patch, pixels.
        image_size: custom: side of the images that positions are trained for, pixels; those of ``weights``
            are resized to it.
        width: custom: width of the image tower.
        layers: custom: blocks of the image tower.
        heads: custom: attention heads of the image tower.
        text_width: custom: width of the text tower.
        text_layers: custom: blocks of the text tower.
        text_heads: custom: attention heads of the text tower.
        quick_gelu: custom: x * sigmoid(1.702 x) in place of the exact GELU; by
            default true.

    Raises:
        SettingError: if settings are unknown or do not fit together.
        WeightsError: if weights can't be had or do not fit.
    """
    given = locals()
    numbers = {each.name: given[each.name] for each in fields(ClipNumbers)}
    path = resolve_weights(weights, BUNDLED) if weights is not None else None
    state = read_state(path) if path else {}
    complete = holds_text(state)
    if path and not complete and pretrained is None:
        raise WeightsError(
            f"{path}: holds no text tower, and labeler.pretrained=none. Set labeler.pretrained to the "
            f"CLIP that these weights were trained on (openai, or a file)."
        )
    config = clip_config(model, numbers, stored_numbers(path) if path else None)
    towers = build_towers(config, model)
    if pretrained is not None and not complete:
        load_pretrained(towers, model, pretrained)
    labeler = PaclLabeler(towers, pixel_statistics)
    if path:
        fitting = state if image_size is None else with_positions_for(labeler, state, path)
        load_state(labeler, fitting, path)
    return labeler
