"""Lists of JSON objects to columns and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Bools, Ints
from ovvol_bench.errors import DataError
from ovvol_bench.files import read_json, replacing, shown
from ovvol_bench.formats.faults import Faults

Columns = TypeVar("Columns")

_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, OverflowError)


def load_list(path: Path, what: str) -> list[Any]:
    """The content of a JSON file that is a list.

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


def columns_of(
    entries: Sequence[Any], read: Callable[[Sequence[Any]], Columns], faults: Faults, expected: str
) -> tuple[Columns, Ints]:
    """Columns of the entries that have the form they should.

    Args:
        entries: objects of a file.
        read: makes columns of entries; KeyError, TypeError or ValueError where one has another form.
        faults: gets the others.
        expected: the form, for the message.

    Returns:
        Columns, and the position of each entry that is in them.

    Raises:
        DataError: naming the first malformed entry, unless faults are skipped.
    """
    try:
        return read(entries), np.arange(len(entries))
    except _UNREADABLE:
        formed = np.array([_is_formed(entry, read) for entry in entries], np.bool_)
    if not formed.all():
        first = int(np.argmin(formed))
        faults.found(
            "malformed entry",
            np.flatnonzero(~formed),
            f"expected {expected}, found {shown(entries[first], 200)}",
        )
    good = np.flatnonzero(formed)
    return read([entries[row] for row in good.tolist()]), good


def integers(entries: Iterable[Mapping[str, Any]], key: str, missing: int | None = None) -> Ints:
    """(E,) int64 of one field.

    Args:
        entries: objects.
        key: of the field.
        missing: stands where there is none or null; None: there must be one.

    Raises:
        KeyError: if an entry lacks the field.
        ValueError: if a value is no whole number.
    """
    values = [entry[key] if missing is None else entry.get(key) for entry in entries]
    if missing is not None:
        values = [missing if value is None else value for value in values]
    column = np.array(values) if values else np.zeros(0, np.int64)
    if column.ndim != 1 or column.dtype.kind not in "iuf" or not _whole(column).all():
        raise ValueError(f"{key}: expected whole numbers")
    return column.astype(np.int64)


def numbers(values: Sequence[Any], shape: tuple[int, ...] = ()) -> npt.NDArray[np.float64]:
    """(E, *shape) float64 of E values, of at most one dimension each; text, true and false are no numbers.

    Raises:
        ValueError, OverflowError: if one is something else.
    """
    column = np.array(values) if len(values) else np.zeros((0, *shape))
    if column.shape != (len(values), *shape) or column.dtype.kind not in "iufO":
        raise ValueError(f"expected numbers, of shape {shape} each")
    if column.dtype.kind == "O" and not all(type(each) in (int, float) for each in column.ravel()):
        raise ValueError("expected numbers")  # whole numbers beyond 64 bits are objects, too
    if bool in set(map(type, chain.from_iterable(values) if shape else values)):
        raise ValueError("expected numbers")
    return column.astype(np.float64)


def _whole(column: npt.NDArray[Any]) -> Bools:
    """Numbers without a fraction that int64 can hold; not NaN or infinity."""
    whole: Bools = (column == np.trunc(column)) & (np.abs(column.astype(np.float64)) < 2.0**63)
    return whole


def write_list(path: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSON list atomically, an entry a line.

    Raises:
        SettingError: if the folder can't be made or written to.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(_list(entries))
        file.write("\n")


def write_lists(path: Path, lists: Mapping[str, Iterable[Mapping[str, Any]]]) -> None:
    """Write a JSON object of lists atomically, an entry a line.

    Raises:
        SettingError: if the folder can't be made or written to.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for number, (name, entries) in enumerate(lists.items()):
            file.write(f"{',' if number else '{'}\n{json.dumps(name)}: ")
            file.writelines(_list(entries))
        file.write("\n}\n")


def _list(entries: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    yield "["
    for number, entry in enumerate(entries):
        yield ",\n" if number else "\n"
        yield _line(entry)
    yield "\n]"


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, ensure_ascii=False, allow_nan=False)


def _is_formed(entry: Any, read: Callable[[Sequence[Any]], object]) -> bool:
    try:
        read([entry])
    except _UNREADABLE:
        return False
    return True
