"""Runs side by side, on the same clips under the same protocols."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ovvol_bench.errors import OvvolError
from ovvol_bench.results.blocks import Block, Shared, shared_by
from ovvol_bench.results.columns import MISSING, NumberColumn
from ovvol_bench.results.rows import Row, telling_settings
from ovvol_bench.results.schema import Record
from ovvol_bench.results.statistics import LEAST_VIDEOS, Difference, Sample, difference, holm
from ovvol_bench.results.tables import Grid, csv_text, render_blocks, render_grid


@dataclass(frozen=True)
class Compared:
    """A number of the first row minus that of another.

    Attributes:
        pair: what tells the rows apart: names, or settings where these are equal.
        column: the number.
        value: the difference, NaN where a row lacks the number.
        paired: over videos; None where a row isn't known by video or there are too few.
        p_value: of ``paired``, perhaps adjusted.
    """

    pair: tuple[str, str]
    column: NumberColumn
    value: float
    paired: Difference | None
    p_value: float | None

    @property
    def number(self) -> str:
        """Name of the number, without its protocol where the rows have only one."""
        return self.column.header.removesuffix(" %")

    @property
    def interval(self) -> tuple[float, float]:
        """Bounds of the 95% interval, NaN without ``paired``."""
        if self.paired is None:
            return math.nan, math.nan
        return self.paired.interval.low, self.paired.interval.high


def compared(block: Block, correct: bool) -> list[Compared]:
    """Compare the first row of a block with each other, in every column of numbers.

    Args:
        block: of at least two rows.
        correct: adjust the p-values for the number of comparisons (Holm).
    """
    first, others = block.rows[0], block.rows[1:]
    numbers = [each for each in block.columns if isinstance(each, NumberColumn)]
    samples = [column.sample(first) for column in numbers]
    called = _called(block)
    found = [
        _compared((called[0], name), column, sample, (first, other))
        for name, other in zip(called[1:], others, strict=True)
        for column, sample in zip(numbers, samples, strict=True)
    ]
    if not correct:
        return found
    raw = [each.p_value for each in found if each.p_value is not None]
    adjusted = iter(holm(raw))
    return [each if each.p_value is None else replace(each, p_value=next(adjusted)) for each in found]


def _compared(
    pair: tuple[str, str], column: NumberColumn, one: Sample | None, rows: tuple[Row, Row]
) -> Compared:
    first, other = rows
    two = column.sample(other)
    known = one is not None and two is not None and one.videos == two.videos
    paired = None
    if known and one is not None and two is not None and len(one.videos) >= LEAST_VIDEOS:
        paired = difference(one, two)
    value = column.read(first).mean - column.read(other).mean
    return Compared(pair, column, value, paired, None if paired is None else paired.p_value)


def _called(block: Block) -> list[str]:
    """The rows in words: the parts in which they differ, then settings, then the seed."""
    told = telling_settings(block.rows)
    differ = [len(set(names)) > 1 for names in zip(*(row.names for row in block.rows), strict=True)]
    called = []
    for row in block.rows:
        parts = [name for name, differs in zip(row.names, differ, strict=True) if differs and name]
        called.append(" ".join([*parts, *filter(None, [told[id(row)]])]) or row.first.seed_text)
    return called


def _differences_grid(found: Sequence[Compared], correct: bool) -> Grid:
    title = "first row minus the others, paired over videos"
    headers = (
        "difference",
        "number",
        "value",
        "95% interval",
        "P(first higher)",
        "Holm p" if correct else "p",
    )
    cells = tuple(_cells(each) for each in found)
    videos = {each.paired.interval.videos for each in found if each.paired is not None}
    notes = [f"bootstrap over {count} videos" for count in sorted(videos)]
    if not videos:
        notes = [
            f"no intervals: they need numbers by video, and at least {LEAST_VIDEOS} videos; "
            "see ovvol-bench eval"
        ]
    numeric = (False, False, True, True, True, True)
    probabilities = (headers.index("P(first higher)"), len(headers) - 1)
    return Grid(title, headers, numeric, cells, tuple(notes), expendable=probabilities, prose=(0,))


def _cells(each: Compared) -> tuple[str, ...]:
    column, paired = each.column, each.paired
    value = MISSING if math.isnan(each.value) else column.difference(each.value)
    if paired is None or math.isnan(paired.interval.low):
        return (" − ".join(each.pair), column.header, value, MISSING, MISSING, MISSING)
    bounds = f"{column.difference(paired.interval.low)} to {column.difference(paired.interval.high)}"
    p_value = f"{each.p_value:.3f}"
    return (" − ".join(each.pair), column.header, value, bounds, f"{paired.first_higher:.3f}", p_value)


def comparison_text(
    block: Block, found: Sequence[Compared], style: str, correct: bool, *, width: int | None = None
) -> str:
    """Lay out a block and the differences of its rows; ``csv`` and ``json`` hold the differences alone.

    Args:
        block: that was compared.
        found: by ``compared``.
        style: as for ``tables.render``.
        correct: whether p-values are adjusted.
        width: as for ``tables.render_grid``.

    Raises:
        SettingError: if the style is unknown.
    """
    if style == "json":
        return json.dumps([_with_none(record) for record in records_of(found)], indent=2)
    if style == "csv":
        return csv_text([_with_none(record) for record in records_of(found)])
    differences = render_grid(_differences_grid(found, correct), style, width=width)
    return "\n\n".join([render_blocks([block], style, width=width), differences])


def records_of(found: Sequence[Compared]) -> list[dict[str, Any]]:
    """Return one dictionary a difference; numbers are NaN where they are undefined."""
    records = []
    for each in found:
        low, high = each.interval
        records.append(
            {
                "first": each.pair[0],
                "other": each.pair[1],
                "number": each.column.key,
                "difference": each.value,
                "low": low,
                "high": high,
                "first_higher": each.paired.first_higher if each.paired else math.nan,
                "p_value": math.nan if each.p_value is None else each.p_value,
                "videos": each.paired.interval.videos if each.paired else None,
            }
        )
    return records


def _with_none(record: dict[str, Any]) -> dict[str, Any]:
    undefined = {name for name, value in record.items() if isinstance(value, float) and math.isnan(value)}
    return {name: None if name in undefined else value for name, value in record.items()}


def check_comparable(results: Sequence[Record]) -> None:
    """Refuse runs whose numbers do not mean the same.

    Raises:
        OvvolError: says in what they differ, and how.
    """
    if len(results) < 2:
        raise OvvolError(
            f"compare: got {len(results)} different run(s), expected at least two. See: ovvol-bench table"
        )
    first = min(results, key=lambda result: result.status)  # a finished run, if there is one
    for result in results:
        differing = list(_differences(first, result))
        if differing:
            raise OvvolError(
                f"compare: runs {first.id} and {result.id} differ in {', '.join(differing)}: their "
                "numbers don't compare. Run both on the same clips, score both alike with ovvol-bench eval."
            )


def _differences(first: Record, other: Record) -> Iterator[str]:
    ours, theirs = shared_by(first), shared_by(other)
    if other.status == "failed":  # it has no scores, so no protocols to differ in
        theirs = theirs.under(ours.protocols)
    for name, one, two in zip(Shared._fields, ours, theirs, strict=True):
        if one != two:
            yield f"{name} ({_say(one)} and {_say(two)})"


def _say(value: object) -> str:
    words = ", ".join(value) if isinstance(value, tuple) else str(value)[:16]
    return words or "none"
