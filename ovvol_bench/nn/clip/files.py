"""Files that hold a whole CLIP in the project's own layout, as training writes them.

Image tower (``model.``), text tower (``text.``) and whatever stands on them; the architecture is in the
header. The text tower's token embedding, by far the largest table of a small CLIP, is stored sparsely: the
rows of the tokens that were trained, and their ids; the other rows are zero.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from ovvol_bench.errors import SettingError, WeightsError
from ovvol_bench.nn.clip.towers import ClipNumbers
from ovvol_bench.nn.clip.transformers import clip_numbers
from ovvol_bench.nn.model_folders import stated_config
from ovvol_bench.weights import State, read_metadata

IMAGE = "model."
TEXT = "text."
_TOKENS = "text.token_embedding.weight"
_ROWS = "text.token_embedding.rows"
_INDICES = "text.token_embedding.indices"
_NUMBERS = "clip"


def stored_numbers(path: Path) -> dict[str, int]:
    """The architecture that a file states, or the ``config.json`` beside it; empty for one of another origin.

    Raises:
        WeightsError: if the file is missing or truncated, or states an architecture that can't be built.
    """
    if config := stated_config(path):
        return clip_numbers(config, path)
    try:
        numbers: dict[str, Any] = json.loads(read_metadata(path).get(_NUMBERS, "{}"))
        if numbers:
            ClipNumbers(**numbers)
    except (ValueError, TypeError, RecursionError, SettingError) as error:
        raise WeightsError(f"{path}: its header states no CLIP that could be built ({error}).") from error
    return numbers


def check_stated(numbers: ClipNumbers, found: Mapping[str, int], path: Path) -> None:
    """Compare what a file states with a model where shapes don't tell.

    Raises:
        WeightsError: if heads or the activation are others.
    """
    for name in ("heads", "text_heads", "quick_gelu"):
        theirs, ours = found.get(name), getattr(numbers, name)
        if theirs is not None and theirs != ours:
            raise WeightsError(
                f"{path}: made for {name}={theirs}, and the model has {ours}: its features would be wrong. "
                "Leave this setting to the file."
            )


def stated(numbers: ClipNumbers) -> dict[str, str]:
    """An architecture as metadata of a file; `stored_numbers` reads it."""
    return {_NUMBERS: json.dumps(asdict(numbers))}


def holds_text(state: Mapping[str, Tensor]) -> bool:
    """Tell whether a state dict brings a text tower in this layout."""
    return any(name.startswith(TEXT) for name in state)


def sparse_tokens(state: State, known_words: Tensor | None = None) -> State:
    """The state with only those rows of the token embedding that are not all zero.

    Args:
        state: of both towers.
        known_words: (vocabulary,) bool, rows that mean something; the others are left out as well.
            None: all.
    """
    table = state[_TOKENS]
    kept = table.any(dim=1) if known_words is None else table.any(dim=1) & known_words
    indices = kept.nonzero().flatten()
    others = {name: value for name, value in state.items() if name != _TOKENS}
    return {**others, _ROWS: table[indices], _INDICES: indices.int()}


def dense_tokens(state: State, vocabulary: int, source: Path) -> State:
    """Undo `sparse_tokens`; a state with the whole table is returned as it is.

    Args:
        state: as read from a file.
        vocabulary: rows of the whole table.
        source: the file, for messages.

    Raises:
        WeightsError: if rows and ids do not fit.
    """
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
