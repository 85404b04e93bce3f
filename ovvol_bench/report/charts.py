"""Style of all charts: one size of type, one palette, a title that says what was measured on what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovvol_bench.files import replacing
from ovvol_bench.report.drawing import FAINT, INK, Color, ink_on
from ovvol_bench.results.layout import number_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 9.0
"""Inches."""

DPI = 110
_HEAD = 0.56
"""Inches that the two lines above a chart take."""

DARK, LIGHT = (96, 96, 104), (190, 190, 196)
_LEAST = 0.035
"""Share of a bar from which on a part of it has room for its number."""

_RULES: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#6e6e76",
    "axes.axisbelow": True,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "xtick.color": "#1e1e22",
    "ytick.color": "#1e1e22",
    "grid.color": "#e4e4ea",
    "legend.frameon": False,
}


@contextmanager
def chart(
    height: float, title: str, subject: str, rows: int = 1, columns: int = 1, **grid: Any
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Yield an empty chart in the project's style; drawing inside the block has that style.

    Args:
        height: inches.
        title: first line above the chart.
        subject: second line: dataset, protocol, how much of it, method.
        rows: of axes.
        columns: of axes.
        grid: further arguments of matplotlib's ``subplots``.

    Yields:
        The figure, and its axes row by row.
    """
    import matplotlib
    from matplotlib.figure import Figure  # no pyplot: it keeps every figure, and needs a display or a backend

    with matplotlib.rc_context(_RULES):
        figure = Figure(figsize=(WIDTH, height), dpi=DPI)
        figure.set_layout_engine("constrained", rect=(0, 0, 1, 1 - _HEAD / height))
        axes = figure.subplots(rows, columns, squeeze=False, **grid)
        figure.text(0.01, 1 - 0.08 / height, title, va="top", size=12, weight="bold", color=paint(INK))
        figure.text(0.01, 1 - 0.33 / height, subject, va="top", size=8.5, color=paint(FAINT))
        yield figure, list(axes.flat)


def save(figure: Figure, path: Path) -> Path:
    """Write a chart into a PNG file, atomically.

    Raises:
        SettingError: if the folder can't be written to.
    """
    with replacing(path) as temporary:
        figure.savefig(temporary)
    return path


def stack(axes: Axes, row: int, parts: Iterable[tuple[float, Color]]) -> None:
    """Draw a horizontal bar of parts in percent, with numbers in those that have room for them.

    Args:
        axes: from 0 to 100.
        row: of the bar.
        parts: shares of the bar and their colours, from left to right.
    """
    left = 0.0
    for share, color in parts:
        axes.barh(row, 100 * share, 0.62, 100 * left, color=paint(color), edgecolor="white", linewidth=0.8)
        if share >= _LEAST:
            place, ink = (100 * (left + share / 2), row), paint(ink_on(color))
            axes.annotate(percent(share), place, ha="center", va="center", color=ink)
        left += share


def paint(color: Color) -> tuple[float, float, float]:
    """Convert a colour to matplotlib's range [0, 1]."""
    red, green, blue = (value / 255 for value in color)
    return red, green, blue


def percent(share: float | None, digits: int = 0) -> str:
    """Format a share as a percentage, without its sign; a dash where it is undefined.

    >>> percent(0.125, 1), percent(None)
    ('12.5', '–')
    """
    return number_text(share, share=True, decimals=digits)
