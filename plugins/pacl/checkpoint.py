"""Reading and writing PACL weights: the reference's layout, and one file that holds all.

Our own files hold image tower, text tower and trained part, in the layout of ``ovvol_bench.nn.clip.files``.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ovvol_bench import WeightsError
from ovvol_bench.nn.clip.files import (
    TEXT,
    check_stated,
    dense_tokens,
    holds_text,
    sparse_tokens,
    stated,
    stored_numbers,
)
from ovvol_bench.nn.clip.labeler import ClipLabeler
from ovvol_bench.nn.grids import resize_grid
from ovvol_bench.weights import State, load_strict, save_state

_LOG = logging.getLogger(__name__)

_IMAGE_MARK = "model.class_embedding"
_POSITIONS = "model.positional_embedding"


def with_positions_for(labeler: ClipLabeler, state: State, source: Path) -> State:
    """Resize the positions of a state to the labeler's ``image_size``, with a warning; others stay."""
    table, grid = state.get(_POSITIONS), labeler.model.grid_size
    side = 0 if table is None else math.isqrt(max(0, len(table) - 1))
    if (
        table is None or side**2 != len(table) - 1 or grid == (side, side)
    ):  # a class token's row, then a square
        return state
    _LOG.warning(
        "%s: positions of %d x %d patches are resized to %d x %d, as labeler.image_size=%d.",
        *(source, side, side, *grid, labeler.numbers.image_size),
    )
    # Bicubic, as where a published CLIP goes on at another resolution.
    resized = resize_grid(table[1:].float().view(1, side, side, -1), grid).flatten(0, 2)
    return {**state, _POSITIONS: torch.cat((table[:1].float(), resized))}


def load_state(labeler: ClipLabeler, state: State, source: Path) -> None:
    """Load a state dict of the reference, or of `save_labeler`.

    Args:
        labeler: to be filled; where the state has no text tower it keeps its own.
        state: as `read_state` gives it.
        source: the file it came from.

    Raises:
        WeightsError: if names or shapes do not fit, or the model uses the exact GELU where the weights were
            trained with the quick one.
    """
    if _IMAGE_MARK not in state:
        raise WeightsError(
            f"{source}: not a PACL checkpoint: expected {_IMAGE_MARK} among its names, with or without "
            f"'module.' before it; it begins with {', '.join(list(state)[:3])}."
        )
    if holds_text(state):
        check_stated(labeler.numbers, stored_numbers(source), source)
        state = dense_tokens(state, labeler.text.vocab_size, source)
    elif not labeler.numbers.quick_gelu:
        raise WeightsError(
            f"{source}: a checkpoint of the reference, whose CLIP uses the quick GELU; the model uses "
            f"the exact one. Set labeler.model to one ending in '-quickgelu' (or quick_gelu=true)."
        )
    else:
        own = {f"{TEXT}{name}": value for name, value in labeler.text.state_dict().items()}
        state = {**state, **own}
    load_strict(labeler, state, source)


def save_labeler(
    labeler: ClipLabeler,
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
