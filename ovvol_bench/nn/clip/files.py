"""Files that hold a whole CLIP: in the project's own layout, as training writes them, or transformers'.

Our own have the image tower (``model.``), the text tower (``text.``) and whatever stands on them; the
architecture is in the header. The text tower's token embedding, by far the largest table of a small CLIP, is
stored sparsely: the rows of the tokens that were trained, and their ids; the other rows are zero.
Those of transformers are brought to OpenAI's names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ovvol_bench.errors import SettingError, WeightsError
from ovvol_bench.nn.clip.towers import ClipNumbers
from ovvol_bench.nn.hub import stated_config
from ovvol_bench.weights import State, matches, read_metadata

IMAGE = "model."
TEXT = "text."
_TOKENS = "text.token_embedding.weight"
_ROWS = "text.token_embedding.rows"
_INDICES = "text.token_embedding.indices"
_NUMBERS = "clip"


# Names in transformers, and in OpenAI's and open_clip's files.
MARK = "vision_model.embeddings.patch_embedding.weight"
_TOWERS = (("vision_model.", "visual."), ("text_model.", ""))
_PROJECTIONS = {"visual_projection.weight": "visual.proj", "text_projection.weight": "text_projection"}
_TABLES = (
    ("embeddings.class_embedding", "class_embedding"),
    ("embeddings.patch_embedding.", "conv1."),
    ("embeddings.position_embedding.weight", "positional_embedding"),
    ("embeddings.token_embedding.", "token_embedding."),
    ("pre_layrnorm.", "ln_pre."),  # sic
    ("post_layernorm.", "ln_post."),
    ("final_layer_norm.", "ln_final."),
    ("encoder.layers.", "transformer.resblocks."),
    ("self_attn.out_proj.", "attn.out_proj."),
    ("layer_norm1.", "ln_1."),
    ("layer_norm2.", "ln_2."),
    ("mlp.fc1.", "mlp.c_fc."),
    ("mlp.fc2.", "mlp.c_proj."),
)


def stored_numbers(path: Path) -> dict[str, int]:
    """Read the architecture that a file or the ``config.json`` beside it states; empty where neither does.

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
    """Return an architecture as metadata of a file; `stored_numbers` reads it."""
    return {_NUMBERS: json.dumps(asdict(numbers))}


def holds_text(state: Mapping[str, Tensor]) -> bool:
    """Tell whether a state dict brings a text tower in this layout."""
    return any(name.startswith(TEXT) for name in state)


def sparse_tokens(state: State, known_words: Tensor | None = None) -> State:
    """Keep only those rows of the token embedding that are not all zero.

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


def openai_names(state: State) -> State:
    """Rename both towers of a ``CLIPModel`` as OpenAI's and open_clip's files have them."""
    renamed: State = {}
    for name, value in state.items():
        if name in _PROJECTIONS:
            renamed[_PROJECTIONS[name]] = value.T
            continue
        if matches(name, ("*.position_ids",)):  # 0, 1, 2, ... in older files
            continue
        ours = name
        for old, new in _TOWERS:
            ours = f"{new}{ours.removeprefix(old)}" if ours.startswith(old) else ours
        for old, new in _TABLES:
            ours = ours.replace(old, new)
        renamed[ours] = value
    for first in [name for name in renamed if ".self_attn.q_proj." in name]:
        parts = [renamed.pop(first.replace("q_proj", f"{part}_proj"), None) for part in "qkv"]
        joined = torch.cat([part for part in parts if part is not None])
        renamed[first.replace("self_attn.q_proj.", "attn.in_proj_")] = joined
    return renamed


def clip_numbers(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Read the architecture that a ``config.json`` of transformers states; empty if it is of no CLIP.

    Returns:
        Values of `ClipNumbers` by name.

    Raises:
        WeightsError: if it states what a plain CLIP hasn't, or leaves out what it needs.
    """
    if config.get("model_type") != "clip":
        return {}
    image, text = (config.get(f"{tower}_config") or {} for tower in ("vision", "text"))
    activations = {each.get("hidden_act", "quick_gelu") for each in (image, text)}
    if len(activations) > 1 or not activations <= {"gelu", "quick_gelu"}:
        raise WeightsError(
            f"{path}: config.json has hidden_act={', '.join(map(str, activations))}; "
            "expected one GELU for both."
        )
    try:
        numbers = {
            "embed_dim": config["projection_dim"],
            "patch_size": image["patch_size"],
            "image_size": image["image_size"],
            "width": image["hidden_size"],
            "layers": image["num_hidden_layers"],
            "heads": image["num_attention_heads"],
            "text_width": text["hidden_size"],
            "text_layers": text["num_hidden_layers"],
            "text_heads": text["num_attention_heads"],
        }
    except (KeyError, TypeError) as error:
        raise WeightsError(f"{path}: config.json doesn't state {error}, which a CLIP needs.") from error
    if wrong := [name for name, value in numbers.items() if type(value) is not int]:
        raise WeightsError(f"{path}: config.json: {wrong[0]} is {numbers[wrong[0]]!r}; expected a number.")
    return {**numbers, "quick_gelu": activations == {"quick_gelu"}}
