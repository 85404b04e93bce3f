"""Annotation files in JSON, checked field by field: a mistake is told with the file and the entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ovvol_bench.errors import DataError
from ovvol_bench.files import read_json as parsed_json
from ovvol_bench.files import shown
from ovvol_bench.masks import check_size

_MISSING = object()
_WORDS = {int: "a whole number", float: "a number", str: "text", list: "a list", bool: "true or false"}
NUMBER = (int, float)
WHOLE = (int,)
FLAG = (int, bool)
TEXT = (str,)
LIST = (list,)

LARGEST = 2**53
"""Whole numbers up to here keep all their digits as float64, as which columns hold them."""
LONGEST = 1000
"""Characters of a name or a file's path."""


@dataclass(frozen=True)
class Section:
    """One list of a file, such as ``videos``.

    Attributes:
        path: of the file.
        name: of the list.
        entries: its items, mappings all.
    """

    path: Path
    name: str
    entries: Sequence[Mapping[str, Any]]

    def __len__(self) -> int:
        return len(self.entries)

    def column(self, field: str, kinds: tuple[type, ...], default: Any = _MISSING) -> list[Any]:
        """A field of every entry.

        Args:
            field: its name.
            kinds: what its values may be, exactly.
            default: for entries without it or with null; not given: it must be there.

        Raises:
            DataError: if an entry lacks it or has something else there; names the entry.
        """
        values = [entry.get(field, default) for entry in self.entries]
        for row, value in enumerate(values):
            if value is _MISSING:
                self.refuse(row, f"{field} is missing; expected {_expected(kinds)}")
            if value is None and default is not _MISSING:
                values[row] = default
            elif type(value) is float and float not in kinds and int in kinds and value.is_integer():
                values[row] = int(value)  # 1.0, as tables write ids
            elif type(value) not in kinds and value is not default:
                self.refuse(row, f"{field} is {shown(value)}; expected {_expected(kinds)}")
            if type(values[row]) is int and abs(values[row]) > LARGEST:
                self.refuse(row, f"{field} is {shown(value)}; expected at most 2^53")
            if type(value) is str and len(value) > LONGEST:
                self.refuse(row, f"{field} has {len(value)} characters; expected at most {LONGEST}")
        return values

    def ids(self) -> list[int]:
        """The entries' ids.

        Raises:
            DataError: if an entry has none, or one is used twice.
        """
        ids: list[int] = self.column("id", WHOLE)
        self.require_unique("id", ids)
        return ids

    def require_unique(self, field: str, values: Sequence[Any]) -> None:
        """Check that no value of a field is there twice.

        Raises:
            DataError: if one is; names the second entry.
        """
        seen = set()
        for row, value in enumerate(values):
            if value in seen:
                self.refuse(row, f"the {field} {shown(value)} is used twice; expected every {field} once")
            seen.add(value)

    def rows(self, field: str, of: Section, row_of: Mapping[int, int]) -> list[int]:
        """Which entry of another list a field of every entry points to.

        Args:
            field: its name, such as ``video_id``.
            of: the other list.
            row_of: position of every id of the other list.

        Raises:
            DataError: if there is no such entry; names both.
        """
        targets = self.column(field, WHOLE)
        for row, target in enumerate(targets):
            if target not in row_of:
                self.refuse(row, f"{field} {target} is none of the ids in '{of.name}'")
        return [row_of[target] for target in targets]

    def paths(self, row: int, names: Sequence[Any]) -> list[str]:
        """Paths of files as they are below their folder, with ``/`` also where Windows wrote backslashes.

        Raises:
            DataError: if one is empty, no text or too long; names the entry.
        """
        for name in names:
            if type(name) is not str or not 1 <= len(name) <= LONGEST:
                self.refuse(row, f"a file name is {shown(name)}; expected text of 1 to {LONGEST} characters")
        return [name.replace("\\", "/") for name in names]

    def files(self) -> list[str]:
        """The ``file_name`` of every entry.

        Raises:
            DataError: see ``paths``.
        """
        names = self.column("file_name", TEXT)
        return [self.paths(row, [name])[0] for row, name in enumerate(names)]

    def check_size(self, row: int, size: tuple[int, int]) -> None:
        """Refuse an entry whose (height, width) no frame has.

        Raises:
            DataError: naming the entry.
        """
        try:
            check_size(size)
        except ValueError as error:
            self.refuse(row, str(error))

    def refuse(self, row: int, problem: str) -> NoReturn:
        """Raise a ``DataError`` about an entry.

        Args:
            row: position of the entry.
            problem: what is wrong and what was expected, without a full stop.
        """
        number = self.entries[row].get("id")
        called = f" (id {number})" if number is not None else ""
        raise DataError(
            f"{self.path}: {self.name}[{row}]{called}: {problem}. Correct or leave out the entry."
        )


@dataclass(frozen=True)
class JsonFile:
    """A parsed file whose top level is a mapping.

    Attributes:
        path: of the file.
        content: the mapping.
    """

    path: Path
    content: Mapping[str, Any]

    def section(self, name: str, optional: bool = False) -> Section:
        """One of its lists.

        Args:
            name: of the list.
            optional: whether it may be missing or null, which reads as empty.

        Raises:
            DataError: if it is missing or anything but a list of mappings.
        """
        entries = self.content.get(name)
        if entries is None and optional:
            entries = []
        if not isinstance(entries, list):
            known = ", ".join(sorted(map(str, self.content))) or "nothing"
            raise DataError(
                f"{self.path}: '{name}' is {shown(entries)}; expected a list. The file has: {known}. Is it "
                "the annotation file, and of this format?"
            )
        for row, entry in enumerate(entries):
            if not isinstance(entry, dict):
                raise DataError(f"{self.path}: {name}[{row}] is {shown(entry)}; expected fields with names.")
        return Section(self.path, name, entries)


def read_json(path: Path) -> JsonFile:
    """Parse a file.

    Raises:
        DataError: if it is missing, cut off or no JSON, or its top level is no mapping.
    """
    content = parsed_json(path)
    if not isinstance(content, dict):
        raise DataError(
            f"{path}: the top level is {shown(content)}; expected fields with names, 'videos' among them. "
            "Is it a file of results? Those are read by 'ovvol-bench eval'."
        )
    return JsonFile(path, content)


def box_problem(box: Any) -> str | None:
    """What is wrong with ``[x, y, width, height]``, or None."""
    if not isinstance(box, list) or len(box) != 4 or not all(type(value) in NUMBER for value in box):
        return f"is {shown(box)}; expected [x, y, width, height]"
    if not all(abs(value) < LARGEST for value in box) or box[2] < 0 or box[3] < 0:  # NaN is not below either
        return f"is {shown(box)}; expected finite numbers and no negative width or height"
    return None


def _expected(kinds: tuple[type, ...]) -> str:
    return " or ".join(_WORDS[kind] for kind in kinds)
