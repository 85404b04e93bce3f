"""Vision transformers of timm, frame by frame: patch tokens, keys and what the class token attends to.

- ``dino``: Caron et al., "Emerging properties in self-supervised vision transformers", ICCV 2021.
- ``dinov2``: Oquab et al., "DINOv2: learning robust visual features without supervision", TMLR 2024.
- ``mae``: He et al., "Masked autoencoders are scalable vision learners", CVPR 2022.
- ``clip``: Radford et al., "Learning transferable visual models from natural language supervision", ICML
  2021; its image tower before the projection.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from timm.layers import GELU, QuickGELU
from timm.layers.attention import Attention
from timm.layers.layer_scale import LayerScale
from timm.layers.mlp import Mlp
from timm.models.vision_transformer import Block, VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from ovvol_bench import Encoder, Features, SettingError, WeightsError
from ovvol_bench.errors import nearest
from ovvol_bench.hub import hub_file
from ovvol_bench.inference.blocks import BlockParts, PackedBlock
from ovvol_bench.weights import load_strict, read_state

# Parts of published files that features have no use for: classifiers and projections, decoders of masked
# patches.
_NOT_NEEDED = ("head*", "fc_norm.*", "pre_logits.*", "decoder*", "mask_token")
_HUB_FILE = "model.safetensors"
_ACTIVATIONS: dict[type, Literal["gelu", "quick_gelu"]] = {
    nn.GELU: "gelu",
    GELU: "gelu",
    QuickGELU: "quick_gelu",
}


class FrameTransformer(Encoder):
    """A transformer that sees every frame alone.

    Positions are resized to the frame's grid of patches (bicubic, antialiased). The maps are of the last
    block: ``keys`` (B, S, h, w, D), the heads' one after another, and, where the model has a class token,
    ``attention`` (B, S, heads, h, w), its attention to the patches; the rest to 1 goes to other tokens.

    Args:
        model: of timm.
        name: of it.

    Raises:
        SettingError: if it is no plain vision transformer.
    """

    tubelet_size = 1

    def __init__(self, model: torch.nn.Module, name: str) -> None:
        super().__init__()
        if not isinstance(model, VisionTransformer) or not hasattr(model.blocks[-1].attn, "qkv"):
            raise SettingError(
                f"timm model '{name}' is a {type(model).__name__}; expected a plain VisionTransformer, such"
                " as vit_small_patch16_224."
            )
        self.name = name
        self.model: Any = model  # of a library without types
        self.patch_size, self.dim = model.patch_embed.patch_size[0], model.embed_dim
        published: Any = model.pretrained_cfg
        self.mean, self.std = (tuple(published[key]) for key in ("mean", "std"))
        self.maps = frozenset({"keys", "attention"} if model.has_class_token else {"keys"})

    def encode(self, video: Tensor) -> Features:
        """See `Encoder.encode`."""
        tokens, qkv = self._tokens(video.flatten(0, 1))
        shape = (*video.shape[:2], video.shape[3] // self.patch_size, video.shape[4] // self.patch_size)
        first = self.model.num_prefix_tokens
        query, key = self._heads(qkv)
        maps = {"keys": key[:, :, first:].transpose(1, 2).flatten(2).unflatten(0, shape[:2])}
        maps["keys"] = maps["keys"].unflatten(2, shape[2:])
        if "attention" in self.maps:
            logits = query[:, :, 0].float()[:, :, None] @ key.float().transpose(2, 3)
            attention = (logits * self.model.blocks[-1].attn.scale).softmax(dim=-1)[:, :, 0, first:]
            maps["attention"] = attention.unflatten(2, shape[2:]).unflatten(0, shape[:2])
        return Features(tokens[:, first:].unflatten(1, shape[2:]).unflatten(0, shape[:2]), maps)

    def prepare(self, precision: torch.dtype) -> None:
        """See `Component.prepare`: all blocks but the last one, whose queries and keys are looked at."""
        for index, block in enumerate(self.model.blocks[:-1]):
            if (parts := _parts(block)) is not None:
                self.model.blocks[index] = PackedBlock(parts, precision)

    def load_weights(self, path: Path) -> None:
        """Load a file of timm's, or one of a layout that timm converts (DINO, DINOv2, MAE, OpenAI's CLIP)."""
        state = checkpoint_filter_fn(read_state(path), self.model)
        load_strict(self.model, state, path, ignored=_NOT_NEEDED)

    def _tokens(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 1 + P, D) after the last norm; (N, 1 + P, 3 D') queries, keys and values of the last block."""
        seen: list[Tensor] = []
        projection = self.model.blocks[-1].attn.qkv
        handle = projection.register_forward_hook(lambda module, given, answer: seen.append(answer))
        try:
            tokens: Tensor = self.model.forward_features(frames)
        finally:
            handle.remove()
        return tokens, seen[0]

    def _heads(self, qkv: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys as the attention compares them, (N, heads, 1 + P, D' / heads) each."""
        attention = self.model.blocks[-1].attn
        query, key, _ = qkv.unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return attention.q_norm(query), attention.k_norm(key)


def _parts(block: Any) -> BlockParts | None:
    """What a block of timm is made of; None if it has more than a plain one."""
    attn, mlp = block.attn, block.mlp
    if (type(block), type(attn), type(mlp)) != (Block, Attention, Mlp):
        return None
    extra = (attn.q_norm, attn.k_norm, attn.norm, mlp.norm)
    activation = _ACTIVATIONS.get(type(mlp.act))
    square = attn.qkv.out_features == 3 * attn.qkv.in_features
    if not square or activation is None or any(not isinstance(each, nn.Identity) for each in extra):
        return None
    bias = torch.zeros_like(attn.qkv.weight[:, 0]) if attn.qkv.bias is None else attn.qkv.bias
    attention = (block.norm1, attn.qkv.weight, bias, _scaled(attn.proj, block.ls1))
    return BlockParts(
        *attention, block.norm2, mlp.fc1, _scaled(mlp.fc2, block.ls2), attn.num_heads, activation
    )


def _scaled(layer: nn.Linear, scale: nn.Module) -> nn.Linear:
    """A layer with the LayerScale after it, if there is one, as part of its weights."""
    if not isinstance(scale, LayerScale):
        return layer
    scaled = deepcopy(layer)
    scaled.weight.mul_(scale.gamma[:, None])
    scaled.bias.mul_(scale.gamma)
    return scaled


def build_transformer(model: str, sizes: Mapping[str, int | None]) -> FrameTransformer:
    """A model of timm with random weights.

    Args:
        model: name in timm, with or without the tag of its weights.
        sizes: ``patch_size``, ``embed_dim``, ``depth``, ``num_heads`` that differ from the model's own; None
            leaves the model's.

    Raises:
        SettingError: if timm has no such model, it isn't a plain transformer, or the sizes don't fit.
    """
    architecture = model.partition(".")[0]
    if not timm.is_model(architecture):
        known = timm.list_models("*vit*")
        raise SettingError(
            f"timm has no model '{model}'.{nearest(architecture, known)} See: timm.list_models('vit*')"
        )
    changed: dict[str, Any] = {key: value for key, value in sizes.items() if value is not None}
    try:
        made = timm.create_model(model, pretrained=False, num_classes=0, dynamic_img_size=True, **changed)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error) or "its sizes don't fit together"
        raise SettingError(f"timm model '{model}' with {changed or 'its own sizes'}: {reason}") from error
    return FrameTransformer(made, model)


def published_file(encoder: FrameTransformer) -> Path:
    """The published weights of a model, from the hub's cache or the network.

    Raises:
        WeightsError: if there are none, or they can't be had.
    """
    repository = encoder.model.pretrained_cfg.get("hf_hub_id")
    if not repository:
        raise WeightsError(
            f"timm has no published weights for '{encoder.name}'. Give a file with -o encoder.weights=FILE,"
            " or set -o encoder.pretrained=false for random weights."
        )
    path = hub_file(repository, _HUB_FILE)
    if path is None:
        raise WeightsError(
            f"the weights of '{encoder.name}' are not in the hub's cache and could not be fetched. Fetch"
            f" {repository}/{_HUB_FILE} (Hugging Face hub) on a machine with a network and set"
            " -o encoder.weights=FILE, or -o encoder.pretrained=false for random weights."
        )
    return path
