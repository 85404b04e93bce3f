"""The checkpoint layouts that a VideoMAE encoder reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
    "pos_embed",  # positions are computed
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


def _without_prefix(prefix: str, others: tuple[str, ...]) -> Callable[[State], State]:
    """A conversion that takes off a prefix and leaves out names that start with ``others``."""

    def convert(state: State) -> State:
        kept = {name: value for name, value in state.items() if not name.startswith(others)}
        return {name.removeprefix(prefix): value for name, value in kept.items()}

    return convert


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
    """Bring the names of `transformers` to ours, and join query, key and value."""
    skipped = ("decoder.", "encoder_to_decoder.", "mask_token", "position_embeddings")
    renamed: State = {}
    for name, value in state.items():
        short = name.removeprefix("videomae.")
        if short.startswith(skipped):
            continue
        for theirs, ours in _HUGGING_FACE_NAMES:
            short = short.replace(theirs, ours)
        renamed[short] = value
    for prefix in [name.removesuffix("query.weight") for name in renamed if name.endswith("query.weight")]:
        _join_attention(renamed, prefix)
    return renamed


def _join_attention(state: State, prefix: str) -> None:
    parts = [state.pop(f"{prefix}{part}.weight", None) for part in ("query", "key", "value")]
    if all(part is not None for part in parts):
        state[f"{prefix}qkv.weight"] = torch.cat([part for part in parts if part is not None])
    for theirs, ours in (("query.bias", "q_bias"), ("value.bias", "v_bias")):
        if f"{prefix}{theirs}" in state:
            state[f"{prefix}{ours}"] = state.pop(f"{prefix}{theirs}")
    # A bias on keys shifts a row of the softmax as a whole: it has no effect, trained or not.
    state.pop(f"{prefix}key.bias", None)


LAYOUTS = (
    Layout(
        "Hugging Face, with head",
        "videomae.embeddings.patch_embeddings.projection.weight",
        _from_hugging_face,
    ),
    Layout("Hugging Face", "embeddings.patch_embeddings.projection.weight", _from_hugging_face),
    Layout("pre-training", "encoder.patch_embed.proj.weight", _without_prefix("encoder.", ())),
    Layout(
        "slot attention with its encoder",
        "model.patch_embed.proj.weight",
        _without_prefix("model.", ("conditioning.", "grouping.")),
    ),
    Layout("fine-tuned, or saved by this project", "patch_embed.proj.weight", _without_prefix("", ())),
)
