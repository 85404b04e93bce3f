"""Published files of vision transformers, brought to timm's names.

Layouts: timm's own; DINO, DINOv2, MAE, OpenAI's CLIP as published (timm converts these); checkpoints of
their trainings, with ``backbone.`` before each name and heads beside; DINOv2 in chunks (``blocks.0.3.``);
ViT, ViT-MAE and DINOv2 of transformers.
"""

from __future__ import annotations

import logging
import math
import re
from pathlib import Path
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import nn

from ovvol_bench import WeightsError
from ovvol_bench.nn.hub import stated_config
from ovvol_bench.weights import State, matches

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
    """The state without names that fit a pattern and aren't the module's."""
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
    """DINOv2 splits its blocks into chunks for distributed training and keeps each block's own number."""
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
