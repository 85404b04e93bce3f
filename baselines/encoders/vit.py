"""Vision transformers of timm, frame by frame: patch tokens, keys and what the class token attends to.

- ``dino``: Caron et al., "Emerging properties in self-supervised vision transformers", ICCV 2021.
- ``dinov2``: Oquab et al., "DINOv2: learning robust visual features without supervision", TMLR 2024.
- ``mae``: He et al., "Masked autoencoders are scalable vision learners", CVPR 2022.
- ``clip``: Radford et al., "Learning transferable visual models from natural language supervision", ICML
  2021; its image tower before the projection.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import torch
from timm.layers import GELU, QuickGELU
from timm.layers.attention import Attention
from timm.layers.layer_scale import LayerScale
from timm.layers.mlp import Mlp
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from ovvol_bench import Encoder, Features
from ovvol_bench.nn.blocks import BlockParts, PackedBlock
from ovvol_bench.nn.grids import GridCache
from ovvol_bench.weights import load_strict, read_state

from .vit_files import NOT_NEEDED, needed, timm_state

_ACTIVATIONS: dict[type, Literal["gelu", "quick_gelu"]] = {
    nn.GELU: "gelu",
    GELU: "gelu",
    QuickGELU: "quick_gelu",
}


class FrameTransformer(Encoder):
    """A transformer that sees every frame alone.

    Positions are resized to the frame's grid of patches: as the model's authors do (bicubic; DINO and DINOv2
    as for 0.1 patches more), or as timm does for all (bicubic, antialiased; so do DINOv2's authors with
    registers). The maps are of the last block: ``keys`` (B, S, h, w, D), the heads' one after another, and,
    where the model has a class token, ``attention`` (B, S, heads, h, w), its attention to the patches; the
    rest to 1 goes to other tokens.

    Args:
        model: of timm.
        name: of it.
        positions: resized as by its authors, where they are known, or as by timm.
    """

    tubelet_size = 1

    def __init__(
        self, model: VisionTransformer, name: str, positions: Literal["official", "timm"] = "official"
    ) -> None:
        super().__init__()
        self.name = name
        self.model: Any = model  # of a library without types
        last: dict[str, Any] = self.model.feature_info[-1]
        self.patch_size, self.dim = last["reduction"], model.embed_dim
        self.model.fc_norm = nn.Identity()  # of the classifier, after pooling
        plain = positions == "official" and type(model) is VisionTransformer and model.pos_embed is not None
        self._offset = _official_offset(name) if plain else None
        self._grids = GridCache()
        published: Any = model.pretrained_cfg
        self.mean, self.std = (tuple(published[key]) for key in ("mean", "std"))
        self.maps = frozenset({"keys", "attention"} if model.has_class_token else {"keys"})

    def encode(self, video: Tensor) -> Features:
        tokens, qkv = self._tokens(video.flatten(0, 1))
        shape = (*video.shape[:2], video.shape[3] // self.patch_size, video.shape[4] // self.patch_size)
        first = self.model.num_prefix_tokens
        last = self.model.blocks[
            -1
        ].attn  # queries and keys as it compares them, (N, heads, 1 + P, D' / heads)
        query, key, _ = qkv.unflatten(2, (3, last.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key = last.q_norm(query), last.k_norm(key)
        maps = {"keys": key[:, :, first:].transpose(1, 2).flatten(2).unflatten(0, shape[:2])}
        maps["keys"] = maps["keys"].unflatten(2, shape[2:])
        if "attention" in self.maps:
            logits = query[:, :, 0].float()[:, :, None] @ key.float().transpose(2, 3)
            attention = (logits * last.scale).softmax(dim=-1)[:, :, 0, first:]
            maps["attention"] = attention.unflatten(2, shape[2:]).unflatten(0, shape[:2])
        return Features(tokens[:, first:].unflatten(1, shape[2:]).unflatten(0, shape[:2]), maps)

    def prepare(self, precision: torch.dtype) -> None:
        # All blocks but the last one, whose queries and keys are looked at.
        for index, block in enumerate(self.model.blocks[:-1]):
            if (parts := _parts(block)) is not None:
                self.model.blocks[index] = PackedBlock(parts, precision)

    def load_weights(self, path: Path) -> None:
        """Load a file of any layout that `vit_files` knows."""
        state = timm_state(read_state(path), self.model, path)
        load_strict(self.model, needed(state, self.model, NOT_NEEDED), path)

    def _tokens(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 1 + P, D) after the last norm; (N, 1 + P, 3 D') queries, keys and values of the last block."""
        seen: list[Tensor] = []
        projection = self.model.blocks[-1].attn.qkv
        handle = projection.register_forward_hook(lambda module, given, answer: seen.append(answer))
        try:
            embedded = self.model.norm_pre(self._embedded(frames))
            tokens: Tensor = self.model.norm(self.model.blocks(embedded))
        finally:
            handle.remove()
        return tokens, seen[0]

    def _embedded(self, frames: Tensor) -> Tensor:
        """(N, 1 + P, D) tokens with their positions."""
        patches: Tensor = self.model.patch_embed(frames)
        if self._offset is None:
            return self.model._pos_embed(patches)  # type: ignore[no-any-return]
        grid = (patches.shape[1], patches.shape[2])
        first = 0 if self.model.no_embed_class else self.model.num_prefix_tokens
        table = self.model.pos_embed[:, first:].unflatten(1, self.model.patch_embed.grid_size)
        tokens = (patches + self._grids.resize(table, grid, self._offset)).flatten(1, 2)
        prefixes = [each for each in (self.model.cls_token, self.model.reg_token) if each is not None]
        if prefixes:
            prefix = torch.cat(prefixes, dim=1)
            prefix = prefix + self.model.pos_embed[:, :first] if first else prefix
            tokens = torch.cat((prefix.expand(len(tokens), -1, -1), tokens), dim=1)
        return tokens


def _parts(block: Any) -> BlockParts | None:
    """Take a block of timm apart; None if it has more than a plain one."""
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


def _official_offset(name: str) -> float | None:
    """Offset of `resize_grid` as a model's authors have it; None where they resize like timm, or never.

    DINO and DINOv2: ``interpolate_pos_encoding``; MAE: ``interpolate_pos_embed`` of util/pos_embed.py.
    """
    architecture, _, tag = name.partition(".")
    if "_reg" in architecture:
        return None
    if "dinov2" in architecture or tag.startswith("dino"):
        return 0.1
    return 0.0 if tag.startswith("mae") else None
