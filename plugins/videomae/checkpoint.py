"""The checkpoint layouts that a VideoMAE encoder reads, and what they say about its architecture."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ovvol_bench import SettingError, WeightsError
from ovvol_bench.nn.hub import stated_config
from ovvol_bench.weights import State, load_strict, read_metadata

from .settings import POSITIONS, VideoMAESettings

_LOG = logging.getLogger(__name__)

_HEADER = "videomae"  # key of the architecture in the header of this project's own files

# Parts of published files that a frozen encoder has no use for, each with the reason.
_NOT_NEEDED = (
    "decoder.*",  # pixel decoder of the pre-training
    "encoder_to_decoder.*",
    "mask_token",
    "head.*",  # classifier of the fine-tuning
    "cls_head.*",  # the same in mmaction2
    "fc_norm.*",  # applied after pooling, before the classifier
    "classifier.*",  # the same in transformers
    "pos_embed",  # positions are computed; `_check_positions` compares
    "position_embeddings",
    "embeddings.position_embeddings",
    "conditioning.*",  # slot attention, in a file that holds its encoder as well
    "grouping.*",
)
_STORED_POSITIONS = ("pos_embed", "position_embeddings", "embeddings.position_embeddings")

_CHOICES = {"final_norm", "position_frames", "position_grid"}
"""Settings that may differ from those that a file states: positions are resized, a norm may be left out."""


def settings_for(given: Mapping[str, Any], state: State, path: Path) -> VideoMAESettings:
    """Choose the settings of an encoder for some weights: those given, then those that the weights state.

    Args:
        given: fields of `VideoMAESettings`.
        state: read from ``path``.
        path: of the weights.

    Raises:
        SettingError: if sizes do not fit together, or if heads are neither given nor stated, for a file whose
            sizes vary.
        WeightsError: as `stated_settings`.
    """
    stated = stated_settings(path, state)
    if "heads" not in {*given, *stated} and layout_of(state, path)[0] == _HUGGING_FACE_MARK:
        raise SettingError(
            f"{path}: weights of transformers don't tell their number of attention heads. Give the folder "
            "with their config.json, or set encoder.heads."
        )
    return VideoMAESettings(**{**stated, **given})


def stated_settings(path: Path, state: State) -> dict[str, Any]:
    """Read the settings that weights state: in a ``config.json`` beside them, their header or names.

    Args:
        path: of the file or folder.
        state: read from it.

    Returns:
        Some of the fields of `VideoMAESettings`.

    Raises:
        WeightsError: if ``config.json`` is of another architecture, or the header is damaged.
    """
    if config := stated_config(path):
        return _settings_of_config(config, path)
    if header := read_metadata(path).get(_HEADER):
        try:
            stated = json.loads(header)
            VideoMAESettings(**stated)
        except (ValueError, TypeError, RecursionError, SettingError) as error:
            raise WeightsError(
                f"{path}: its header states no encoder that could be built ({error})."
            ) from error
        return dict(stated)
    # transformers has no other positions.
    return {"positions": "flat"} if layout_of(state, path)[0] == _HUGGING_FACE_MARK else {}


def header_of(settings: VideoMAESettings) -> dict[str, str]:
    """Write an architecture as metadata of a file, for `stated_settings`; the final norm is a choice."""
    return {
        _HEADER: json.dumps({key: value for key, value in asdict(settings).items() if key != "final_norm"})
    }


def load_encoder(encoder: nn.Module, settings: VideoMAESettings, state: State, path: Path) -> None:
    """Load an encoder from any layout in `LAYOUTS`.

    Args:
        encoder: to be filled.
        settings: of the encoder.
        state: as `read_state` gives it.
        path: where it is from.

    Raises:
        WeightsError: if the layout is unknown, names, shapes or positions do not fit, or the file states
            another architecture.
    """
    mark, prefix = layout_of(state, path)
    stated = stated_settings(path, state)
    differing = [
        key for key, value in stated.items() if getattr(settings, key) != value and key not in _CHOICES
    ]
    if differing:
        theirs = ", ".join(f"{key}={stated[key]}" for key in differing)
        ours = ", ".join(f"{key}={getattr(settings, key)}" for key in differing)
        raise WeightsError(
            f"{path}: made for {theirs}, and the encoder has {ours}: its features would be wrong. Leave "
            "these settings to the file."
        )
    if stated.get("position_grid", settings.position_grid) != settings.position_grid:
        _LOG.warning(
            "%s: made for %s x %s patches, and encoder.position_grid=%s: positions differ from training.",
            *(path, stated["position_grid"], stated["position_grid"], settings.position_grid),
        )
    # Of an encoder in a larger model the prefix goes; the other names stay, to be known or refused.
    plain = {name: value for name, value in state.items() if not name.startswith(prefix)}
    plain |= {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    if settings.final_norm and f"{prefix}fc_norm.weight" in state and f"{prefix}norm.weight" not in state:
        raise WeightsError(
            f"{path}: fine-tuned for classes: its last norm, fc_norm, was trained for the mean of "
            "all patches and none of each. Set encoder.final_norm=false, or take pre-trained weights."
        )
    _check_positions(settings, plain, path)
    # The norm is trained with the pre-training's decoder; the reference never applies it.
    unused = () if settings.final_norm else ("norm.*",)
    load_strict(encoder, LAYOUTS[mark](plain), path, (*_NOT_NEEDED, *unused))


def layout_of(state: State, source: Path) -> tuple[str, str]:
    """Find the encoder in a state dict.

    Returns:
        The name of its patch embedding as one of `LAYOUTS` has it, and what stands before that name.

    Raises:
        WeightsError: if there is no encoder, or more than one.
    """
    found = [
        (mark, name.removesuffix(mark))
        for mark in LAYOUTS
        for name in state
        if name == mark or name.endswith(f".{mark}")
    ]
    if len(found) != 1:
        what = f"{len(found)} encoders ({', '.join(name for _, name in found)})" if found else "no encoder"
        raise WeightsError(
            f"{source}: not a VideoMAE checkpoint: it holds {what}; expected one name that ends in "
            f"{', '.join(LAYOUTS)}. It begins with {', '.join(list(state)[:3])}."
        )
    return found[0]


def _check_positions(settings: VideoMAESettings, state: State, path: Path) -> None:
    """Compare a stored table with the one that is computed: features of other positions would be wrong."""
    stored = next((state[name] for name in _STORED_POSITIONS if name in state), None)
    if stored is None:
        return
    rows = stored.reshape(-1, stored.shape[-1]).float()
    steps, side = settings.position_frames // settings.tubelet_size, settings.position_grid
    sizes = [(steps, side)]
    if len(rows) != steps * side**2:  # for clips of the same length, or frames of the same size
        sizes = [(n, math.isqrt(len(rows) // n)) for n in (steps, max(1, len(rows) // side**2))]
    fitting = {
        (kind, n, g)
        for kind, make in POSITIONS.items()
        for n, g in sizes
        # A file may be in half precision.
        if n * g * g == len(rows) and torch.allclose(make(n, g, rows.shape[1]).flatten(0, 2), rows, atol=2e-3)
    }
    if (settings.positions, steps, side) in fitting:
        return
    same_kind = next(((n, g) for kind, n, g in fitting if kind == settings.positions), None)
    if same_kind is not None:
        _LOG.warning(
            "%s: holds positions of %d steps of %d x %d patches, the encoder has position_frames=%d, "
            "position_grid=%d.",
            *(path, same_kind[0], same_kind[1], same_kind[1], settings.position_frames, side),
        )
        return
    other = next(
        (f"they are those of positions={kind}" for kind, *_ in fitting), "they were trained, or are others"
    )
    raise WeightsError(
        f"{path}: the positions in it, {tuple(stored.shape)}, are not those of encoder.positions="
        f"{settings.positions} ({other}): features would be wrong."
    )


# With the values that transformers has for what a config.json leaves out.
_CONFIG_SIZES = {
    "image_size": 224,
    "patch_size": 16,
    "num_frames": 16,
    "tubelet_size": 2,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}


def _settings_of_config(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Read a ``config.json`` of transformers as settings."""
    expected = {"model_type": "videomae", "hidden_act": "gelu", "num_channels": 3}
    for key, value in expected.items():
        if config.get(key, value) != value:
            raise WeightsError(f"{path}: config.json has {key}={config[key]!r}; expected {value!r}.")
    sizes: dict[str, Any] = {key: config.get(key, default) for key, default in _CONFIG_SIZES.items()}
    if isinstance(sizes["image_size"], list) and len(set(sizes["image_size"])) == 1:
        sizes["image_size"] = sizes["image_size"][0]
    if wrong := [key for key, value in sizes.items() if type(value) is not int or value < 1]:
        raise WeightsError(
            f"{path}: config.json has {wrong[0]}={sizes[wrong[0]]!r}; expected a number above 0."
        )
    return {
        "patch_size": sizes["patch_size"],
        "tubelet_size": sizes["tubelet_size"],
        "dim": sizes["hidden_size"],
        "depth": sizes["num_hidden_layers"],
        "heads": sizes["num_attention_heads"],
        "mlp_ratio": sizes["intermediate_size"] / sizes["hidden_size"],
        "position_frames": sizes["num_frames"],
        "position_grid": sizes["image_size"] // sizes["patch_size"],
        "positions": "flat",
        "final_norm": not config.get("use_mean_pooling", True),  # transformers then leaves it out
        "norm_eps": float(config.get("layer_norm_eps", 1e-12)),
    }


