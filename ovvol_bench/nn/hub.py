"""Files from the Hugging Face hub: from its cache, or the network where there is one."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies


def hub_file(repository: str, name: str) -> Path | None:
    """A file of a repository on the hub.

    Args:
        repository: as in ``timm/vit_small_patch16_224.dino``.
        name: of the file in it.

    Returns:
        Its path in the cache; None where it can't be had.
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
