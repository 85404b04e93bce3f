"""What is costly to read is kept: columns in one file, named by a hash of where they came from."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ovvol_bench.errors import SettingError
from ovvol_bench.files import replacing

Columns = Mapping[str, Any]
"""Arrays by name."""

_LOG = logging.getLogger(__name__)


def cache_folder(setting: str | None) -> Path:
    """The folder that a ``cache`` setting names, or the user's cache folder."""
    if setting is not None:
        return Path(setting)
    import platformdirs

    return Path(platformdirs.user_cache_dir("ovvol-bench"))


def load_columns(folder: Path, key: str) -> Columns | None:
    """Columns stored under a key; None if there are none, or the file is damaged."""
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