_HUGGING_FACE_MARK = "embeddings.patch_embeddings.projection.weight"
_HUGGING_FACE_NAMES = {
    "embeddings.patch_embeddings.projection.": "patch_embed.proj.",
    "encoder.layer.": "blocks.",
    "attention.output.dense.": "attn.proj.",
    "attention.attention.": "attn.",
    "intermediate.dense.": "mlp.fc1.",
    "output.dense.": "mlp.fc2.",
    "layernorm_before.": "norm1.",
    "layernorm_after.": "norm2.",
    "layernorm.": "norm.",
}
_MMACTION_NAMES = {
    "patch_embed.projection.": "patch_embed.proj.",
    "mlp.layers.0.0.": "mlp.fc1.",
    "mlp.layers.1.": "mlp.fc2.",
}


def _renamed(state: State, names: Mapping[str, str]) -> State:
    """Replace parts of names, in their order; the decoder of a pre-training keeps its own."""
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        ours = name
        for old, new in names.items() if not name.startswith("decoder.") else ():
            ours = ours.replace(old, new)
        found[ours] = value
    return found


def _from_hugging_face(state: State) -> State:
    """Bring the names of transformers to ours, and join query, key and value."""
    found = _renamed(state, _HUGGING_FACE_NAMES)
    ends = "query.weight"
    for prefix in [name.removesuffix(ends) for name in found if name.endswith(f".attn.{ends}")]:
        parts = [found.pop(f"{prefix}{part}.weight", None) for part in ("query", "key", "value")]
        found[f"{prefix}qkv.weight"] = torch.cat([part for part in parts if part is not None])
        for old, new in (("query.bias", "q_bias"), ("value.bias", "v_bias")):
            if f"{prefix}{old}" in found:
                found[f"{prefix}{new}"] = found.pop(f"{prefix}{old}")
        # A bias on keys adds the same to a whole row of the softmax: it has no effect, trained or not.
        found.pop(f"{prefix}key.bias", None)
    return found


LAYOUTS: dict[str, Callable[[State], State]] = {
    "patch_embed.proj.weight": dict,  # the authors', the reference's, this project's
    "patch_embed.projection.weight": partial(_renamed, names=_MMACTION_NAMES),
    _HUGGING_FACE_MARK: _from_hugging_face,
}
"""Conversions of names to the module's, by the name that tells the layout."""
