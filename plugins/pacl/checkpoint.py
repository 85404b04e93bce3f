"""Reading and writing PACL weights: the reference's layout, and one file that holds all.

Our own files hold image tower, text tower and trained part, in the layout of ``ovvol_bench.nn.clip.files``.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import torch
from torch import Tensor

from ovvol_bench import Pretrained, Weights, WeightsError
from ovvol_bench.nn.clip.files import (
    TEXT,
    check_stated,
    dense_tokens,
    holds_text,
    sparse_tokens,
    stated,
    stored_numbers,
)
from ovvol_bench.nn.clip.pretrained import load_pretrained
from ovvol_bench.nn.clip.towers import build_towers, clip_config
from ovvol_bench.nn.grids import resize_grid
from ovvol_bench.registry.annotations import Layers, Side, Width
from ovvol_bench.weights import State, load_strict, read_state, resolve_weights, save_state

from .model import PaclLabeler

BUNDLED = Path(__file__).parent / "weights"
_LOG = logging.getLogger(__name__)

_IMAGE_MARK = "model.class_embedding"
_POSITIONS = "model.positional_embedding"


def build_pacl(
    *,
    weights: Annotated[str | None, Weights] = None,
    model: str = "ViT-B-16-quickgelu",
    pretrained: Annotated[str | None, Pretrained] = "openai",
    pixel_statistics: Literal["clip", "imagenet"] = "clip",
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
    numbers = {
        "embed_dim": embed_dim,
        "patch_size": patch_size,
        "image_size": image_size,
        "width": width,
        "layers": layers,
        "heads": heads,
        "text_width": text_width,
        "text_layers": text_layers,
        "text_heads": text_heads,
        "quick_gelu": quick_gelu,
    }
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


def load_labeler(labeler: PaclLabeler, path: Path) -> None:
    """Load a checkpoint of the reference, or a file written by `save_labeler`.

    A checkpoint of the reference has no text tower: the labeler keeps its own.

    Raises:
        WeightsError: if the file can't be read, names or shapes do not fit, or the model uses the
            exact GELU where the weights were trained with the quick one.
    """
    load_state(labeler, read_state(path), path)


def with_positions_for(labeler: PaclLabeler, state: State, source: Path) -> State:
    """The same state with positions for the labeler's ``image_size``, and a warning if they were for another.

    Bicubic, as where a published CLIP goes on at another resolution. Nothing is changed where the sizes
    agree, or where the table is no square grid behind a class token's row.
    """
    table, grid = state.get(_POSITIONS), labeler.model.grid_size
    side = 0 if table is None else math.isqrt(max(0, len(table) - 1))
    if table is None or side**2 != len(table) - 1 or grid == (side, side):
        return state
    _LOG.warning(
        "%s: positions of %d x %d patches are resized to %d x %d, as labeler.image_size=%d.",
        *(source, side, side, *grid, labeler.numbers.image_size),
    )
    resized = resize_grid(table[1:].float().view(1, side, side, -1), grid).flatten(0, 2)
    return {**state, _POSITIONS: torch.cat((table[:1].float(), resized))}


def load_state(labeler: PaclLabeler, state: State, source: Path) -> None:
    """`load_labeler` for a state dict in memory; ``source`` is the file it came from."""
    if _IMAGE_MARK not in state:
        raise WeightsError(
            f"{source}: not a PACL checkpoint: expected {_IMAGE_MARK} among its names, with or without "
            f"'module.' before it; it begins with {', '.join(list(state)[:3])}."
        )
    if holds_text(state):
        check_stated(labeler.numbers, stored_numbers(source), source)
        state = dense_tokens(state, labeler.text.vocab_size, source)
    else:
        _refuse_exact_gelu(labeler, source)
        own = {f"{TEXT}{name}": value for name, value in labeler.text.state_dict().items()}
        state = {**state, **own}
    load_strict(labeler, state, source)


def save_labeler(
    labeler: PaclLabeler,
    path: Path,
    metadata: Mapping[str, str] | None = None,
    half: bool = True,
    known_words: Tensor | None = None,
) -> None:
    """Write everything the labeler holds, and its architecture, atomically.

    Rows of the token embedding that are all zero are left out.

    Args:
        labeler: to be saved.
        path: a .safetensors file.
        metadata: text by name for the file's header.
        half: store as float16.
        known_words: (vocabulary,) bool, rows of the token embedding that mean something; the others are
            left out as well. None: all.
    """
    state = sparse_tokens(dict(labeler.state_dict()), known_words)
    save_state(state, path, {**(metadata or {}), **stated(labeler.numbers)}, half)


def _refuse_exact_gelu(labeler: PaclLabeler, source: Path) -> None:
    if not labeler.numbers.quick_gelu:
        raise WeightsError(
            f"{source}: a checkpoint of the reference, whose CLIP uses the quick GELU; the model uses "
            f"the exact one. Set labeler.model to one ending in '-quickgelu' (or quick_gelu=true)."
        )
