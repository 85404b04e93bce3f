"""The checkpoint layouts that a VideoMAE encoder reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from ovvol_bench import WeightsError
from ovvol_bench.weights import State, load_strict, read_state

from .model import VideoMAE

# Parts of published files that a frozen encoder has no use for, each with the reason.
_NOT_NEEDED = (
    "decoder.*",  # pixel decoder of the pre-training
    "encoder_to_decoder.*",
    "mask_token",
    "head.*",  # classifier of the fine-tuning
    "fc_norm.*",  # applied after pooling, before the classifier
    "classifier.*",  # the same in transformers
    "pos_embed",  # positions are computed
    "position_embeddings",
    "conditioning.*",  # slot attention, in a file that holds its encoder as well
    "grouping.*",
)


@dataclass(frozen=True)
class Layout:
    """A family of files: how to tell it, and how to bring its names to the module's."""

    name: str
    marker: str
    convert: Callable[[State], State]


def load_encoder(encoder: VideoMAE, path: Path) -> None:
    """Load an encoder from any layout in `LAYOUTS`.

    Raises:
        WeightsError: if the file can't be read, has an unknown layout, or names or shapes that do
            not fit.
    """
    state = read_state(path)
    layout = next((item for item in LAYOUTS if item.marker in state), None)
    if layout is None:
        known = "; ".join(f"{item.name}: {item.marker}" for item in LAYOUTS)
        raise WeightsError(
            f"{path}: not a VideoMAE checkpoint: it has none of the names that tell the layouts "
            f"({known}), it begins with {', '.join(list(state)[:3])}."
        )
    # The norm is trained with the pre-training's decoder; the reference never applies it.
    unused = () if encoder.settings.final_norm else ("norm.*",)
    load_strict(encoder, layout.convert(state), path, (*_NOT_NEEDED, *unused))


def _without_prefix(prefix: str, state: State) -> State:
    return {name.removeprefix(prefix): value for name, value in state.items()}


_HUGGING_FACE_NAMES = (
    ("embeddings.patch_embeddings.projection.", "patch_embed.proj."),
    ("encoder.layer.", "blocks."),
    ("attention.output.dense.", "attn.proj."),
    ("attention.attention.", "attn."),
    ("intermediate.dense.", "mlp.fc1."),
    ("output.dense.", "mlp.fc2."),
    ("layernorm_before.", "norm1."),
    ("layernorm_after.", "norm2."),
    ("layernorm.", "norm."),
)


def _from_hugging_face(state: State) -> State:
    """Bring the names of transformers to ours, and join query, key and value."""
    renamed: State = {}
    for name, value in state.items():
        ours = name.removeprefix("videomae.")
        if not ours.startswith("decoder."):
            for old, new in _HUGGING_FACE_NAMES:
                ours = ours.replace(old, new)
        renamed[ours] = value
    ends = "query.weight"
    for prefix in [name.removesuffix(ends) for name in renamed if name.endswith(f".attn.{ends}")]:
        _join_attention(renamed, prefix)
    return renamed


def _join_attention(state: State, prefix: str) -> None:
    parts = [state.pop(f"{prefix}{part}.weight", None) for part in ("query", "key", "value")]
    state[f"{prefix}qkv.weight"] = torch.cat([part for part in parts if part is not None])
    for old, new in (("query.bias", "q_bias"), ("value.bias", "v_bias")):
        if f"{prefix}{old}" in state:
            state[f"{prefix}{new}"] = state.pop(f"{prefix}{old}")
    # A bias on keys adds the same to a whole row of the softmax: it has no effect, trained or not.
    state.pop(f"{prefix}key.bias", None)


_HUGGING_FACE_MARK = "embeddings.patch_embeddings.projection.weight"
_OUR_MARK = "patch_embed.proj.weight"
LAYOUTS = (
    Layout("transformers, with a head", f"videomae.{_HUGGING_FACE_MARK}", _from_hugging_face),
    Layout("transformers", _HUGGING_FACE_MARK, _from_hugging_face),
    Layout("pre-training", f"encoder.{_OUR_MARK}", partial(_without_prefix, "encoder.")),
    Layout("slot attention with its encoder", f"model.{_OUR_MARK}", partial(_without_prefix, "model.")),
    Layout("fine-tuned, or saved by this project", _OUR_MARK, partial(_without_prefix, "")),
)
