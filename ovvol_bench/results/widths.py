"""Tables of plain text for terminals: headers are broken, then sentences, then columns are left out."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest
from textwrap import wrap

_GAP = "  "
_MOST_HEADER_LINES = 4
_LEAST_PROSE = 20
"""Characters a line in which sentences are still read with ease."""
_BREAK = re.compile(r"(?<=[ _])|(?=@)")
_NUMBER_BREAKS = (r" (?=\()", r" (?=\(|to )")
"""Where cells such as ``54.3 ± 1.2 (ties 54.1 to 55.0)`` are broken: in two, else in three."""


@dataclass(frozen=True)
class TextColumn:
    """A column as it is printed; lines of a header or cell are parted by newlines.

    Attributes:
        header: above the cells.
        cells: one a row.
        numeric: set flush right, broken before parentheses and ``to`` alone.
        prose: sentences or lists, which may be broken at any space.
    """

    header: str
    cells: tuple[str, ...]
    numeric: bool = False
    prose: bool = False

    @cached_property
    def header_width(self) -> int:
        """Characters of the header's widest line."""
        return max(map(len, self.header.split("\n")))

    @cached_property
    def cell_width(self) -> int:
        """Characters of the widest line of the cells."""
        return max((len(line) for cell in self.cells for line in cell.split("\n")), default=0)

    @property
    def width(self) -> int:
        """Characters of the widest line."""
        return max(self.header_width, self.cell_width)


def fitted(
    table: str, columns: Sequence[TextColumn], width: int | None, expendable: Sequence[int] = ()
) -> tuple[str, str]:
    """Make a table fit a terminal, if it doesn't.

    Headers are broken at spaces, after underscores and before ``@``, in as few lines as will do. Then prose
    is, and then columns are left out.

    Args:
        table: laid out without limits.
        columns: from left to right.
        width: characters of a line; None where there is no limit, as in files.
        expendable: places of columns that may be left out, least important first.

    Returns:
        The table, as it was if there is no way to make it fit; and a line that says what was left out, or "".
    """
    if width is None or max(map(len, table.split("\n"))) <= width:
        return table, ""
    ways = [
        [_with_broken_header(each, lines) for each in columns] for lines in range(1, _MOST_HEADER_LINES + 1)
    ]
    ways += [[_with_broken_numbers(each, at) for each in ways[-1]] for at in _NUMBER_BREAKS]
    for count in range(len(expendable) + 1):
        gone = sorted(expendable[:count])
        kept = [place for place in range(len(columns)) if place not in gone]
        room = width - len(_GAP) * (len(kept) - 1)
        for number, way in enumerate(ways, start=1):
            found: Sequence[TextColumn] = [way[place] for place in kept]
            if number > _MOST_HEADER_LINES:
                found = _with_broken_prose(found, room)
            if sum(column.width for column in found) <= room:
                return _laid_out(found), _left_out([columns[place].header for place in gone])
    return table, ""


def expendable_places(ranked: Sequence[int], words: Mapping[int, Sequence[str]]) -> tuple[int, ...]:
    """The places of columns, least important first, that can go without rows becoming alike.

    Args:
        ranked: places of columns that may go, least important first.
        words: the cells of all columns of words, by place.
    """

    def told_apart(gone: Collection[int]) -> int:
        rows = set(zip(*(cells for place, cells in words.items() if place not in gone), strict=True))
        return max(len(rows), 1)  # without words all are alike

    gone: list[int] = []
    for place in ranked:
        if place not in words or told_apart([*gone, place]) == told_apart(gone):
            gone.append(place)
    return tuple(gone)


def _left_out(headers: Sequence[str]) -> str:
    names = ", ".join(header.removesuffix(" %") for header in headers)
    how = "To see every column, pipe the output: ... | less -S"
    return f"left out to fit the terminal: {names}. {how}" if names else ""


def _with_broken_header(column: TextColumn, most_lines: int) -> TextColumn:
    """The column as narrow as a header of so many lines lets it be, in the fewest and most even lines."""
    ways = [_broken(column.header, width) for width in range(1, len(column.header) + 1)]

    def cost(lines: list[str]) -> tuple[int, int, int]:
        widest = max(map(len, lines))
        return max(widest, column.cell_width), len(lines), widest

    best = min((lines for lines in ways if len(lines) <= most_lines), key=cost, default=[column.header])
    return replace(column, header="\n".join(best))


def _broken(header: str, width: int) -> list[str]:
    """A header in lines of so many characters; a piece that is longer has a line of its own."""
    lines = [""]
    for piece in _BREAK.split(header):
        if lines[-1] and len((lines[-1] + piece).rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return [line.rstrip() for line in lines]


def _with_broken_numbers(column: TextColumn, at: str) -> TextColumn:
    """The column with what stands behind numbers below them."""
    return (
        replace(column, cells=tuple(re.sub(at, "\n", cell) for cell in column.cells))
        if column.numeric
        else column
    )


def _with_broken_prose(columns: Sequence[TextColumn], room: int) -> Sequence[TextColumn]:
    """The columns with prose in lines that leave room for all, if these don't get too short."""
    longest = max((column.cell_width for column in columns if column.prose), default=0)
    for limit in range(longest, _LEAST_PROSE - 1, -1):
        widths = (
            max(column.header_width, min(column.cell_width, limit)) if column.prose else column.width
            for column in columns
        )
        if sum(widths) <= room:
            return [_wrapped(column, limit) if column.prose else column for column in columns]
    return columns


def _wrapped(column: TextColumn, limit: int) -> TextColumn:
    cells = ("\n".join(wrap(cell, limit, break_on_hyphens=False)) for cell in column.cells)
    return replace(column, cells=tuple(cells))


def _laid_out(columns: Sequence[TextColumn]) -> str:
    """Headers down to a rule below them, cells from above."""
    headers = [column.header.split("\n") for column in columns]
    tallest = max(map(len, headers))
    head = zip(*([""] * (tallest - len(lines)) + lines for lines in headers), strict=True)
    rule = ["-" * column.width for column in columns]
    body = [
        line
        for row in zip(*(column.cells for column in columns), strict=True)
        for line in zip_longest(*(cell.split("\n") for cell in row), fillvalue="")
    ]
    return "\n".join(
        _GAP.join(
            cell.rjust(column.width) if column.numeric else cell.ljust(column.width)
            for cell, column in zip(line, columns, strict=True)
        ).rstrip()
        for line in (*head, rule, *body)
    )
