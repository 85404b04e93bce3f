"""The picture of a ladder: for each number, what is reached and who loses the rest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovvol_bench.files import replacing
from ovvol_bench.report.charts import BLUE, GREEN, LIGHT, ORANGE, Heading, chart, ink_on, paint
from ovvol_bench.report.ladder import PARTS, Shares
from ovvol_bench.report.pictures import subject
from ovvol_bench.results.schema import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = dict(zip(("reached", *PARTS), (GREEN, LIGHT, BLUE, ORANGE), strict=True))
_ORDER = ("reached", "naming", "encoder and grouper", "patch grid")
_LEAST = 0.035
"""Share of a bar from which on a part of it has room for its number."""


def write_ladder(shares: Sequence[Shares], result: Record, path: Path) -> Path:
    """Draw a ladder into a PNG file.

    Args:
        shares: of each number.
        result: of the method, for the line that says what was run on what.
        path: of the file.
    """
    protocols = {each.name.split("@")[1] for each in shares}
    figure = ladder_figure(shares, subject(result, ", ".join(sorted(protocols))))
    with replacing(path) as temporary:
        figure.savefig(temporary)
    return path


def ladder_figure(shares: Sequence[Shares], about: str) -> Figure:
    """A stacked bar a number; a share below 0 takes no room, and its number stands at the bar's end."""
    heading = Heading("Where the way to 100% goes", about)
    with chart(1.5 + 0.42 * len(shares), heading) as (figure, (axes,)):
        for place, each in enumerate(shares):
            _bar(axes, len(shares) - 1 - place, each)
        axes.set_yticks(range(len(shares)), [each.name.split("@")[0] for each in reversed(shares)])
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        handles = [axes.barh(0, 0, color=paint(COLORS[part]), label=part) for part in _ORDER]
        axes.legend(handles, _ORDER, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.12))
    return figure


def _bar(axes: Any, row: int, shares: Shares) -> None:
    parts = dict(zip(PARTS, shares.lost, strict=True)) | {"reached": shares.reached}
    left, below = 0.0, []
    for part in _ORDER:
        value = parts[part]
        if value < 0:
            below.append(f"{part} {100 * value:.1f}")
            continue
        axes.barh(row, value, left=left, height=0.66, color=paint(COLORS[part]))
        if value >= _LEAST:
            ink = ink_on(COLORS[part])
            axes.text(
                left + value / 2, row, f"{100 * value:.0f}", ha="center", va="center", color=ink, fontsize=8
            )
        left += value
    if below:
        axes.text(0.995, row, ", ".join(below), ha="right", va="center", fontsize=7)
