"""The style of all charts: one size of type, one palette, a title that says what was measured on what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ovvol_bench.report.drawing import FAINT, INK, Color

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 9.0
"""Inches."""

DPI = 110
_HEAD = 0.56
"""Inches that the two lines above a chart take."""

BLUE, ORANGE, GREEN, RED = (0, 114, 178), (230, 159, 0), (0, 158, 115), (213, 94, 0)
SKY, PINK, YELLOW = (86, 180, 233), (204, 121, 167), (240, 228, 66)
"""The palette of Okabe and Ito, told apart with every common colour blindness."""

DARK, LIGHT = (96, 96, 104), (190, 190, 196)

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


@dataclass(frozen=True)
class Heading:
    """What stands above a chart.

    Attributes:
        title: what the chart shows.
        subject: dataset, protocol, how much of it, method.
    """

    title: str
    subject: str


@contextmanager
def chart(
    height: float, heading: Heading, rows: int = 1, columns: int = 1, **grid: Any
) -> Iterator[tuple[Figure, list[Axes]]]:
    """An empty chart in the project's style; what is drawn inside the block has that style.

    Args:
        height: inches.
        heading: of the chart.
        rows: of axes.
        columns: of axes.
        grid: further arguments of matplotlib's ``subplots``.

    Yields:
        The figure, and its axes row by row.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_RULES):
        figure = Figure(figsize=(WIDTH, height), dpi=DPI)
        figure.set_layout_engine("constrained", rect=(0, 0, 1, 1 - _HEAD / height))
        axes = figure.subplots(rows, columns, squeeze=False, **grid)
        title, subject = 1 - 0.08 / height, 1 - 0.33 / height
        figure.text(0.01, title, heading.title, va="top", size=12, weight="bold", color=paint(INK))
        figure.text(0.01, subject, heading.subject, va="top", size=8.5, color=paint(FAINT))
        yield figure, list(axes.flat)


def paint(color: Color) -> tuple[float, float, float]:
    """A colour as matplotlib takes it."""
    red, green, blue = (value / 255 for value in color)
    return red, green, blue


def ink_on(color: Color) -> tuple[float, float, float]:
    """Black or white, whichever is read better on a colour."""
    red, green, blue = color
    return paint(INK) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (1.0, 1.0, 1.0)


def percent(share: float | None, digits: int = 0) -> str:
    """A share in words of percent; a dash where it is undefined.

    >>> percent(0.125, 1), percent(None)
    ('12.5', '–')
    """
    return "–" if share is None else f"{100 * share:.{digits}f}"


def shortened(texts: Sequence[str], longest: int = 22) -> list[str]:
    """Texts no longer than so many letters."""
    return [text if len(text) <= longest else f"{text[: longest - 1]}…" for text in texts]
