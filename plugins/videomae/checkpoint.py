"""The checkpoint layouts that a VideoMAE encoder reads, and what they say about its architecture."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from ovvol_bench import SettingError, Weights, WeightsError
from ovvol_bench.nn.model_folders import stated_config
from ovvol_bench.registry.limits import Cells, Layers, Side, Width
from ovvol_bench.weights import State, load_strict, read_metadata, read_state, resolve_weights

from .model import PositionKind, VideoMAE, VideoMAESettings
from .positions import flat_table, sincos_table

BUNDLED = Path(__file__).parent / "weights"
_LOG = logging.getLogger(__name__)

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


_HEADER = "videomae"
_STORED_POSITIONS = ("pos_embed", "position_embeddings", "embeddings.position_embeddings")
_CHOICES = {"final_norm", "position_frames", "position_grid"}
"""Settings that may differ from what a file states: positions are resized, a norm may be left out."""


def build_videomae(
    *,
    weights: Annotated[str | None, Weights] = None,
    patch_size: Side | None = None,
    tubelet_size: Cells | None = None,
    dim: Width | None = None,
    depth: Layers | None = None,
    heads: Layers | None = None,
    mlp_ratio: float | None = None,
    position_frames: Cells | None = None,
    position_grid: Cells | None = None,
    positions: PositionKind | None = None,
    final_norm: bool | None = None,
) -> VideoMAE:
    """Build a VideoMAE encoder.

    What isn't set is taken from the weights, if they come with a ``config.json`` of transformers or are of
    this project's own training, and else is as in the paper.

    Args:
        weights: path of a checkpoint or of a folder from the Hugging Face hub, or the name of one that comes
            with the plugin; None leaves the weights random.
        patch_size: side of a patch, pixels; else 16.
        tubelet_size: frames a patch spans; else 1.
        dim: width of the transformer; else 768.
        depth: number of blocks; else 12.
        heads: attention heads; else 12.
        mlp_ratio: hidden width of an MLP over ``dim``; else 4.
        position_frames: longest clip, frames; else 16.
        position_grid: side of the square grid of patches that positions are made for; else 14.
        positions: ``sincos3d``, or ``flat`` for original VideoMAE weights; else sincos3d.
        final_norm: apply a LayerNorm after the last block; else false.

    Raises:
        SettingError: if the sizes do not fit together.
        WeightsError: if the weights can't be read, do not fit, or are stated to be of other sizes.
    """
    given = {
        "patch_size": patch_size,
        "tubelet_size": tubelet_size,
        "dim": dim,
        "depth": depth,
        "heads": heads,
        "mlp_ratio": mlp_ratio,
        "position_frames": position_frames,
        "position_grid": position_grid,
        "positions": positions,
        "final_norm": final_norm,
    }
    path = resolve_weights(weights, BUNDLED) if weights is not None else None
    state = read_state(path) if path else {}
    known = {key: value for key, value in given.items() if value is not None}
    encoder = VideoMAE(settings_for(known, state, path))
    if path is not None:
        load_encoder(encoder, state, path)
    return encoder


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


def stated_settings(path: Path, state: State) -> dict[str, Any]:
    """Settings that weights come with: in the ``config.json`` beside them, their header or their names.

    Args:
        path: of the file or folder.
        state: read from it.

    Returns:
        Some of the fields of `VideoMAESettings`.

    Raises:
        WeightsError: if ``config.json`` is of another architecture.
    """
    if config := stated_config(path):
        return _of_config(config, path)
    if header := read_metadata(path).get(_HEADER):
        return _of_header(header, path)
    # transformers has no other positions.
    return {"positions": "flat"} if layout_of(state, path)[0] == _HUGGING_FACE_MARK else {}


def settings_for(given: Mapping[str, Any], state: State, path: Path | None) -> VideoMAESettings:
    """Settings of an encoder for some weights: those given, then those that the weights state.

    Args:
        given: fields of `VideoMAESettings`.
        state: read from ``path``.
        path: of the weights; None without any.

    Raises:
        SettingError: if sizes do not fit together, or if heads are neither given nor stated, for a file whose
            sizes vary.
        WeightsError: as `stated_settings`.
    """
    if path is None:
        return VideoMAESettings(**given)
    stated = stated_settings(path, state)
    if "heads" not in {*given, *stated} and layout_of(state, path)[0] == _HUGGING_FACE_MARK:
        raise SettingError(
            f"{path}: weights of transformers don't tell their number of attention heads. Give the folder "
            "with their config.json, or set encoder.heads."
        )
    return VideoMAESettings(**{**stated, **given})


def header_of(settings: VideoMAESettings) -> dict[str, str]:
    """An architecture as metadata of a file, as `stated_settings` reads it; the final norm is a choice."""
    return {
        _HEADER: json.dumps({key: value for key, value in asdict(settings).items() if key != "final_norm"})
    }


def load_encoder(encoder: VideoMAE, state: State, path: Path) -> None:
    """Load an encoder from any layout in `LAYOUTS`.

    Args:
        encoder: to be filled.
        state: as `read_state` gives it.
        path: where it is from.

    Raises:
        WeightsError: if the layout is unknown, names, shapes or positions do not fit, or the file states
            another architecture.
    """
    settings = encoder.settings
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
    inside = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    outside = {name: value for name, value in state.items() if not name.startswith(prefix)}
    if settings.final_norm and "fc_norm.weight" in inside and "norm.weight" not in inside:
        raise WeightsError(
            f"{path}: fine-tuned for classes: its last norm, fc_norm, was trained for the mean of "
            "all patches and none of each. Set encoder.final_norm=false, or take pre-trained weights."
        )
    _check_positions(settings, {**outside, **inside}, path)
    # The norm is trained with the pre-training's decoder; the reference never applies it.
    unused = () if settings.final_norm else ("norm.*",)
    load_strict(encoder, LAYOUTS[mark]({**outside, **inside}), path, (*_NOT_NEEDED, *unused))


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
    makers = {"sincos3d": sincos_table, "flat": flat_table}
    fitting = {
        (kind, n, g)
        for kind, make in makers.items()
        for n, g in sizes
        if n * g * g == len(rows) and _alike(make(n, g, rows.shape[1]), rows)
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


def _alike(table: Tensor, rows: Tensor) -> bool:
    return torch.allclose(table.flatten(0, 2), rows, atol=2e-3)  # a file may be in half precision


def _of_config(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
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


def _of_header(header: str, path: Path) -> dict[str, Any]:
    try:
        stated = json.loads(header)
        VideoMAESettings(**stated)
    except (ValueError, TypeError, RecursionError, SettingError) as error:
        raise WeightsError(f"{path}: its header states no encoder that could be built ({error}).") from error
    return dict(stated)


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
        ours = name
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


_MMACTION_NAMES = (
    ("patch_embed.projection.", "patch_embed.proj."),
    ("mlp.layers.0.0.", "mlp.fc1."),
    ("mlp.layers.1.", "mlp.fc2."),
)


def _from_mmaction(state: State) -> State:
    renamed: State = {}
    for name, value in state.items():
        ours = name
        for old, new in _MMACTION_NAMES:
            ours = ours.replace(old, new)
        renamed[ours] = value
    return renamed


_HUGGING_FACE_MARK = "embeddings.patch_embeddings.projection.weight"
LAYOUTS: dict[str, Callable[[State], State]] = {
    "patch_embed.proj.weight": dict,  # the authors', the reference's, this project's
    "patch_embed.projection.weight": _from_mmaction,
    _HUGGING_FACE_MARK: _from_hugging_face,
}
"""Conversions of names to the module's, by the name that tells the layout."""
