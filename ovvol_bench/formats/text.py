"""Text files of numbers: lines read as columns, each checked, and written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Doubles, Ints
from ovvol_bench.errors import DataError
from ovvol_bench.files import read_text, replacing, require_file
from ovvol_bench.formats.entries import Faults, Rows


@dataclass(frozen=True)
class Layout:
    """Form of a line.

    Attributes:
        names: of the columns that it must have.
        most: columns that are read.
        comma: numbers stand between commas, or in files without any between blanks; false: between blanks.
        more: further columns may follow, of anything.
    """

    names: tuple[str, ...]
    most: int
    comma: bool = False
    more: bool = False

    def parts(self, line: str) -> list[str] | None:
        """Return the columns of a line that are read, None if it has too few or too many."""
        # A separator at the end adds no column.
        parts = line.rstrip().rstrip(",").split(",") if self.comma and "," in line else line.split()
        parts = parts[: self.most] if self.more else parts
        return parts if len(self.names) <= len(parts) <= self.most else None

    def numbers(self, line: str) -> list[float] | None:
        """Return the numbers of a line, NaN in columns that it doesn't have; None if it is malformed."""
        try:
            numbers = [float(part) for part in self.parts(line) or ()]
        except ValueError:
            return None
        return numbers + [float("nan")] * (self.most - len(numbers)) if numbers else None


def read_numbers(path: Path, layout: Layout, faults: Faults, first: int = 0) -> tuple[Doubles, Ints, int]:
    """Read a table of numbers.

    Args:
        path: of a text file.
        layout: of its lines.
        faults: gets lines that have another.
        first: number of the file's line 0 among the entries.

    Returns:
        (E, most) float64, NaN in columns that a line doesn't have; (E,) number of each line; and how many
        lines the file has, blank ones left out.

    Raises:
        DataError: if the file can't be read, or naming the first malformed line, unless faults are skipped.
    """
    # pyarrow reads millions of lines a second, but tells no malformed line's number.
    table = _read_sound(path, layout)
    if table is not None:
        return table, first + np.arange(1, len(table) + 1), len(table)
    try:
        lines = read_text(path).splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: can't be read as text ({error})") from error
    parsed = {number: layout.numbers(line) for number, line in enumerate(lines, 1) if line.strip()}
    bad = [number for number, numbers in parsed.items() if numbers is None]
    if bad:
        most = "or more" if layout.more else f"to {layout.most}"
        what = f"'{lines[bad[0] - 1][:100]}'; expected {len(layout.names)} {most} numbers"
        form = ("," if layout.comma else " ").join(layout.names)
        faults.found("malformed entry", first + np.array(bad), f"{what}, {form}")
    good = {number: numbers for number, numbers in parsed.items() if numbers is not None}
    table = np.array(list(good.values()), np.float64).reshape(-1, layout.most)
    return table, first + np.array(list(good), np.int64), len(parsed)


def _read_sound(path: Path, layout: Layout) -> Doubles | None:
    """Read the table of a file without a blank or malformed line, None for others."""
    from pyarrow import ArrowInvalid, csv, float64

    try:
        with require_file(path).open("rb") as file:
            line = file.readline().decode()
        parts = layout.parts(line)
        if parts is None:
            return None
        separator = next((mark for mark in (",", "\t") if mark in line), " ")
        names = list(map(str, range(len(line.split(separator)))))
        types = dict.fromkeys(names, float64())
        table = csv.read_csv(
            path,
            csv.ReadOptions(column_names=names),
            csv.ParseOptions(delimiter=separator, ignore_empty_lines=False),
            csv.ConvertOptions(column_types=types, null_values=[], include_columns=names[: len(parts)]),
        )
    except (ArrowInvalid, ValueError, OSError):
        return None
    numbers = np.full((len(table), layout.most), np.nan)
    for place, column in enumerate(table.columns):
        numbers[:, place] = column.to_numpy()
    return numbers


def whole(rows: Rows, values: Doubles, name: str) -> Ints:
    """Return a column as (E,) int64; entries that have no whole number there are refused."""
    good = np.isfinite(values) & (values == np.trunc(values)) & (np.abs(values) < 2**53)
    rows.refuse(~good, "malformed entry", lambda row: f"{name} {values[row]:g}; expected a whole number")
    return np.where(good, values, -1).astype(np.int64)


def write_numbers(path: Path, columns: Sequence[npt.NDArray[Any]], separator: str) -> None:
    """Write one line for each row, atomically, with as many digits as it takes to read the same again.

    Raises:
        OutputError: if it can't be written.
    """
    # Whole numbers stand without a point.
    texts = [[text.removesuffix(".0") for text in map(repr, column.tolist())] for column in columns]
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(f"{separator.join(row)}\n" for row in zip(*texts, strict=True))
