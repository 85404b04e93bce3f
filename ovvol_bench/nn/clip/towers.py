"""The two towers of a plain CLIP, built from open_clip's classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import open_clip
import torch
from open_clip.transformer import ResidualAttentionBlock, TextTransformer, VisionTransformer

from ovvol_bench.errors import SettingError, nearest
from ovvol_bench.nn.blocks import BlockParts, PackedBlock
from ovvol_bench.registry.annotations import check_fits

CUSTOM = "custom"


@dataclass(frozen=True)
class ClipNumbers:
    """Architecture of a plain CLIP.

    Attributes:
        embed_dim: channels of the space that images and texts share.
        patch_size: side of a patch, pixels.
        image_size: side of the images that positions are trained for, pixels.
        width, layers, heads: of the image tower.
        text_width, text_layers, text_heads: of the text tower.
        quick_gelu: x * sigmoid(1.702 x) in place of the exact GELU.

    Raises:
        SettingError: if a number is below 1 or the numbers do not fit together.
    """

    embed_dim: int
    patch_size: int
    image_size: int
    width: int
    layers: int
    heads: int
    text_width: int
    text_layers: int
    text_heads: int
    quick_gelu: bool = True

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name != "quick_gelu" and value < 1:
                raise SettingError(f"CLIP: {name}={value}; expected at least 1.")
        for name, divisor in (("image_size", "patch_size"), ("width", "heads"), ("text_width", "text_heads")):
            value, by = getattr(self, name), getattr(self, divisor)
            if value % by:
                raise SettingError(f"CLIP: {name}={value} is not a multiple of {divisor}={by}.")
        layers = 12 * (self.layers * self.width**2 + self.text_layers * self.text_width**2)
        patches = (self.image_size // self.patch_size) ** 2 + 3 * self.patch_size**2 + self.embed_dim
        shape = f"image_size={self.image_size}, width={self.width}, layers={self.layers}"
        text = f"text_width={self.text_width}, text_layers={self.text_layers}"
        check_fits(f"CLIP: {shape}, {text}", layers + patches * self.width)

    def config(self) -> dict[str, Any]:
        """Return the same as a configuration of open_clip."""
        return {
            "embed_dim": self.embed_dim,
            "quick_gelu": self.quick_gelu,
            "vision_cfg": {
                "image_size": self.image_size,
                "patch_size": self.patch_size,
                "width": self.width,
                "layers": self.layers,
                "head_width": self.width // self.heads,
            },
            "text_cfg": {"width": self.text_width, "layers": self.text_layers, "heads": self.text_heads},
        }


@dataclass(frozen=True)
class ClipTowers:
    """Towers of a CLIP taken apart.

    Attributes:
        image: plain vision transformer with a class token.
        text: transformer over the 77 tokens of a prompt.
        quick_gelu: whether both use x * sigmoid(1.702 x).
    """

    image: VisionTransformer
    text: TextTransformer
    quick_gelu: bool

    @property
    def numbers(self) -> ClipNumbers:
        """Architecture, as a custom model states it."""
        blocks = self.image.transformer.resblocks
        return ClipNumbers(
            embed_dim=self.image.output_dim,
            patch_size=self.image.patch_size[0],
            image_size=self.image.image_size[0],
            width=self.image.conv1.out_channels,
            layers=len(blocks),
            heads=blocks[0].attn.num_heads,
            text_width=self.text.width,
            text_layers=len(self.text.transformer.resblocks),
            text_heads=self.text.heads,
            quick_gelu=self.quick_gelu,
        )


def clip_config(
    model: str, numbers: Mapping[str, int | None], stored: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Find the configuration that the settings mean.

    Args:
        model: a name that open_clip knows, or ``custom``.
        numbers: values for `ClipNumbers` by name; only for ``custom``, None where not set.
        stored: what a weights file says about its ``custom`` model; settings come first.

    Returns:
        A configuration of open_clip.

    Raises:
        SettingError: for an unknown name, and for numbers that are missing or not wanted.
    """
    given = {name: value for name, value in numbers.items() if value is not None}
    if model == CUSTOM:
        known: dict[str, Any] = {**(stored or {}), **given}
        missing = [item.name for item in fields(ClipNumbers) if item.name not in {*known, "quick_gelu"}]
        if missing:
            raise SettingError(f"CLIP: model=custom also needs {', '.join(missing)}.")
        return ClipNumbers(**known).config()
    if given:
        raise SettingError(f"CLIP: {', '.join(given)} can be set for model=custom only, not for {model!r}.")
    config = open_clip.get_model_config(model)
    if config is None:
        raise SettingError(
            f"CLIP: unknown CLIP model {model!r}.{nearest(model, open_clip.list_models())} "
            f"Use a name of open_clip's or model=custom."
        )
    return dict(config)


def build_towers(config: Mapping[str, Any], model: str = CUSTOM) -> ClipTowers:
    """Build towers with random weights.

    Args:
        config: of open_clip.
        model: how errors call it.

    Raises:
        SettingError: if it is not a plain CLIP.
    """
    if not _is_plain(config["vision_cfg"], config["text_cfg"]):
        raise SettingError(
            f"CLIP: model {model!r} is not a plain CLIP: a vision transformer with a class token, and a "
            f"text transformer over 77 of CLIP's own tokens. Use one like ViT-B-16-quickgelu."
        )
    quick_gelu = config.get("quick_gelu", False)
    clip = open_clip.CustomTextCLIP(
        config["embed_dim"], config["vision_cfg"], config["text_cfg"], quick_gelu=quick_gelu
    )
    return ClipTowers(clip.visual, clip.text, quick_gelu)


def packed_block(block: ResidualAttentionBlock, quick_gelu: bool, precision: torch.dtype) -> PackedBlock:
    """Lay a block of an image tower out for inference."""
    attn, mlp = block.attn, block.mlp
    attention = (block.ln_1, attn.in_proj_weight, attn.in_proj_bias, attn.out_proj)
    activation: Literal["gelu", "quick_gelu"] = "quick_gelu" if quick_gelu else "gelu"
    parts = BlockParts(*attention, block.ln_2, mlp.c_fc, mlp.c_proj, attn.num_heads, activation)
    return PackedBlock(parts, precision)


def _is_plain(vision: Mapping[str, Any], text: Mapping[str, Any]) -> bool:
    others = {"hf_model_name", "hf_tokenizer_name", "pool_type", "proj_type", "embed_cls", "no_causal_mask"}
    return (
        isinstance(vision.get("layers"), int)  # those of a ResNet are a list
        and not {"timm_model_name", "attentional_pool", "pool_type", "no_ln_pre"} & vision.keys()
        and not others & text.keys()
        and text.get("context_length", 77) == 77
    )
