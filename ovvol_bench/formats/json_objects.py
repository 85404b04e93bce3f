"""Lists of objects in JSON files: fields read as columns, each value checked, and lists written.

Annotation files are refused at the first mistake, see `Section`; of results, malformed entries may be left
out, see `columns_of`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn, Self, TypeVar

import numpy as np

from ovvol_bench.arrays import Doubles, Ints
from ovvol_bench.errors import DataError
from ovvol_bench.files import read_json, replacing, shown
from ovvol_bench.formats.entries import Faults
from ovvol_bench.masks import check_size

Columns = TypeVar("Columns")

WHOLE, NUMBER, FLAG, TEXT, LIST = (int,), (int, float), (int, bool), (str,), (list,)
LARGEST = 2**53  # whole numbers up to here keep all their digits as float64
LONGEST = 1000  # characters of a name or a file's path
REQUIRED = object()  # in place of a default
_WORDS = {int: "a whole number", float: "a number", str: "text", list: "a list", bool: "true or false"}


class FieldError(ValueError):
    """Missing field of an entry, or one that holds something other than it should.

    Attributes:
        row: position of the entry.
    """

    def __init__(self, row: int, problem: str) -> None:
        super().__init__(problem)
        self.row = row


def column(
    entries: Sequence[Mapping[str, Any]],
    field: str,
    kinds: tuple[type, ...],
    default: Any = REQUIRED,
    most: int | None = None,
) -> list[Any]:
    """Read a field of every entry.

    Args:
        entries: objects of a file.
        field: its name.
        kinds: exact types of its values; 1.0 counts as a whole number, as tables write ids.
        default: for entries without it or with null; not given: it must be there.
        most: largest whole number, and with a minus the least; None: any.

    Raises:
        FieldError: if an entry lacks it or has something else there.
    """
    values = [entry.get(field, default) for entry in entries]
    if default is not REQUIRED and None in values:
        values = [default if value is None else value for value in values]
    given = values if default is not None else [value for value in values if value is not None]
    types = set(map(type, given))
    if types <= set(kinds):  # as in nearly all files: passes in C, without a loop
        small = int not in types or most is None or -most <= min(given) <= max(given) <= most
        if small and (str not in types or max(map(len, given)) <= LONGEST):
            return values
    expected = " or ".join(_WORDS[kind] for kind in kinds)
    for row, value in enumerate(values):
        if value is REQUIRED:
            raise FieldError(row, f"{field} is missing; expected {expected}")
        if type(value) is float and float not in kinds and int in kinds and value.is_integer():
            values[row] = int(value)
        elif type(value) not in kinds and value is not default:
            raise FieldError(row, f"{field} is {shown(value)}; expected {expected}")
        if type(values[row]) is int and most is not None and abs(values[row]) > most:
            raise FieldError(row, f"{field} is {shown(value)}; expected at most 2^{(most - 1).bit_length()}")
        if type(value) is str and len(value) > LONGEST:
            raise FieldError(row, f"{field} has {len(value)} characters; expected at most {LONGEST}")
    return values


def whole_numbers(entries: Sequence[Mapping[str, Any]], field: str, default: Any = REQUIRED) -> Ints:
    """Read whole numbers as (E,) int64, see `column`; OverflowError beyond its range."""
    return np.fromiter(column(entries, field, WHOLE, default), np.int64, len(entries))


def boxes_of(values: Sequence[Any]) -> Doubles:
    """Read boxes as (N, 4) float64 x, y, width, height.

    Raises:
        FieldError: if one is no list of four numbers; its row is the position among the values.
    """
    flat = chain.from_iterable
    try:
        fours = set(map(type, values)) <= {list} and set(map(len, values)) <= {4}
        if fours and set(map(type, flat(values))) <= {int, float}:  # true and false are no numbers
            return np.fromiter(flat(values), np.float64, 4 * len(values)).reshape(-1, 4)
    except OverflowError:  # a whole number beyond all floats
        pass
    row = next(
        row
        for row, value in enumerate(values)
        if type(value) is not list
        or len(value) != 4
        or not all(type(n) is float or (type(n) is int and abs(n) < 2**1000) for n in value)
    )
    raise FieldError(row, f"is {shown(values[row])}; expected [x, y, width, height]")


@dataclass(frozen=True)
class Section:
    """List of an annotation file, such as ``videos``.

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

    def refuse(self, row: int, problem: str) -> NoReturn:
        """Raise a ``DataError`` about an entry.

        Args:
            row: position of the entry.
            problem: what is wrong and what was expected, without a full stop.
        """
        number = self.entries[row].get("id")
        called = f" (id {shown(number)})" if number is not None else ""
        raise DataError(
            f"{self.path}: {self.name}[{row}]{called}: {problem}. Correct or leave out the entry."
        )

    def column(self, field: str, kinds: tuple[type, ...], default: Any = REQUIRED) -> list[Any]:
        """Read a field of every entry, see `column`; whole numbers up to 2^53.

        Raises:
            DataError: if an entry lacks it or has something else there; names the entry.
        """
        try:
            return column(self.entries, field, kinds, default, LARGEST)
        except FieldError as error:
            self.refuse(error.row, str(error))

    @cached_property
    def ids(self) -> list[int]:
        """Numbers of the entries.

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

    def rows(self, field: str, of: Section) -> list[int]:
        """Find the entry of another list that a field of every entry points to, as ``video_id`` does.

        Raises:
            DataError: if there is no such entry; names both.
        """
        targets = self.column(field, WHOLE)
        row_of = {number: row for row, number in enumerate(of.ids)}
        for row, target in enumerate(targets):
            if target not in row_of:
                self.refuse(row, f"{field} {target} is none of the ids in '{of.name}'")
        return [row_of[target] for target in targets]

    def paths(self, row: int, names: Sequence[Any]) -> list[str]:
        """Return paths of an entry's files below their folder, Windows's backslashes as ``/``.

        Raises:
            DataError: if one is empty, no text or too long; names the entry.
        """
        for name in names:
            if type(name) is not str or not 1 <= len(name) <= LONGEST:
                self.refuse(row, f"a file name is {shown(name)}; expected text of 1 to {LONGEST} characters")
        return [name.replace("\\", "/") for name in names]

    def sizes(self) -> list[tuple[int, int]]:
        """Read the (height, width) of every entry.

        Raises:
            DataError: if no frame has such a size; names the entry.
        """
        sizes = list(zip(self.column("height", WHOLE), self.column("width", WHOLE), strict=True))
        for row, size in enumerate(sizes):
            try:
                check_size(size)
            except ValueError as error:
                self.refuse(row, str(error))
        return sizes


@dataclass(frozen=True)
class JsonFile:
    """Parsed file whose top level is a mapping.

    Attributes:
        path: of the file.
        content: the mapping.
    """

    path: Path
    content: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Parse a file.

        Raises:
            DataError: if it is missing, cut off or no JSON, or its top level is no mapping.
        """
        content = read_json(path)
        if not isinstance(content, dict):
            raise DataError(
                f"{path}: the top level is {shown(content)}; expected fields with names, 'videos' among "
                "them. Is it a file of results? Those are read by 'ovvol-bench eval'."
            )
        return cls(path, content)

    def section(self, name: str, optional: bool = False) -> Section:
        """Return one of its lists.

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


def columns_of(
    entries: Sequence[Any], read: Callable[[Sequence[Any]], Columns], faults: Faults, expected: str
) -> tuple[Columns, Ints]:
    """Read columns of the entries that have the form they should.

    Args:
        entries: objects of a file.
        read: makes columns of entries; raises ValueError or the like where one has another form.
        faults: gets the others.
        expected: the form, for the message.

    Returns:
        Columns, and the position of each entry that is in them.

    Raises:
        DataError: naming the first malformed entry, unless faults are skipped.
    """
    unreadable = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
    try:
        return read(entries), np.arange(len(entries))
    except unreadable:
        pass
    # Some entry is malformed, which says no row: each is tried alone.
    problems: dict[int, str] = {}
    for row, entry in enumerate(entries):
        try:
            read([entry])
        except unreadable as error:
            problems[row] = f" ({error})" if isinstance(error, ValueError) and str(error) else ""
    if problems:
        first = min(problems)
        what = f"expected {expected}, found {shown(entries[first], 200)}{problems[first]}"
        faults.found("malformed entry", np.array(list(problems)), what)
    good = [row for row in range(len(entries)) if row not in problems]
    return read([entries[row] for row in good]), np.array(good, np.int64)


def load_list(path: Path, what: str) -> list[Any]:
    """Read a JSON file that is a list.

    Args:
        path: of the file.
        what: its entries are, for the message.

    Raises:
        DataError: if it can't be read or holds something else.
    """
    entries = read_json(path)
    if not isinstance(entries, list):
        raise DataError(f"{path}: expected a list of {what}, found a JSON {type(entries).__name__}")
    return entries


def write_list(path: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSON list atomically, an entry a line.

    Raises:
        OutputError: if it can't be written.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(chain(_lines(entries), "\n"))


def write_lists(path: Path, lists: Mapping[str, Iterable[Mapping[str, Any]]]) -> None:
    """Write a JSON object of lists atomically, an entry a line.

    Raises:
        OutputError: if it can't be written.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for number, (name, entries) in enumerate(lists.items()):
            file.write(f"{',' if number else '{'}\n{json.dumps(name)}: ")
            file.writelines(_lines(entries))
        file.write("\n}\n")


def _lines(entries: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
    yield "["
    for number, entry in enumerate(entries):
        yield ",\n" if number else "\n"
        yield encode(entry)
    yield "\n]"
