"""Vision transformers of timm, frame by frame: patch tokens, keys and what the class token attends to.

- ``dino``: Caron et al., "Emerging properties in self-supervised vision transformers", ICCV 2021.
- ``dinov2``: Oquab et al., "DINOv2: learning robust visual features without supervision", TMLR 2024.
- ``mae``: He et al., "Masked autoencoders are scalable vision learners", CVPR 2022.
- ``clip``: Radford et al., "Learning transferable visual models from natural language supervision", ICML
  2021; its image tower before the projection.

Layouts of published files: timm's own; DINO, DINOv2, MAE, OpenAI's CLIP as published (timm converts these);
checkpoints of their trainings, with ``backbone.`` before each name and heads beside; DINOv2 in chunks
(``blocks.0.3.``); ViT, ViT-MAE and DINOv2 of transformers.
"""

from __future__ import annotations

import logging
import math
import re
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import torch
from timm.layers import GELU, QuickGELU
from timm.layers.attention import Attention
from timm.layers.layer_scale import LayerScale
from timm.layers.mlp import Mlp
from timm.models.vision_transformer import Block, VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from ovvol_bench import Encoder, Features, WeightsError
from ovvol_bench.nn.blocks import BlockParts, PackedBlock
from ovvol_bench.nn.grids import GridCache
from ovvol_bench.nn.hub import stated_config
from ovvol_bench.weights import State, load_strict, matches, read_state

_ACTIVATIONS: dict[type, Literal["gelu", "quick_gelu"]] = {
    nn.GELU: "gelu",
    GELU: "gelu",
    QuickGELU: "quick_gelu",
}


_LOG = logging.getLogger(__name__)

# Parts of published files that features have no use for: classifiers, projections, decoders of masked parts.
NOT_NEEDED = (
    *("head*", "fc_norm.*", "pre_logits.*", "decoder*", "mask_token", "masked_embed"),
    *("dino_head.*", "ibot_head.*", "projector.*", "prototypes.*"),  # of the training
    *("pooler.*", "classifier.*"),  # of transformers
)
_PATCHES = "patch_embed.proj.weight"
_THEIR_PATCHES = "embeddings.patch_embeddings.projection.weight"
_BLOCK = re.compile(r"^(?:encoder\.)?layers?\.(\d+)\.")
_CHUNKED = re.compile(r"^blocks\.\d+\.(\d+)\.")
_TRANSFORMERS_NAMES = (
    ("embeddings.patch_embeddings.projection.", "patch_embed.proj."),
    ("embeddings.position_embeddings", "pos_embed"),
    ("embeddings.", ""),
    ("attention.attention.query.", "attn.q."),
    ("attention.attention.key.", "attn.k."),
    ("attention.attention.value.", "attn.v."),
    ("attention.q_proj.", "attn.q."),
    ("attention.k_proj.", "attn.k."),
    ("attention.v_proj.", "attn.v."),
    ("attention.output.dense.", "attn.proj."),
    ("attention.o_proj.", "attn.proj."),
    ("intermediate.dense.", "mlp.fc1."),
    ("output.dense.", "mlp.fc2."),
    ("layernorm_before.", "norm1."),
    ("layernorm_after.", "norm2."),
    ("layernorm.", "norm."),
    ("layer_scale1.lambda1", "ls1.gamma"),
    ("layer_scale2.lambda1", "ls2.gamma"),
    ("mlp.weights_in.", "mlp.w12."),
    ("mlp.weights_out.", "mlp.w3."),
)


class FrameTransformer(Encoder):
    """Vision transformer that sees every frame alone.

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
        # Queries and keys as the last attention compares them, (N, heads, 1 + P, D' / heads).
        last = self.model.blocks[-1].attn
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
        """Load a published file of any known layout."""
        state = timm_state(read_state(path), self.model, path)
        load_strict(self.model, needed(state, self.model, NOT_NEEDED), path)

    def _tokens(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return (N, 1 + P, D) after the last norm, and the last block's projections (N, 1 + P, 3 D')."""
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
        """Embed frames as (N, 1 + P, D) tokens with their positions."""
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
    """Take the LayerScale after a layer, if there is one, into its weights."""
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


