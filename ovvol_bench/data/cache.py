"""Columns kept from start to start in the cache folder, and hashes of what files hold."""

from __future__ import annotations

import hashlib
import logging
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from ovvol_bench.errors import SettingError
from ovvol_bench.files import replacing

Columns = Mapping[str, Any]
"""Arrays by name."""

_LOG = logging.getLogger(__name__)
_SIZES = 200_000  # files of which the size counts; more, as in ImageNet-VID's train, would make starts slow
_SAMPLES = 5_000  # files of which bytes are read
_BLOCK = 1 << 10  # bytes


def cache_folder(setting: str | None) -> Path:
    """Return the folder that a ``cache`` setting names, or the user's cache folder."""
    if setting is not None:
        return Path(setting)
    import platformdirs

    return Path(platformdirs.user_cache_dir("ovvol-bench"))


def load_columns(folder: Path, key: str) -> Columns | None:
    """Load the columns stored under a key; None if there are none, or the file is damaged."""
    try:
        with np.load(folder / f"{key}.npz", allow_pickle=False) as stored:
            return dict(stored)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def store_columns(folder: Path, key: str, columns: Columns) -> None:
    """Store columns in one step; a folder that can't be written costs time, not the run."""
    try:
        with replacing(folder / f"{key}.npz") as temporary:
            np.savez(temporary, **columns)
    except (OSError, SettingError) as error:
        _LOG.warning("%s can't be written (%s): the next start will take as long.", folder, error)


def content_digest(count: int, path_of: Callable[[int], str]) -> str:
    """Hash the sizes of files, and samples of their content: enough to notice that they were replaced.

    Of many files, sizes of 200,000 and samples of 5,000 are taken, evenly spread; ``ovvol-bench data check
    --content`` compares every byte.

    Args:
        count: of files.
        path_of: gives the path of each, by its position in the dataset's order.

    Returns:
        32 hex digits; nothing where no file is there, as predictions can be scored without frames.
    """
    # times of change are left out: a copy of a dataset has others
    digest, there = hashlib.blake2b(digest_size=16), False
    for path in map(path_of, range(0, count, -(-count // _SIZES) or 1)):
        try:
            size = os.stat(path).st_size  # noqa: PTH116 - a Path a frame costs more than the look
        except OSError:
            size = -1
        there |= size >= 0
        digest.update(size.to_bytes(8, "little", signed=True))
    if not there:
        return ""
    for path in map(path_of, range(0, count, -(-count // _SAMPLES) or 1)):
        try:
            # a pipe may be in the file's place: opening it would wait for a writer, forever
            with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", 0) as file:  # noqa: PTH123 - no path
                digest.update(sample(file, 2))
        except OSError:
            digest.update(b"unreadable")
    return digest.hexdigest()


def sample(file: IO[bytes], blocks: int, length: int = _BLOCK) -> bytes:
    """Read blocks of a file, the last one at its end, the others evenly spread; small files whole."""
    size = os.fstat(file.fileno()).st_size
    if size <= blocks * length:
        return file.read(blocks * length)
    parts = []
    for block in range(1, blocks + 1):
        file.seek(block * size // blocks - length)
        parts.append(file.read(length))
    return b"".join(parts)
