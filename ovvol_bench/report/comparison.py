"""Runs side by side, on the same clips under the same protocols."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ovvol_bench.errors import OvvolError
from ovvol_bench.report.blocks import Block, Query, Shared, make_blocks, shared_by
from ovvol_bench.report.columns import DEFAULT_COLUMNS, MISSING, Column, NumberColumn
from ovvol_bench.report.results_files import Result
from ovvol_bench.report.rows import Row
from ovvol_bench.report.tables import block_grid, render_blocks, render_grid


def compare(
    results: Sequence[Result],
    columns: Sequence[str] | None = None,
    style: str = "text",
    sort_by: str | None = None,
) -> str:
    """One row a run, best first; two runs get a third row with the first minus the second.

    Args:
        results: at least two, of one dataset and the same protocols.
        columns: as for ``tables.render``, after the run's id.
        style: as for ``tables.render``; ``csv`` and ``json`` hold the runs alone.
        sort_by: column that orders the rows.

    Raises:
        OvvolError: if there are fewer than two runs, or they ran on different data or protocols.
        SettingError: if a column or the style is unknown.
    """
    check_comparable(results)
    names = ["id", *(columns or DEFAULT_COLUMNS)]
    (block,) = make_blocks(results, Query(names, sort_by, merge_seeds=False))
    if style in ("csv", "json") or len(block.rows) != 2:
        return render_blocks([block], style)
    return _with_difference(block, style)


def check_comparable(results: Sequence[Result]) -> None:
    """Refuse runs whose numbers do not mean the same.

    Raises:
        OvvolError: says in what they differ, and how.
    """
    if len(results) < 2:
        raise OvvolError(
            f"compare: got {len(results)} different run(s), expected at least two. See: ovvol-bench table"
        )
    first = min(results, key=lambda result: result["status"])  # a finished run, if there is one
    for result in results:
        differing = list(_differences(first, result))
        if differing:
            raise OvvolError(
                f"compare: runs {first['id']} and {result['id']} differ in {', '.join(differing)}: their "
                "numbers don't compare. Run both on the same clips, score both alike with ovvol-bench eval."
            )


def _differences(first: Result, other: Result) -> Iterator[str]:
    ours, theirs = shared_by(first), shared_by(other)
    if other["status"] == "failed":  # it has no scores, so no protocols to differ in
        theirs = theirs.under(ours.protocols)
    for name, one, two in zip(Shared._fields, ours, theirs, strict=True):
        if one != two:
            yield f"{name} ({_say(one)} and {_say(two)})"


def _say(value: object) -> str:
    words = ", ".join(value) if isinstance(value, tuple) else str(value)[:16]
    return words or "none"


def _with_difference(block: Block, style: str) -> str:
    grid = block_grid(block, bold=style == "markdown")
    first, second = block.rows
    difference = tuple(_difference(column, first, second) for column in block.columns)
    label = ("first − second", *difference[1:])
    return render_grid(replace(grid, cells=(*grid.cells, label)), style)


def _difference(column: Column, first: Row, second: Row) -> str:
    if not isinstance(column, NumberColumn):
        return ""
    one, other = column.read(first), column.read(second)
    if not (one.n and other.n):
        return MISSING
    return column.difference(one.mean - other.mean)
