"""Tables as words, laid out as text, markdown, LaTeX or HTML; numbers as people read them."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest
from textwrap import wrap
from typing import TYPE_CHECKING

from ovvol_bench.printing import for_markdown, printable, shortened

if TYPE_CHECKING:
    from ovvol_bench.results.statistics import Mark

MISSING = "–"
_COUNTS = re.compile(r"_per_|^(active_slots|id_switches|over_segmentation|under_segmentation)")
"""Names of metrics that count things, and are no shares even where their value is 0 or 1."""

_TABULATE_FORMATS = {"text": "simple", "markdown": "pipe", "latex": "latex_booktabs", "html": "html"}

# Characters for private use stand for marks until a table is laid out, as tabulate escapes what they become.
_MARKS: dict[Mark, tuple[str, str]] = {
    "": ("", ""),
    "best": ("\ue000", "\ue001"),
    "second": ("\ue002", "\ue003"),
}
_PRINTED = {
    "text": ("", "", "", ""),
    "markdown": ("**", "**", "<u>", "</u>"),
    "latex": (r"\textbf{", "}", r"\underline{", "}"),
    "html": ("<b>", "</b>", "<u>", "</u>"),
}


_PAPER_NAMES = {
    "corloc_any": "CorLoc",
    "corloc_top1": "CorLoc, top 1",
    "detrate": "DetRate",
    "ap50": "AP\ue00450\ue005",
}
"""Numbers as papers head their columns; the marks become a subscript in LaTeX."""

_GAP = "  "
_MOST_HEADER_LINES = 4
_LEAST_PROSE = 20
"""Characters a line in which sentences are still read with ease."""
_BREAK = re.compile(r"(?<=[ _])|(?=@)")
_NUMBER_BREAKS = (r" (?=\()", r" (?=\(|to )")
"""Where cells such as ``54.3 ± 1.2 (ties 54.1 to 55.0)`` are broken: in two, else in three."""


def is_share(key: str, values: Iterable[float | None]) -> bool:
    """Tell a share, which people read as a percentage, from a count (by its name) and from larger numbers.

    Tables, lists and pictures for people all ask here; in files for programs shares stay as they are.

    Args:
        key: ``NAME`` or ``NAME@PROTOCOL``.
        values: all that are printed in one unit; None and NaN where undefined.

    Returns:
        True if the name is of no count and all values are within [-1, 1].

    >>> is_share("ap50@coco", [0.397, None]), is_share("id_switches_video@mot-box", [1.0])
    (True, False)
    """
    known = (value for value in values if value is not None and not math.isnan(value))
    return not _COUNTS.search(key) and all(-1 <= value <= 1 for value in known)


def with_unit(name: str, share: bool) -> str:
    """The name of a number as people read it: with ``%`` behind that of a share."""
    return f"{name} %" if share else name


def number_text(
    value: float | None,
    share: bool,
    *,
    decimals: int | None = None,
    like: float | None = None,
    sign: str = "",
) -> str:
    """A number as people read it, shares in percent; a dash where it is undefined.

    Args:
        value: as stored.
        share: see ``is_share``.
        decimals: by default 1 for percentages, 0.0 and numbers from 10 on, and 2 for others.
        like: the number that says how many decimals are usual, for a deviation; by default ``value``.
        sign: ``+`` for differences.

    >>> number_text(0.891, share=True), number_text(2.314, share=False), number_text(None, share=True)
    ('89.1', '2.31', '–')
    """
    if value is None or math.isnan(value):
        return MISSING
    if decimals is None:
        size = abs(value if like is None else like)
        decimals = 1 if share or size == 0 or size >= 10 else 2
    rounded = round(100 * value if share else value, decimals) + 0.0  # + 0.0 turns -0.0 into 0.0
    return f"{rounded:{sign}.{decimals}f}"


@dataclass(frozen=True)
class Grid:
    """A block as words, ready to be laid out.

    Attributes:
        title: above the table.
        headers: one a column.
        numeric: which columns are set flush right.
        cells: rows of words.
        notes: below the table.
        marks: of every cell, where some are best or second.
        expendable: places of columns that a narrow terminal may lack, least important first.
        prose: places of columns that hold sentences or lists, whose lines may be broken.
    """

    title: str
    headers: tuple[str, ...]
    numeric: tuple[bool, ...]
    cells: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    marks: tuple[tuple[Mark, ...], ...] = ()
    expendable: tuple[int, ...] = ()
    prose: tuple[int, ...] = ()


def render_grid(grid: Grid, style: str, *, width: int | None = None) -> str:
    """Lay one grid out, with its title above and its notes below.

    Args:
        grid: the words.
        style: ``text``, ``markdown``, ``latex`` or ``html``.
        width: characters of a line of the terminal that text is for: headers and prose are broken and
            expendable columns left out, if they must, and a note says so. A table that doesn't fit even then
            stays as it is.
    """
    from tabulate import tabulate

    aligns = ["right" if numeric else "left" for numeric in grid.numeric]
    escape = for_markdown if style == "markdown" else str
    headers = [escape(shortened(header)) for header in grid.headers]
    if style == "latex":
        headers = [_paper_header(header) for header in headers]
    cells = [[escape(shortened(cell)) for cell in row] for row in grid.cells]
    for row, marks in enumerate(grid.marks):
        for column, each in enumerate(marks):
            before, after = _MARKS[each]
            cells[row][column] = before + cells[row][column] + after
    layout = _TABULATE_FORMATS[style]
    table = str(tabulate(cells, headers, layout, colalign=aligns if cells else None, disable_numparse=True))
    for mark, printed in zip("\ue000\ue001\ue002\ue003", _PRINTED[style], strict=True):
        table = table.replace(mark, printed)
    table = table.replace("\ue004", "$_{").replace("\ue005", "}$")
    notes = [printable(note) for note in grid.notes]
    if style == "text":
        columns = [
            TextColumn(header, tuple(column), grid.numeric[place], place in grid.prose)
            for place, (header, *column) in enumerate(zip(headers, *cells, strict=True))
        ]
        table, left_out = fitted(table, columns, width, grid.expendable)
        notes = [*filter(None, [left_out]), *notes]
    return _FRAMES[style](printable(grid.title), table, notes)


def _paper_header(header: str) -> str:
    """The name of a column as papers print it, what follows it kept, as ``@vid-devkit %``."""
    name = re.split(r"[@ ]", header, maxsplit=1)[0]
    return _PAPER_NAMES.get(name, name) + header[len(name) :]


def _in_ascii(text: str) -> str:
    """LaTeX with commands in place of characters that a document's fonts may lack, as ± and Siméoni."""
    from pylatexenc.latexencode import UnicodeToLatexEncoder

    encoder = UnicodeToLatexEncoder(
        non_ascii_only=True, unknown_char_policy="replace", unknown_char_warning=False
    )
    return str(encoder.unicode_to_latex(text))


def _frame_text(title: str, table: str, notes: Sequence[str]) -> str:
    return "\n".join([title, "", table, *([""] if notes else []), *notes])


def _frame_markdown(title: str, table: str, notes: Sequence[str]) -> str:
    below = ["", *(f"<sub>{for_markdown(note)}</sub><br>" for note in notes)] if notes else []
    return "\n".join([f"**{for_markdown(title)}**", "", table, *below])


def _frame_latex(title: str, table: str, notes: Sequence[str]) -> str:
    above, *below = ("% " + " ".join(text.split()) for text in (title, *notes))
    return _in_ascii("\n".join([above, table, *below]))


def _frame_html(title: str, table: str, notes: Sequence[str]) -> str:
    escaped = [f"<p>{html.escape(note)}</p>" for note in notes]
    return "\n".join([f"<h3>{html.escape(title)}</h3>", table, *escaped])


_FRAMES = {"text": _frame_text, "markdown": _frame_markdown, "latex": _frame_latex, "html": _frame_html}


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
