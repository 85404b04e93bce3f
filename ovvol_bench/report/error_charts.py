"""Charts of error causes: how often each is the reason, and what mending it would gain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ovvol_bench.report.charts import (
    BLUE,
    DARK,
    GREEN,
    LIGHT,
    ORANGE,
    PINK,
    RED,
    SKY,
    YELLOW,
    Heading,
    chart,
    ink_on,
    paint,
    percent,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CAUSES = {
    "right": ("right place, right name", GREEN),
    "wrong_name": ("right place, wrong name", ORANGE),
    "part": ("right name, only a part", SKY),
    "merged_objects": ("merged with another object", BLUE),
    "merged_background": ("merged with background", PINK),
    "misplaced": ("right name, misplaced", YELLOW),
    "wrong_both": ("wrong place, wrong name", RED),
    "duplicate": ("duplicate", LIGHT),
    "missed": ("object missed", DARK),
    "background": ("background named as an object", DARK),
    "empty": ("empty box", LIGHT),
}
"""Words and colour of each cause."""

METRICS = {
    "corloc_any": "CorLoc any",
    "corloc_top1": "CorLoc top1",
    "detrate": "DetRate",
    "ap": "AP",
    "naming_accuracy": "naming accuracy",
}

_LEAST = 0.035
"""Share of a bar from which on a part of it has room for its number."""


def causes_chart(objects: Mapping[str, Any], boxes: Mapping[str, Any], subject: str) -> Figure:
    """Stacked bars: of all objects, tracks and boxes, how many have each cause.

    Args:
        objects: notes of ``right_objects``.
        boxes: notes of ``right_boxes``.
        subject: second line of the heading.
    """
    bars = {
        "objects": objects["causes"],
        "tracks\n(most frames)": objects["tracks"]["most"],
        "boxes": boxes["causes"],
    }
    counted = {name: _counted(causes) for name, causes in bars.items()}
    with chart(3.9, Heading("Why objects and boxes are right or wrong", subject)) as (figure, (axes,)):
        for row, causes in enumerate(counted.values()):
            _stack(axes, row, causes)
        axes.set_yticks(range(len(bars)), [f"{n}\nn = {sum(c.values()):,}" for n, c in counted.items()])
        axes.invert_yaxis()
        axes.set_xlim(0, 100)
        axes.set_xlabel("%")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        shown = [cause for cause in CAUSES if any(causes.get(cause) for causes in counted.values())]
        _legend(figure, shown)
    return figure


def _counted(causes: Mapping[str, int]) -> dict[str, int]:
    """What a bar is made of, in the order of ``CAUSES``; ignored and empty things are no part of it."""
    return {cause: causes[cause] for cause in CAUSES if cause in causes and cause != "empty"}


def _stack(axes: Axes, row: int, causes: Mapping[str, int]) -> None:
    total, left = sum(causes.values()), 0.0
    for cause, count in causes.items():
        share = count / total if total else 0.0
        color = CAUSES[cause][1]
        axes.barh(row, 100 * share, 0.62, 100 * left, color=paint(color), edgecolor="white", linewidth=0.8)
        if share >= _LEAST:
            place = (100 * (left + share / 2), row)
            axes.annotate(percent(share), place, ha="center", va="center", color=ink_on(color))
        left += share


def _legend(figure: Figure, causes: list[str]) -> None:
    from matplotlib.patches import Patch

    merged = {"missed", "background"} <= set(causes)
    words = {cause: CAUSES[cause][0] for cause in causes if not (merged and cause == "background")}
    if merged:
        words["missed"] = "object missed / background named"
    handles = [Patch(color=paint(CAUSES[cause][1]), label=text) for cause, text in words.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, handlelength=1.2)


def gains_chart(objects: Mapping[str, Any], subject: str) -> Figure:
    """Bars: what each metric would gain in points if a cause were mended, one panel a metric.

    Args:
        objects: notes of ``right_objects``, with ``gains``.
        subject: second line of the heading.
    """
    gains = {cause: values for cause, values in objects["gains"].items() if cause != "now"}
    heading = Heading("What mending one cause would gain, in points", subject)
    with chart(4.0, heading, columns=len(METRICS), sharey=True) as (figure, axes):
        for panel, (metric, words) in zip(axes, METRICS.items(), strict=True):
            values = {cause: gain[metric] for cause, gain in gains.items()}
            _gain_panel(panel, values)
            now = percent(objects["gains"]["now"][metric], 1)
            panel.set_title(f"{words}\nnow {now}", fontsize=8.5)
        axes[0].set_yticks(range(len(gains)), [CAUSES[cause][0] for cause in gains])
        axes[0].invert_yaxis()
    return figure


def _gain_panel(axes: Axes, values: Mapping[str, float | None]) -> None:
    points = [100 * value if value is not None else 0.0 for value in values.values()]
    axes.barh(range(len(points)), points, 0.68, color=[paint(CAUSES[cause][1]) for cause in values])
    low, high = min(0.0, *points), max(1.0, *points)
    axes.set_xlim(low - 0.02 * (high - low), high + 0.42 * (high - low))
    axes.axvline(0, color="#6e6e76", linewidth=0.8)
    for row, (point, value) in enumerate(zip(points, values.values(), strict=True)):
        text = "–" if value is None else f"{point:+.1f}" if round(abs(point), 1) else "0"
        axes.annotate(text, (max(point, 0), row), (3, 0), textcoords="offset points", va="center", size=8)
    axes.tick_params(axis="y", length=0)
    axes.set_xticks([])
    for side in ("bottom", "left"):
        axes.spines[side].set_visible(False)
