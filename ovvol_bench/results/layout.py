"""Tables laid out as text, markdown, LaTeX or HTML, and numbers as people read them.

tabulate lays out all four. pandas' Styler could print LaTeX and HTML, but needs jinja2 and a second set of
rules to escape, align and mark cells, for no fewer lines. Fitting text to a terminal is our own: tabulate
breaks cells at widths that it is told, but doesn't find these, and leaves no column out.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Collection, Iterable, Sequence
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
_MARKS: dict[Mark, tuple[str, str]] = {"best": ("\ue000", "\ue001"), "second": ("\ue002", "\ue003")}
_PLACEHOLDERS = "\ue000\ue001\ue002\ue003\ue004\ue005"
_PRINTED = {
    "text": ("", "", "", ""),
    "markdown": ("**", "**", "<u>", "</u>"),
    "latex": (r"\textbf{", "}", r"\underline{", "}", "$_{", "}$"),
    "html": ("<b>", "</b>", "<u>", "</u>"),
}
_PAPER_NAMES = {
    "corloc_any": "CorLoc",
    "corloc_top1": "CorLoc, top 1",
    "detrate": "DetRate",
    "ap50": "AP\ue00450\ue005",
}
"""Numbers as papers head their columns; the placeholders become a subscript in LaTeX."""

_GAP = "  "
_MOST_HEADER_LINES = 4
_LEAST_PROSE = 20
"""Characters a line in which sentences are still read with ease."""
_BREAK = re.compile(r"(?<=[ _])|(?=@)")
_NUMBER_BREAKS = (r" (?=\()", r" (?=\(|to )")
"""Places to break cells such as ``54.3 ± 1.2 (ties 54.1 to 55.0)``: in two, else in three."""


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
    """Put ``%`` behind the name of a share."""
    return f"{name} %" if share else name


def number_text(
    value: float | None,
    share: bool,
    *,
    decimals: int | None = None,
    like: float | None = None,
    sign: str = "",
) -> str:
    """Format a number for people, shares in percent; a dash where it is undefined.

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
    rounded = round(100 * value if share else value, decimals) + 0.0  # -0.0 becomes 0.0
    return f"{rounded:{sign}.{decimals}f}"


@dataclass(frozen=True)
class TextColumn:
    """Column as it is printed; lines of a header or cell are parted by newlines.

    Attributes:
        header: above the cells.
        cells: one a row.
        numeric: set flush right, broken before parentheses and ``to`` alone.
        prose: sentences or lists, which may be broken at any space.
        marks: of every cell, where some are best or second.
    """

    header: str
    cells: Sequence[str]
    numeric: bool = False
    prose: bool = False
    marks: Sequence[Mark] = ()

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

    def escaped(self, style: str) -> TextColumn:
        """Make header and cells fit for a style, and put placeholders around marked cells."""
        escape = for_markdown if style == "markdown" else str
        header, cells = escape(shortened(self.header)), [escape(shortened(cell)) for cell in self.cells]
        if style == "latex":  # papers' names, with what follows the metric's kept, as @vid-devkit
            name = re.split(r"[@ ]", header, maxsplit=1)[0]
            header = _PAPER_NAMES.get(name, name) + header[len(name) :]
        for place, mark in enumerate(self.marks):
            if mark:
                cells[place] = cells[place].join(_MARKS[mark])
        return replace(self, header=header, cells=cells)

    def with_broken_header(self, most_lines: int) -> TextColumn:
        """Narrow the column as far as a header of so many lines allows, in the fewest and most even lines."""

        def cost(lines: list[str]) -> tuple[int, int, int]:
            widest = max(map(len, lines))
            return max(widest, self.cell_width), len(lines), widest

        ways = (_broken(self.header, width) for width in range(1, len(self.header) + 1))
        best = min((lines for lines in ways if len(lines) <= most_lines), key=cost, default=[self.header])
        return replace(self, header="\n".join(best))

    def with_broken_numbers(self, at: str) -> TextColumn:
        """Move what stands behind numbers below them."""
        return replace(self, cells=[re.sub(at, "\n", cell) for cell in self.cells])

    def with_broken_prose(self, limit: int) -> TextColumn:
        """Break cells into lines of so many characters."""
        cells = ["\n".join(wrap(cell, limit, break_on_hyphens=False)) for cell in self.cells]
        return replace(self, cells=cells)


