"""Tables of results: as text, markdown, LaTeX or HTML for people, as CSV, JSON or a frame for programs."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ovvol_bench.errors import SettingError
from ovvol_bench.printing import for_csv, for_markdown, printable, shortened
from ovvol_bench.results.blocks import Block, Query, make_blocks
from ovvol_bench.results.columns import Column, NumberColumn, expendable_columns, is_prose
from ovvol_bench.results.honours import Honour, honours
from ovvol_bench.results.rows import Row
from ovvol_bench.results.schema import Record
from ovvol_bench.results.widths import TextColumn, fitted

if TYPE_CHECKING:
    from pandas import DataFrame

STYLES = ("text", "markdown", "csv", "latex", "html", "json")
_TABULATE_FORMATS = {"text": "simple", "markdown": "pipe", "latex": "latex_booktabs", "html": "html"}

# Characters for private use stand for marks until a table is laid out, as tabulate escapes what they become.
_MARKS: dict[Honour, tuple[str, str]] = {
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


@dataclass(frozen=True)
class Grid:
    """A block as words, ready to be laid out.

    Attributes:
        title: above the table.
        headers: one a column.
        numeric: which columns are set flush right.
        cells: rows of words.
        notes: below the table.
        honours: of every cell, where some are best or second.
        expendable: places of columns that a narrow terminal may lack, least important first.
        prose: places of columns that hold sentences or lists, whose lines may be broken.
    """

    title: str
    headers: tuple[str, ...]
    numeric: tuple[bool, ...]
    cells: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    honours: tuple[tuple[Honour, ...], ...] = ()
    expendable: tuple[int, ...] = ()
    prose: tuple[int, ...] = ()


def render(  # noqa: PLR0913 - what `ovvol-bench table` offers
    results: Sequence[Record],
    columns: Sequence[str] | None = None,
    style: str = "text",
    *,
    sort_by: str | None = None,
    by: str = "dataset",
    spans: bool = False,
    width: int | None = None,
) -> str:
    """Lay results out as tables, one a dataset and protocol.

    Shares in [0, 1] are printed as percentages with one decimal in the styles for people; ``csv``
    and ``json`` carry the numbers as stored. Several seeds give mean ± sample standard deviation.
    In markdown, LaTeX and HTML the best of a column is bold and the second underlined, where the paired
    intervals over videos support it (see ``honours``).

    Args:
        results: as ``load_results`` returns them.
        columns: names as users type them: metrics (``ap50`` or ``ap50@vid-devkit``), components,
            ``clips_per_s``, settings (``grouper.num_slots``); None for the default ones.
        style: one of ``STYLES``.
        sort_by: column that orders the rows, best first; None for the first one with numbers.
        by: ``dataset``, or a kind of component to give every component a block of its own.
        spans: whether what ties leave open of a number stands behind it, in the styles for people.
        width: see ``render_grid``.

    Raises:
        SettingError: if a column, the style or ``by`` is unknown.
    """
    return render_blocks(make_blocks(results, Query(columns, sort_by, by)), style, spans, width=width)


def render_blocks(
    blocks: Sequence[Block], style: str, spans: bool = False, *, width: int | None = None
) -> str:
    """Lay blocks out in one of ``STYLES``.

    Args:
        blocks: from ``make_blocks``.
        style: one of ``STYLES``.
        spans: see ``render``.
        width: see ``render_grid``.

    Raises:
        SettingError: if the style is unknown.
    """
    if style not in STYLES:
        raise SettingError(f"table style: got '{style}', expected one of {', '.join(STYLES)}.")
    if style == "csv":
        return csv_text(block_records_of(blocks))
    if style == "json":
        return json.dumps(block_records_of(blocks), indent=2)
    grids = (block_grid(block, style, spans) for block in blocks)
    return "\n\n".join(render_grid(grid, style, width=width) for grid in grids)


def block_grid(block: Block, style: str, spans: bool = False) -> Grid:
    """The words of a block, for one of the styles for people; best and second are marked but in ``text``."""
    columns = [_column_cells(column, block.rows, spans) for column in block.columns]
    marked = [_column_honours(column, block.rows) for column in block.columns] if style != "text" else []
    return Grid(
        title=block.title,
        headers=tuple(column.header for column in block.columns),
        numeric=tuple(isinstance(column, NumberColumn) for column in block.columns),
        cells=tuple(zip(*columns, strict=True)),
        notes=block.notes,
        honours=tuple(zip(*marked, strict=True)),
        expendable=expendable_columns(block.columns, block.rows),
        prose=tuple(place for place, column in enumerate(block.columns) if is_prose(column)),
    )


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
    for row, honours_of_row in enumerate(grid.honours):
        for column, honour in enumerate(honours_of_row):
            before, after = _MARKS[honour]
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


def to_frame(blocks: Sequence[Block]) -> DataFrame:
    """All rows of all blocks as one pandas frame: numbers as stored, NaN where undefined.

    Columns: dataset, split, fingerprint, clips, protocols; the blocks' own columns under their full keys,
    numbers over several seeds with ``KEY_std``; seeds, failed, coverage, machine, ids and errors.
    """
    from pandas import DataFrame

    return DataFrame(block_records_of(blocks))


def block_records_of(blocks: Sequence[Block]) -> list[dict[str, Any]]:
    """One dictionary a row, ready for JSON: None where a number is undefined."""
    return [_record(block, row) for block in blocks for row in block.rows]


def csv_text(records: Sequence[Mapping[str, Any]]) -> str:
    """Records as CSV that spreadsheets read as it is: text that looks like a formula is no formula."""
    from pandas import DataFrame

    frame = DataFrame(records).rename(columns=for_csv)
    cells = frame.map(lambda value: for_csv(value) if isinstance(value, str) else value)
    return str(cells.to_csv(index=False)).rstrip("\n")


def _record(block: Block, row: Row) -> dict[str, Any]:
    record: dict[str, Any] = block.shared._asdict() | {"protocols": " ".join(block.shared.protocols)}
    for column in block.columns:
        record |= _record_cell(column, row)
    return record | {
        "seeds": len(row.done),
        "failed": len(row.failed),
        "coverage": None if math.isnan(row.coverage) else row.coverage,
        "machine": "; ".join(row.machines),
        "ids": " ".join(result.id for result in row.results),
        "errors": "; ".join(result.error or "no reason recorded" for result in row.failed),
    }


def _record_cell(column: Column, row: Row) -> dict[str, Any]:
    if not isinstance(column, NumberColumn):
        return {column.key: column.read(row)}
    stat = column.read(row)
    mean = {column.key: stat.mean if stat.n else None}
    return mean if stat.std is None else mean | {f"{column.key}_std": stat.std}


def _column_cells(column: Column, rows: Sequence[Row], spans: bool) -> list[str]:
    if not isinstance(column, NumberColumn):
        return [column.read(row) for row in rows]
    return [column.text(row) + (column.span_text(row) if spans else "") for row in rows]


def _column_honours(column: Column, rows: Sequence[Row]) -> list[Honour]:
    return honours(column, rows) if isinstance(column, NumberColumn) else [""] * len(rows)


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