def timm_state(state: State, model: VisionTransformer, path: Path) -> State:
    """Bring a file of any known layout to the names of a model of timm.

    The position table keeps the file's own grid: the model is given that grid, so that it is resized once, to
    the frames.

    Args:
        state: as `read_state` gives it.
        model: that is to be filled; a plain vision transformer.
        path: where the state is from.

    Returns:
        Tensors by timm's names.

    Raises:
        WeightsError: if the file holds several transformers, is fine-tuned so that its last norm is missing,
            or is stated to be of another architecture.
    """
    state = _transformer_in(state, path)
    _check_config(stated_config(path), model, path)
    if any(name.endswith(_THEIR_PATCHES) for name in state):
        state = _from_transformers(state)
    state = _unchunked(state, path)
    has_norm = not isinstance(model.norm, nn.Identity)
    if has_norm and "fc_norm.weight" in state and "norm.weight" not in state:
        raise WeightsError(
            f"{path}: fine-tuned for classes with the mean of all patches: its last norm, fc_norm, was "
            "trained for that mean, and the norm of patches isn't in it. Take the file of the pre-training."
        )
    if (patches := state.get(_PATCHES)) is not None and patches.ndim == 4:
        theirs, ours = tuple(patches.shape[2:]), tuple(model.patch_embed.patch_size)
        if theirs != ours:
            _LOG.warning(
                "%s: made for patches of %d x %d pixels, resampled to %d x %d; encoder.patch_size=%d takes "
                "them as they are.",
                *(path, *theirs, *ours, theirs[0]),
            )
    if (side := _grid_side(state, model)) and (side, side) != model.patch_embed.grid_size:
        model.set_input_size(img_size=(side * model.patch_embed.patch_size[0],) * 2)
    return dict(checkpoint_filter_fn(state, model))


def needed(state: State, module: nn.Module, patterns: tuple[str, ...]) -> State:
    """Leave out names that fit a pattern and aren't the module's."""
    wanted = module.state_dict().keys()
    return {name: value for name, value in state.items() if name in wanted or not matches(name, patterns)}


def _transformer_in(state: State, path: Path) -> State:
    """Take off what stands before the names of the one transformer in a file, such as ``backbone.``."""
    marks = (_PATCHES, _THEIR_PATCHES)
    found = [(name, mark) for name in state for mark in marks if name == mark or name.endswith(f".{mark}")]
    if len(found) > 1:
        raise WeightsError(
            f"{path}: holds {len(found)} vision transformers ({', '.join(name for name, _ in found)}); "
            "expected one. Save the one that is wanted in a file of its own."
        )
    prefix = found[0][0].removesuffix(found[0][1]) if found else ""
    return {name.removeprefix(prefix): value for name, value in state.items()}


def _from_transformers(state: State) -> State:
    renamed: State = {}
    for name, value in state.items():
        ours = _BLOCK.sub(r"blocks.\1.", name)
        if not ours.startswith("decoder"):
            for old, new in _TRANSFORMERS_NAMES:
                ours = ours.replace(old, new)
        renamed[ours] = value
    for first in [name for name in renamed if ".attn.q." in name]:
        parts = [renamed.pop(first.replace(".attn.q.", f".attn.{part}."), None) for part in "qkv"]
        renamed[first.replace(".attn.q.", ".attn.qkv.")] = torch.cat(
            [part for part in parts if part is not None]
        )
    return renamed


def _unchunked(state: State, path: Path) -> State:
    # DINOv2 splits its blocks into chunks for distributed training and keeps each block's own number.
    if not any(_CHUNKED.match(name) for name in state):
        return state
    plain = {_CHUNKED.sub(r"blocks.\1.", name): value for name, value in state.items()}
    if len(plain) < len(state):
        raise WeightsError(f"{path}: numbers of blocks occur in several chunks; expected each block's own.")
    return plain


def _grid_side(state: State, model: VisionTransformer) -> int:
    """Patches along a side of the file's position table; 0 where it has none, or no square one."""
    table = state.get("pos_embed")
    if table is None or table.ndim != 3 or model.pos_embed is None:
        return 0
    for others in (0 if model.no_embed_class else model.num_prefix_tokens, 1, 0):
        side = math.isqrt(max(0, table.shape[1] - others))
        if side**2 == table.shape[1] - others:
            return side
    return 0


def _check_config(config: dict[str, Any], model: VisionTransformer, path: Path) -> None:
    """Compare what a ``config.json`` states and shapes can't show; take its epsilon of the norms."""
    attention: Any = model.blocks[0].attn
    heads = config.get("num_attention_heads", attention.num_heads)
    if heads != attention.num_heads:
        raise WeightsError(
            f"{path}: config.json has num_attention_heads={heads}, the encoder {attention.num_heads}: its "
            f"features would be wrong. Set encoder.heads={heads}."
        )
    if isinstance(epsilon := config.get("layer_norm_eps"), float):
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = epsilon
