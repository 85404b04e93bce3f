"""Splits of a dataset: all its videos, a named part, or those that a text file names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ovvol_bench.errors import DataError, SettingError, nearest
from ovvol_bench.files import read_text

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
