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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from ovvol_bench.errors import DataError, SettingError, nearest
from ovvol_bench.files import in_utf8, read_text

# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".264", ".265", ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".h264",
    ".h265", ".hevc", ".ivf", ".m1v", ".m2t", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov",
    ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".obu", ".ogm", ".ogv", ".ogx", ".qt", ".rm",
    ".rmvb", ".ts", ".vob", ".webm", ".wmv", ".y4m",
})
# fmt: on
"""Endings of files that are taken for videos; their content decides."""

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


ALL = "all"
LIST_SUFFIX = ".txt"

Rows = Sequence[int]
Recipe = Callable[[int], Rows]
"""Positions of a split's videos, given how many videos the file has."""


def split_rows(split: str, names: Sequence[str], recipes: Mapping[str, Recipe], source: Path) -> Rows:
    """Return the positions of a split's videos.

    Args:
        split: ``all``, the name of a recipe, or the path of a text file with a video a line.
        names: of all videos, in the order of the file.
        recipes: by the split's name.
        source: of the videos, for messages.

    Raises:
        SettingError: if there is no such split.
        DataError: if the split has no video, or a list is malformed; names list and line.
    """
    if split.endswith(LIST_SUFFIX):
        return _listed(Path(split), names, source)
    known = {ALL: range, **recipes}
    if split not in known:
        raise SettingError(
            f"dataset.split='{split}' is unknown.{nearest(split, known)} Splits: {', '.join(known)}; or a "
            f"{LIST_SUFFIX} file with a video a line."
        )
    rows = known[split](len(names))
    if not rows:
        raise DataError(
            f"{source}: split '{split}' is empty; the file has {len(names)} videos. Set "
            "dataset.split to all, or to a list of videos."
        )
    return rows


def _listed(path: Path, names: Sequence[str], source: Path) -> Rows:
    try:
        lines = read_text(path).splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"List {path} can't be read ({error}). Set dataset.split to a text file.") from error
    row_of = {name: row for row, name in enumerate(names)}
    rows: dict[int, int] = {}
    for number, line in enumerate(lines, 1):
        name = line.strip()
        name = name if name in row_of else name.replace("\\", "/")
        if not name:
            continue
        if name not in row_of:
            raise DataError(
                f"List {path}, line {number}: '{name}' is no video of {source}.{nearest(name, names)} "
                "Write a video's name a line."
            )
        if rows.setdefault(row_of[name], number) != number:
            raise DataError(f"List {path}, line {number}: '{name}' is there twice. List every video once.")
    if not rows:
        raise DataError(f"List {path} is empty: expected a video's name a line.")
    return list(rows)
