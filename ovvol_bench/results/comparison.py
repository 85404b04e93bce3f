"""Runs side by side, on the same clips under the same protocols."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ovvol_bench.errors import OvvolError
from ovvol_bench.files import json_ready
from ovvol_bench.results.frame import shared_by, telling_settings
from ovvol_bench.results.layout import MISSING, Grid, TextColumn
from ovvol_bench.results.schema import Record
from ovvol_bench.results.statistics import LEAST_VIDEOS, Difference, difference, holm
from ovvol_bench.results.tables import Block, Column, csv_text, render_blocks


@dataclass(frozen=True)
class Compared:
    """Number of the first row minus that of another.

    Attributes:
        pair: names of the parts in which the rows differ, then settings, or else seeds.
        column: the number.
        value: the difference, NaN where a row lacks the number.
        paired: over videos; None where a row isn't known by video or there are too few.
        p_value: of ``paired``, perhaps adjusted.
    """

    pair: tuple[str, str]
    column: Column
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
    rows = block.rows
    differ = [len(set(names)) > 1 for names in zip(*rows["names"], strict=True)]
    called = []
    for names, told, results in zip(rows["names"], telling_settings(rows), rows["results"], strict=True):
        parts = [name for name, differs in zip(names, differ, strict=True) if differs]
        called.append(" ".join(filter(None, [*parts, told])) or results[0].seed_text)
    columns = [each for each in block.columns if each.numeric]
    numbers = [(each, block.samples(each), block.stats(each)["mean"]) for each in columns]
    found = []
    for place, name in enumerate(called[1:], start=1):
        for column, (one, *samples), means in numbers:
            two, paired = samples[place - 1], None
            if one and two and one.videos == two.videos and len(one.videos) >= LEAST_VIDEOS:
                paired = difference(one, two)
            value, p_value = means.iloc[0] - means.iloc[place], paired.p_value if paired else None
            found.append(Compared((called[0], name), column, value, paired, p_value))
    if correct:
        adjusted = iter(holm([each.p_value for each in found if each.p_value is not None]))
        found = [each if each.p_value is None else replace(each, p_value=next(adjusted)) for each in found]
    return found


def _differences_grid(found: Sequence[Compared], correct: bool) -> Grid:
    rows = []
    for each in found:
        said = [MISSING if math.isnan(each.value) else each.column.difference(each.value), *[MISSING] * 3]
        if each.paired is not None and not math.isnan(each.paired.interval.low):
            low, high = map(each.column.difference, each.interval)
            said[1:] = f"{low} to {high}", f"{each.paired.first_higher:.3f}", f"{each.p_value:.3f}"
        rows.append((" − ".join(each.pair), each.column.header, *said))
    headers = (
        "difference",
        "number",
        "value",
        "95% interval",
        "P(first higher)",
        "Holm p" if correct else "p",
    )
    columns = [
        TextColumn(header, cells, numeric=place > 1, prose=place == 0)
        for place, (header, *cells) in enumerate(zip(headers, *rows, strict=True))
    ]
    videos = {each.paired.interval.videos for each in found if each.paired is not None}
    notes = [f"bootstrap over {count} videos" for count in sorted(videos)]
    lacking = (
        f"no intervals: they need numbers by video, and at least {LEAST_VIDEOS} videos; see ovvol-bench eval"
    )
    title = "first row minus the others, paired over videos"
    return Grid(title, columns, notes or [lacking], expendable=(4, 5))


def comparison_text(
    block: Block, found: Sequence[Compared], style: str, correct: bool, *, width: int | None = None
) -> str:
    """Lay out a block and the differences of its rows; ``csv`` and ``json`` hold the differences alone.

    Args:
        block: that was compared.
        found: by ``compared``.
        style: as for ``tables.render``.
        correct: whether p-values are adjusted.
        width: as for ``Grid.render``.

    Raises:
        SettingError: if the style is unknown.
    """
    if style in ("csv", "json"):
        records = json_ready(records_of(found))
        return csv_text(records) if style == "csv" else json.dumps(records, indent=2)
    rows = render_blocks([block], style, width=width)  # refuses unknown styles
    return "\n\n".join([rows, _differences_grid(found, correct).render(style, width=width)])


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
    ours = shared_by(first)
    for result in results:
        theirs = shared_by(result)
        if result.status == "failed":  # it has no scores, so no protocols to differ in
            theirs["protocols"] = ours["protocols"]
        differing = ", ".join(
            f"{name} ({_say(ours[name])} and {_say(theirs[name])})"
            for name in ours
            if ours[name] != theirs[name]
        )
        if differing:
            raise OvvolError(
                f"compare: runs {first.id} and {result.id} differ in {differing}: their "
                "numbers don't compare. Run both on the same clips, score both alike with ovvol-bench eval."
            )


def _say(value: object) -> str:
    words = str(value)
    return words.replace(" ", ", ") if " " in words else words[:16] or "none"  # 16 digits of a digest will do
