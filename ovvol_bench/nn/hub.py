"""The Hugging Face hub: files from its cache or the network, and folders of models as it lays them out.

In a folder ``config.json`` states the architecture; the weights are one file, or shards named by an index.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from ovvol_bench.errors import DataError, WeightsError
from ovvol_bench.files import read_json, shown

CONFIG = "config.json"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
_INDICES = tuple(f"{name}.index.json" for name in WEIGHT_FILES)


def hub_file(repository: str, name: str) -> Path | None:
    """Return the path in the cache of a repository's file, fetched if need be; None where it can't be had.

    Args:
        repository: as in ``timm/vit_small_patch16_224.dino``.
        name: of the file in it.
    """
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(repository, name)
    if isinstance(cached, str):
        return Path(cached)
    # Asked first: without a network the hub's client would retry for most of a minute.
    if not reachable(constants.ENDPOINT):
        return None
    try:
        return Path(hf_hub_download(repository, name))
    except (RuntimeError, OSError, ValueError):
        return None


def reachable(address: str) -> bool:
    """Tell whether a server's name resolves; behind a proxy, where names need not, it is taken to."""
    if getproxies():
        return True
    try:
        return bool(socket.getaddrinfo(urlsplit(address).hostname, None))
    except OSError:
        return False


def is_model_folder(path: Path) -> bool:
    """Tell whether a path is a folder that holds weights under one of the hub's names."""
    return path.is_dir() and any((path / name).is_file() for name in (*WEIGHT_FILES, *_INDICES))


def weight_files(path: Path) -> list[Path]:
    """List the files that a folder, or the index of its shards, names.

    Args:
        path: a folder, or a file ending in ``.index.json``.

    Raises:
        WeightsError: if there are none, one is missing, or an index names anything but files beside it.
    """
    folder, indices = (path, _INDICES) if path.is_dir() else (path.parent, (path.name,))
    if path.is_dir() and (single := next((path / n for n in WEIGHT_FILES if (path / n).is_file()), None)):
        return [single]
    index = next((folder / name for name in indices if (folder / name).is_file()), None)
    if index is None:
        raise WeightsError(
            f"{path}: a folder without weights; expected a file, or a folder with "
            f"{', '.join(WEIGHT_FILES)} or an index of shards."
        )
    shards = _read_object(index).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(n, str) for n in shards.values()):
        raise WeightsError(f"{index}: expected weight_map, with the name of a file for every tensor.")
    names = sorted(set(shards.values()))
    # Names come from the file: they may choose among its neighbours and nothing else.
    suffixes = {Path(name).suffix for name in WEIGHT_FILES}
    if strange := [name for name in names if Path(name).name != name or Path(name).suffix not in suffixes]:
        raise WeightsError(f"{index}: shards lie beside their index; {strange[0]!r} is no such name.")
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise WeightsError(
            f"{folder}: {len(missing)} of {len(names)} shards are missing ({', '.join(missing[:3])}). "
            "Fetch them too."
        )
    return [folder / name for name in names]


def stated_config(path: Path) -> dict[str, Any]:
    """Return the content of the ``config.json`` that goes with weights, empty where there is none.

    Args:
        path: a folder, or a file in one under a name that the hub uses.

    Raises:
        WeightsError: if it can't be read.
    """
    if not path.is_dir() and path.name not in {*WEIGHT_FILES, *_INDICES}:
        return {}
    config = (path if path.is_dir() else path.parent) / CONFIG
    return _read_object(config) if config.is_file() else {}


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except DataError as error:
        raise WeightsError(str(error)) from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: holds {shown(content)}; expected a JSON object.")
    return content
