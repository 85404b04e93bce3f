"""Limits of a method: its numbers with grouping, naming, or both replaced by the truth.

Four runs make a ladder: the method, true groups with its names, its groups with true names, and both true,
which only the patch grid keeps from perfection. What a part costs depends on the other, so its share is the
mean over both orders of mending them (the Shapley value of two players).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovvol_bench.errors import DataError
from ovvol_bench.report.charts import LIGHT, chart, paint, save, stack
from ovvol_bench.report.drawing import BLUE, GREEN, ORANGE
from ovvol_bench.report.pictures import subject
from ovvol_bench.results.layout import Grid, TextColumn, number_text
from ovvol_bench.results.schema import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = ("patch grid", "encoder and grouper", "naming")
COLUMNS = ("corloc_any", "corloc_top1", "detrate", "ap50", "naming_accuracy")
COLORS = {"reached": GREEN, "naming": ORANGE, "encoder and grouper": BLUE, "patch grid": LIGHT}
"""Colours in the order of the bars."""

_STEPS = {
    (False, False): "the method",
    (True, False): "true groups",
    (False, True): "true names",
    (True, True): "both true",
}


@dataclass(frozen=True)
class Shares:
    """Shares of a number's way to 1; they and what is reached add up to 1.

    Attributes:
        name: of the number, ``NAME@PROTOCOL``.
        reached: by the method.
        grid: lost by the patch grid, whatever the parts do.
        grouping: lost by encoder and grouper.
        naming: lost by the labeler and naming. A share below 0 says that the truth there makes it worse.
    """

    name: str
    reached: float
    grid: float
    grouping: float
    naming: float

    @property
    def lost(self) -> tuple[float, float, float]:
        """The shares in the order of ``PARTS``."""
        return self.grid, self.grouping, self.naming

    @property
    def record(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"number": self.name, "reached": self.reached, **dict(zip(PARTS, self.lost, strict=True))}


def attribute(name: str, method: float, groups: float, names: float, both: float) -> Shares:
    """Share out what a number lacks.

    Args:
        name: of the number.
        method: as it is.
        groups: with true groups.
        names: with true names.
        both: with both.

    >>> shares = attribute("ap50", 0.1, 0.2, 0.6, 0.8)
    >>> [round(share, 3) for share in (shares.reached, *shares.lost)]
    [0.1, 0.2, 0.15, 0.55]
    """
    grouping = ((groups - method) + (both - names)) / 2
    naming = ((names - method) + (both - groups)) / 2
    return Shares(name, method, 1 - both, grouping, naming)


def ladder(results: Mapping[tuple[bool, bool], Sequence[Record]]) -> list[Shares]:
    """The shares of all numbers of a ladder that lie between 0 and 1.

    Args:
        results: by whether groups and names are true: finished results, one a seed.

    Raises:
        DataError: if one of the four steps has no finished result.
    """
    missing = [step for step in _STEPS if not results.get(step)]
    if missing:
        raise DataError(
            f"the ladder lacks the step '{_STEPS[missing[0]]}'; expected finished runs of all four. See the "
            "reasons above"
        )
    shares = []
    for name in results[False, False][0].metrics:
        if name.split("@")[0] not in COLUMNS:
            continue
        means = []
        for step in _STEPS:
            values = [each.metrics[name].value for each in results[step] if name in each.metrics]
            known = [value for value in values if value is not None]
            means.append(math.fsum(known) / len(known) if known else math.nan)
        shares.append(attribute(name, *means))
    return shares


def ladder_grid(shares: Sequence[Shares]) -> Grid:
    """Put the shares into a table, in percent."""
    numbers = zip(*((each.reached, *each.lost) for each in shares), strict=True)
    columns = [TextColumn("number", [each.name for each in shares])]
    columns += [
        TextColumn(f"{header} %", [number_text(value, share=True) for value in values], numeric=True)
        for header, values in zip(("reached", *PARTS), numbers, strict=True)
    ]
    note = (
        "what a number lacks to 100%, by who loses it: the patch grid with everything else true; the others "
        "as the mean over both orders of mending them"
    )
    return Grid("where the way to 100% goes", columns, [note])


def write_ladder(shares: Sequence[Shares], result: Record, path: Path) -> Path:
    """Draw a ladder into a PNG file.

    Args:
        shares: of each number.
        result: of the method, for the line that says what was run on what.
        path: of the file.
    """
    protocols = {each.name.split("@")[1] for each in shares}
    return save(ladder_figure(shares, subject(result, ", ".join(sorted(protocols)))), path)


def ladder_figure(shares: Sequence[Shares], about: str) -> Figure:
    """Draw a stacked bar a number; a share below 0 takes no room, and its number stands at the bar's end."""
    with chart(1.5 + 0.42 * len(shares), "Where the way to 100% goes", about) as (figure, (axes,)):
        for row, each in enumerate(reversed(shares)):
            parts = {"reached": each.reached, **dict(zip(PARTS, each.lost, strict=True))}
            stack(axes, row, [(parts[name], color) for name, color in COLORS.items() if not parts[name] < 0])
            below = [f"{name} {100 * parts[name]:.1f}" for name in COLORS if parts[name] < 0]
            if below:
                axes.annotate(", ".join(below), (99.5, row), ha="right", va="center", size=7)
        axes.set_yticks(range(len(shares)), [each.name.split("@")[0] for each in reversed(shares)])
        axes.set_xlim(0, 100)
        axes.xaxis.set_major_formatter("{x:.0f} %")
        handles = [axes.barh(0, 0, color=paint(color)) for color in COLORS.values()]
        axes.legend(handles, COLORS, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.12))
    return figure
