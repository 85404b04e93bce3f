"""Published CLIP weights: from a file, open_clip's cache, or the network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
from huggingface_hub import constants, try_to_load_from_cache
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

from ovvol_bench.errors import SettingError, WeightsError, nearest
from ovvol_bench.nn.clip.files import (
    IMAGE,
    MARK,
    TEXT,
    check_stated,
    dense_tokens,
    holds_text,
    openai_names,
    stored_numbers,
)
from ovvol_bench.nn.clip.towers import CUSTOM, ClipTowers, build_towers, clip_config
from ovvol_bench.nn.hub import reachable
from ovvol_bench.weights import State, load_strict, read_state, weights_file

# In files that hold both towers and of no use to either: the loss's scale, the numbers of the
# architecture in OpenAI's own files.
_NOT_NEEDED = ("logit_scale", "logit_bias", "input_resolution", "context_length", "vocab_size")
_OPENAI_MARK = "input_resolution"
_VISUAL = "visual."
_HUB_NAMES = (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME)


def load_clip(model: str, pretrained: str | None) -> ClipTowers:
    """Build a CLIP with its weights.

    Args:
        model: a name that open_clip knows, or ``custom`` for the one that a file of our own states.
        pretrained: as for `load_pretrained`; None for random weights.

    Raises:
        SettingError: if settings are unknown or do not fit together.
        WeightsError: if the weights can't be had or do not fit.
    """
    path = weights_file(pretrained) if pretrained is not None else None
    stored = stored_numbers(path) if path else {}
    if model == CUSTOM and not stored:
        raise SettingError(
            f"CLIP: model=custom takes its architecture from a file that states it, as `ovvol-bench train` "
            f"writes; pretrained={pretrained!r} is none. Name a model of open_clip's, or such a file."
        )
    towers = build_towers(clip_config(model, {}, stored), model)
    if pretrained is not None:
        load_pretrained(towers, model, pretrained)
    return towers


def load_pretrained(towers: ClipTowers, model: str, pretrained: str) -> None:
    """Fill both towers with published weights.

    Args:
        towers: of the model.
        model: name of the model; ``custom`` with a file only.
        pretrained: path of a file that holds both towers under open_clip's, OpenAI's or our own names, or of
            a folder of a ``CLIPModel`` of transformers; PACKAGE:NAME for one that comes with a plugin; or one
            of open_clip's tags, such as ``openai``.

    Raises:
        SettingError: if the weights were trained with the other GELU.
        WeightsError: if the weights can't be had or do not fit.
    """
    path = weights_file(pretrained)
    if path is not None:
        _load_both(towers, path)
        return
    tag = open_clip.get_pretrained_cfg(model, pretrained) if model != CUSTOM else {}
    if not tag:
        tags = [] if model == CUSTOM else open_clip.list_pretrained_tags_by_model(model)
        raise WeightsError(
            f"CLIP: pretrained={pretrained!r} is no file, and no tag of {model!r} in open_clip "
            f"({', '.join(tags) or 'it has none'}).{nearest(pretrained, tags)}"
        )
    _refuse_other_gelu(towers, tag.get("quick_gelu", False), f"pretrained={pretrained!r}")
    found = _fetched(tag)
    if found is None:
        wanted = " or ".join(_hub_files(tag)) or tag.get("url")
        raise WeightsError(
            f"CLIP: the {pretrained!r} weights of {model!r} are not in open_clip's cache and could not be "
            f"fetched. Fetch {wanted} (Hugging Face hub) on a machine with a network and set "
            f"labeler.pretrained to that file, or set labeler.weights to a file that holds both towers."
        )
    _load_both(towers, found)


def _hub_files(tag: Mapping[str, Any]) -> list[str]:
    """List the files on the hub that hold the weights, REPOSITORY/NAME, safest first."""
    place = tag.get("hf_hub", "")
    if place.endswith("/"):
        return [f"{place}{name}" for name in _HUB_NAMES]
    return [place] if place else []


def _fetched(tag: Mapping[str, Any]) -> Path | None:
    """Return a tag's file in the cache, fetched if need be; None where it can't be had."""
    for file in _hub_files(tag):
        repository, _, name = file.rpartition("/")
        if isinstance(cached := try_to_load_from_cache(repository, name), str):
            return Path(cached)
    # Asked first: without a network the hub's client would retry for most of a minute.
    if not reachable(tag.get("url") or constants.ENDPOINT):
        return None
    try:
        return Path(open_clip.download_pretrained(dict(tag)))
    except (RuntimeError, OSError):
        return None


def _load_both(towers: ClipTowers, path: Path) -> None:
    state = read_state(path)
    numbers = stored_numbers(path)
    if _OPENAI_MARK in state or numbers:
        _refuse_other_gelu(towers, bool(numbers.get("quick_gelu", True)), str(path))
    check_stated(towers.numbers, numbers, path)
    if MARK in state:
        state = openai_names(state)
    if holds_text(state) and numbers:
        state = dense_tokens(state, towers.text.vocab_size, path)
        image, text = _under(IMAGE, state), _under(TEXT, state)
    else:
        image = _under(_VISUAL, state)
        text = {name.removeprefix(TEXT): v for name, v in state.items() if not name.startswith(_VISUAL)}
    load_strict(towers.image, image, path)
    load_strict(towers.text, text, path, ignored=_NOT_NEEDED)


def _under(prefix: str, state: State) -> State:
    """Return the tensors whose names begin so, without that beginning."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _refuse_other_gelu(towers: ClipTowers, quick: bool, what: str) -> None:
    if quick != towers.quick_gelu:
        better = "one ending in '-quickgelu'" if quick else "the one without '-quickgelu'"
        raise SettingError(
            f"CLIP: {what} was trained with the {'quick' if quick else 'exact'} GELU and the model uses "
            f"the other; its features would be wrong. Set labeler.model to {better}."
        )