def _broken(header: str, width: int) -> list[str]:
    """Break a header into lines of so many characters; a piece that is longer has a line of its own."""
    lines = [""]
    for piece in _BREAK.split(header):
        if lines[-1] and len((lines[-1] + piece).rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return [line.rstrip() for line in lines]


@dataclass(frozen=True)
class Grid:
    """Table in words, ready to be laid out.

    Attributes:
        title: above the table.
        columns: from left to right, of equally many cells.
        notes: below the table.
        expendable: places of columns that a narrow terminal may lack, least important first.
    """

    title: str
    columns: Sequence[TextColumn]
    notes: Sequence[str] = ()
    expendable: Sequence[int] = ()

    def render(self, style: str, *, width: int | None = None) -> str:
        """Lay the table out, with its title above and its notes below.

        Args:
            style: ``text``, ``markdown``, ``latex`` or ``html``.
            width: characters of a line of the terminal that text is for: headers and prose are broken and
                expendable columns left out, if they must, and a note says so. A table that doesn't fit even
                then stays as it is.
        """
        from tabulate import tabulate

        columns = [column.escaped(style) for column in self.columns]
        headers = [column.header for column in columns]
        cells = list(zip(*(column.cells for column in columns), strict=True))
        table = tabulate(
            cells,
            headers,
            _TABULATE_FORMATS[style],
            colalign=["right" if column.numeric else "left" for column in columns] if cells else None,
            disable_numparse=True,
        )
        for placeholder, printed in zip(_PLACEHOLDERS, _PRINTED[style], strict=False):
            table = table.replace(placeholder, printed)
        title, notes = printable(self.title), [printable(note) for note in self.notes]
        if style == "text":
            table, left_out = fitted(table, columns, width, self.expendable)
            notes[:0] = filter(None, [left_out])
        return _framed(style, title, table, notes)


def _framed(style: str, title: str, table: str, notes: Sequence[str]) -> str:
    """Put a title above a table, and notes below it."""
    if style == "markdown":
        below = [f"<sub>{for_markdown(note)}</sub><br>" for note in notes]
        title = f"**{for_markdown(title)}**"
    elif style == "html":
        below = [f"<p>{html.escape(note)}</p>" for note in notes]
        return "\n".join([f"<h3>{html.escape(title)}</h3>", table, *below])
    elif style == "latex":
        from pylatexenc.latexencode import UnicodeToLatexEncoder

        title, *below = ("% " + " ".join(text.split()) for text in (title, *notes))
        # A document's fonts may lack characters such as ± and those of Siméoni: commands take their place.
        encoder = UnicodeToLatexEncoder(
            non_ascii_only=True, unknown_char_policy="replace", unknown_char_warning=False
        )
        return str(encoder.unicode_to_latex("\n".join([title, table, *below])))
    else:
        below = list(notes)
    return "\n".join([title, "", table, *([""] if below else []), *below])


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
    ways = [[each.with_broken_header(most) for each in columns] for most in range(1, _MOST_HEADER_LINES + 1)]
    ways += [
        [each.with_broken_numbers(at) if each.numeric else each for each in ways[-1]] for at in _NUMBER_BREAKS
    ]
    for count in range(len(expendable) + 1):
        gone = sorted(expendable[:count])
        kept = [place for place in range(len(columns)) if place not in gone]
        room = width - len(_GAP) * (len(kept) - 1)
        for number, way in enumerate(ways, start=1):
            found = [way[place] for place in kept]
            if number > _MOST_HEADER_LINES:
                found = _with_broken_prose(found, room)
            if sum(column.width for column in found) <= room:
                names = ", ".join(columns[place].header.removesuffix(" %") for place in gone)
                advice = "To see every column, pipe the output: ... | less -S"
                return _laid_out(found), f"left out to fit the terminal: {names}. {advice}" if names else ""
    return table, ""


def expendable_places(ranked: Iterable[int], columns: Sequence[TextColumn]) -> tuple[int, ...]:
    """Choose columns, least important first, that can go without rows becoming alike.

    Args:
        ranked: places of columns that may go, least important first.
        columns: all of them; words tell rows apart, numbers don't.
    """

    def told_apart(gone: Collection[int]) -> int:
        words = (
            column.cells for place, column in enumerate(columns) if not column.numeric and place not in gone
        )
        return max(len(set(zip(*words, strict=True))), 1)  # without words all are alike

    gone: list[int] = []
    for place in ranked:
        if columns[place].numeric or told_apart([*gone, place]) == told_apart(gone):
            gone.append(place)
    return tuple(gone)


def _with_broken_prose(columns: list[TextColumn], room: int) -> list[TextColumn]:
    """Break prose into lines that leave room for all columns, if these don't get too short."""
    longest = max((column.cell_width for column in columns if column.prose), default=0)
    for limit in range(longest, _LEAST_PROSE - 1, -1):
        widths = (
            max(column.header_width, min(column.cell_width, limit)) if column.prose else column.width
            for column in columns
        )
        if sum(widths) <= room:
            return [column.with_broken_prose(limit) if column.prose else column for column in columns]
    return columns


def _laid_out(columns: Sequence[TextColumn]) -> str:
    """Lay columns out as narrow as they are: tabulate makes each at least two wider than its header."""
    headers = [column.header.split("\n") for column in columns]
    tallest = max(map(len, headers))
    # Headers stand on the rule below them, cells hang from above.
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
