"""Video files of a folder, or of a list with a line a video.

Lists are those of common training programs for videos: ``./snippet.mp4 0``, a path and a label,
separated by white space. The label is of no use here and may be left out. Paths are relative to the
dataset's folder, or absolute; backslashes separate folders, too.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from collections import Counter
from pathlib import Path, PurePosixPath

from ovvol_bench.data.video import VIDEO_SUFFIXES
from ovvol_bench.errors import DataError
from ovvol_bench.files import in_utf8, read_text

_LOG = logging.getLogger(__name__)
_LINE = re.compile(r"(?P<path>\S.*?)(\s+-?\d+)?\s*")
_KNOWN = ".mp4, .mkv, .webm, .avi or another ending of videos"


def find_video_files(path: Path) -> dict[str, Path]:
    """Find video files by their name below ``path``, sorted; a single file by its own name.

    Raises:
        DataError: if there are none.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"can't be opened ({error})"
        raise DataError(f"{path} {reason}: set dataset.path to a video file or a folder of them.") from None
    if not stat.S_ISDIR(mode):
        return {in_utf8(path.name): path}
    found = sorted(
        file for file in path.rglob("*") if file.suffix.lower() in VIDEO_SUFFIXES and not file.is_dir()
    )
    if not found:
        raise DataError(
            f"{path} holds no video files: expected {_KNOWN}. For folders of frames use dataset imagenet-vid."
        )
    return {in_utf8(file.relative_to(path).as_posix()): file for file in found}


def other_files(path: Path) -> dict[str, int]:
    """Count what else lies below a folder of videos, by ending; hidden files are left aside.

    Returns:
        Reason to count, as of ``Dataset.skipped``.
    """
    files = (file for file in path.rglob("*") if not file.name.startswith(".") and file.is_file())
    others = [file for file in files if file.suffix.lower() not in VIDEO_SUFFIXES] if path.is_dir() else []
    if others:
        _LOG.warning(
            "left out: %d files below %s are no videos by their ending, first: %s",
            len(others), path, ", ".join(sorted(in_utf8(file.name) for file in others)[:3]),
        )  # fmt: skip
    endings = Counter(in_utf8(file.suffix.lower()) or "none" for file in others)
    return {f"files that are no videos by their ending ({e})": n for e, n in sorted(endings.items())}


def read_video_list(source: Path, root: Path) -> dict[str, Path]:
    """Read the video files that a list names, by the names they have there without ``./``, in its order.

    Args:
        source: the list.
        root: what its paths are relative to.

    Raises:
        DataError: if the list can't be read or is empty, a line names no video file or one that was
            named before, or files are missing; names list and line.
    """
    numbered = _paths(source)
    if not numbered:
        raise DataError(f"List {source} is empty: expected one video a line, such as './snippet.mp4 0'.")
    missing = [
        (number, name)
        for name, number in numbered.items()
        if not os.path.isfile(root / name)  # noqa: PTH113 - is_file() raises for names that no file can have
    ]
    if missing:
        number, name = missing[0]
        raise DataError(
            f"{len(missing)} of {len(numbered)} videos in the list {source} are missing, first in line "
            f"{number}: {root / name}. Set dataset.path to the folder that the list's paths start from, or "
            "write the list again."
        )
    return {name: root / name for name in numbered}


def prepared_videos(root: Path, split: str, list_file: Path | None = None) -> dict[str, Path] | None:
    """Find video files of a split as ``ovvol-bench data prepare`` writes them; None if there are none.

    Args:
        root: holds the folder ``SPLIT`` and usually ``SPLIT.csv``.
        split: ``train``, ``val`` or another.
        list_file: the list; None takes ``root/SPLIT.csv``, or all files in ``root/SPLIT``.

    Raises:
        DataError: see ``read_video_list``.
    """
    standard = root / f"{split}.csv"
    source = list_file or (standard if standard.is_file() else None)
    if source is not None:
        return read_video_list(source, root)
    if not (root / split).is_dir():
        return None
    return {f"{split}/{name}": file for name, file in find_video_files(root / split).items()}


def listed_video(line: str, where: str) -> str:
    """Return the path in a line of a list, without ``./``.

    Raises:
        DataError: if it names no video file; begins with ``where``.
    """
    match = _LINE.fullmatch(line.strip().replace("\\", "/"))
    path = PurePosixPath(match["path"] if match else line)
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        raise DataError(
            f"{where} names no video file: '{line.strip()}'. Expected a path and a label separated by a "
            f"space, such as './snippet.mp4 0', with a path that ends in {_KNOWN}."
        )
    return path.as_posix()


def _paths(source: Path) -> dict[str, int]:
    """Read the paths of a list with the lines they stand in."""
    try:
        lines = read_text(source).splitlines()
    except (OSError, ValueError) as error:
        raise DataError(
            f"List {source} can't be read ({error}). Set dataset.list to a text file, one video a line."
        ) from error
    paths: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name = listed_video(line, f"List {source}, line {number}")
        if paths.setdefault(name, number) != number:
            raise DataError(
                f"List {source} has '{name}' in lines {paths[name]} and {number}. List every video once."
            )
    return paths
