"""Published CLIP weights: from a file, open_clip's cache, or the network."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import open_clip
from huggingface_hub import constants, try_to_load_from_cache
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

from ovvol_bench import SettingError, WeightsError
from ovvol_bench.errors import nearest
from ovvol_bench.weights import load_strict, read_state

from .clip import CUSTOM, ClipTowers

# In files that hold both towers and of no use to either: the loss's scale, the numbers of the
# architecture in OpenAI's own files.
_NOT_NEEDED = ("logit_scale", "logit_bias", "input_resolution", "context_length", "vocab_size")
_OPENAI_MARK = "input_resolution"
_HUB_NAMES = (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME)


def load_pretrained(towers: ClipTowers, model: str, pretrained: str) -> None:
    """Fill both towers with published weights.

    Args:
        towers: of the model.
        model: name of the model; ``custom`` with a file only.
        pretrained: path of a file that holds both towers under open_clip's or OpenAI's names, or one
            of open_clip's tags, such as ``openai``.

    Raises:
        SettingError: if the weights were trained with the other GELU.
        WeightsError: if the weights can't be had or do not fit.
    """
    path = Path(pretrained).expanduser()
    if path.is_file():
        _load_both(towers, path)
        return
    tag = open_clip.get_pretrained_cfg(model, pretrained) if model != CUSTOM else {}
    if not tag:
        tags = [] if model == CUSTOM else open_clip.list_pretrained_tags_by_model(model)
        raise WeightsError(
            f"pacl: pretrained={pretrained!r} is no file, and no tag of {model!r} in open_clip "
            f"({', '.join(tags) or 'it has none'}).{nearest(pretrained, tags)}"
        )
    _refuse_other_gelu(towers, tag.get("quick_gelu", False), f"pretrained={pretrained!r}")
    found = _in_cache(tag) or _fetched(tag)
    if found is None:
        wanted = " or ".join(_hub_files(tag)) or tag.get("url")
        raise WeightsError(
            f"pacl: the {pretrained!r} weights of {model!r} are not in open_clip's cache and could not be "
            f"fetched. Fetch {wanted} (Hugging Face hub) on a machine with a network and set "
            f"labeler.pretrained to that file, or set labeler.weights to a file that holds both towers."
        )
    _load_both(towers, found)


def _hub_files(tag: Mapping[str, Any]) -> list[str]:
    """Files on the hub that hold the weights, REPOSITORY/NAME, safest first."""
    place = tag.get("hf_hub", "")
    if place.endswith("/"):
        return [f"{place}{name}" for name in _HUB_NAMES]
    return [place] if place else []


def _in_cache(tag: Mapping[str, Any]) -> Path | None:
    places = [file.rpartition("/") for file in _hub_files(tag)]
    cached = [try_to_load_from_cache(repository, name) for repository, _, name in places]
    return next((Path(file) for file in cached if isinstance(file, str)), None)


def _fetched(tag: Mapping[str, Any]) -> Path | None:
    # Asked first: without a network the hub's client would retry for most of a minute.
    if not _reachable(tag.get("url") or constants.ENDPOINT):
        return None
    try:
        return Path(open_clip.download_pretrained(dict(tag)))
    except (RuntimeError, OSError):
        return None


def _reachable(address: str) -> bool:
    """Whether a server's name resolves; behind a proxy names need not, so that it is taken to."""
    if getproxies():
        return True
    try:
        return bool(socket.getaddrinfo(urlsplit(address).hostname, None))
    except OSError:
        return False


def _load_both(towers: ClipTowers, path: Path) -> None:
    state = read_state(path)
    if _OPENAI_MARK in state:
        _refuse_other_gelu(towers, True, str(path))
    image = {name.removeprefix("visual."): v for name, v in state.items() if name.startswith("visual.")}
    text = {name.removeprefix("text."): v for name, v in state.items() if not name.startswith("visual.")}
    load_strict(towers.image, image, path)
    load_strict(towers.text, text, path, ignored=_NOT_NEEDED)


def _refuse_other_gelu(towers: ClipTowers, quick: bool, what: str) -> None:
    if quick != towers.quick_gelu:
        better = "one ending in '-quickgelu'" if quick else "the one without '-quickgelu'"
        raise SettingError(
            f"pacl: {what} was trained with the {'quick' if quick else 'exact'} GELU and the model uses "
            f"the other; its features would be wrong. Set labeler.model to {better}."
        )
