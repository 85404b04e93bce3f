"""Reading and writing PACL weights: the reference's layout, and one file that holds all.

Our own files hold image tower, text tower and trained part. The text tower's token embedding, by far
the largest table of a small CLIP, is stored sparsely: the rows of the tokens that were trained, and
their ids; the other rows are zero.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from ovvol_bench import WeightsError
from ovvol_bench.weights import State, load_strict, read_metadata, read_state, save_state

from .model import PaclLabeler

_TEXT = "text."
_TOKENS = "text.token_embedding.weight"
_ROWS = "text.token_embedding.rows"
_INDICES = "text.token_embedding.indices"
_IMAGE_MARK = "model.class_embedding"
_NUMBERS = "clip"


def stored_numbers(path: Path) -> dict[str, int]:
    """The architecture that a file written by `save_labeler` states; empty for any other file.

    Raises:
        WeightsError: if the file is missing or truncated.
    """
    numbers: dict[str, int] = json.loads(read_metadata(path).get(_NUMBERS, "{}"))
    return numbers


def holds_text(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict brings a text tower."""
    return any(name.startswith(_TEXT) for name in state)


def load_labeler(labeler: PaclLabeler, path: Path) -> None:
    """Load a checkpoint of the reference, or a file written by `save_labeler`.

    A checkpoint of the reference has no text tower: the labeler keeps its own.

    Raises:
        WeightsError: if the file can't be read, names or shapes do not fit, or the model uses the
            exact GELU where the weights were trained with the quick one.
    """
    load_state(labeler, read_state(path), path)


def load_state(labeler: PaclLabeler, state: State, source: Path) -> None:
    """`load_labeler` for a state dict in memory; ``source`` is the file it came from."""
    if _IMAGE_MARK not in state:
        raise WeightsError(
            f"{source}: not a PACL checkpoint: expected {_IMAGE_MARK} among its names, with or without "
            f"'module.' before it; it begins with {', '.join(list(state)[:3])}."
        )
    if holds_text(state):
        state = _dense(state, labeler.text.vocab_size, source)
    else:
        _refuse_exact_gelu(labeler, source)
        own = {f"{_TEXT}{name}": value for name, value in labeler.text.state_dict().items()}
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
    state = dict(labeler.state_dict())
    table = state.pop(_TOKENS)
    kept = table.any(dim=1) if known_words is None else table.any(dim=1) & known_words
    indices = kept.nonzero().flatten()
    state[_ROWS], state[_INDICES] = table[indices], indices.int()
    numbers = json.dumps(asdict(labeler.numbers))
    save_state(state, path, {**(metadata or {}), _NUMBERS: numbers}, half)


def _dense(state: State, vocabulary: int, source: Path) -> State:
    if _ROWS not in state or _INDICES not in state:
        return state
    rows, indices = state[_ROWS], state[_INDICES].long()
    fits = rows.ndim == 2 and indices.shape == rows.shape[:1]
    if not fits or (len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < vocabulary):
        raise WeightsError(
            f"{source}: {_ROWS} of shape {tuple(rows.shape)} and {_INDICES} of shape "
            f"{tuple(indices.shape)} do not fit: expected (R, width) and (R), ids below {vocabulary}."
        )
    table = rows.new_zeros(vocabulary, rows.shape[1])
    table[indices] = rows
    others = {name: value for name, value in state.items() if name not in {_ROWS, _INDICES}}
    return {**others, _TOKENS: table}


def _refuse_exact_gelu(labeler: PaclLabeler, source: Path) -> None:
    if not labeler.numbers.quick_gelu:
        raise WeightsError(
            f"{source}: a checkpoint of the reference, whose CLIP uses the quick GELU; the model uses "
            f"the exact one. Set labeler.model to one ending in '-quickgelu' (or quick_gelu=true)."
        )
