"""All frames of the videos of a tree, without their truth: what there is to train on."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ovvol_bench.arrays import Ints
from ovvol_bench.data.cache import load_columns, store_columns
from ovvol_bench.data.training import FolderVideos
from ovvol_bench.data.vid_tree import VidTree, read_names
from ovvol_bench.errors import DataError
from ovvol_bench.files import require_utf8
from ovvol_bench.progress import with_progress

_LOG = logging.getLogger(__name__)


def open_folder_videos(tree: VidTree, list_file: Path | None, cache: Path) -> FolderVideos:
    """Open the videos that a list names, or all of a split, with all frames that lie in their folders.

    A list chooses videos; which of their frames it names, as ``VID_train_15frames.txt`` does, is of no
    matter here. Folders that are missing or without frames are left out with a warning that counts them.

    Args:
        tree: from ``find_tree``.
        list_file: see ``vid_tree``; None takes the split's own, or all folders.
        cache: folder that keeps the frame numbers, for as long as the folders don't change.

    Raises:
        DataError: if the list can't be read or is empty, the name of a folder is not UTF-8, or no video has
            a frame.
    """
    names = read_names(tree, list_file)
    require_utf8(names, tree.frames)
    lengths, numbers = _frame_numbers(tree, names, cache)
    offsets = np.concatenate([[0], np.cumsum(lengths[lengths > 0])]).astype(np.int64)
    empty = [name for name, length in zip(names, lengths.tolist(), strict=True) if length == 0]
    if len(empty) == len(names):
        raise DataError(
            f"None of {len(names)} videos under {tree.frames / tree.split} has frames: expected folders of "
            f"numbered {tree.suffix} files. Extract the dataset again, or give another list."
        )
    if empty:
        _LOG.warning(
            "left out: %d of %d videos have no frames, first: %s",
            len(empty), len(names), tree.frames / empty[0],
        )  # fmt: skip
    return FolderVideos(tree, np.array(names)[lengths > 0], offsets, numbers)


def _frame_numbers(tree: VidTree, names: Sequence[str], cache: Path) -> tuple[Ints, Ints]:
    """(V,) frames of every video, and (F,) the numbers of all."""
    source = (str(tree.frames.absolute()), [(name, _stamp(tree.frames / name)) for name in names])
    key = f"frames-{hashlib.blake2b(repr(source).encode(), digest_size=16).hexdigest()}"
    columns = load_columns(cache, key)
    if columns is None:
        shown = with_progress(names, len(names), "listing frames", lambda _: 1)
        numbers = [sorted(tree.frame_numbers(name)) for name in shown]
        columns = {
            "lengths": np.array([len(part) for part in numbers], np.int64),
            "numbers": np.concatenate([np.array(part, np.int64) for part in numbers]),
        }
        store_columns(cache, key, columns)
    return columns["lengths"], columns["numbers"]


def _stamp(folder: Path) -> int:
    """Time of the last change; a file that comes or goes changes its folder."""
    return folder.stat().st_mtime_ns if folder.is_dir() else 0
