"""Charts of errors: their causes, what mending one would gain, and rates by size and speed of objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ovvol_bench.report.charts import DARK, LIGHT, chart, paint, percent, stack
from ovvol_bench.report.drawing import BLUE, GREEN, ORANGE, PINK, RED, SKY, YELLOW

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
MEASURES = {"met": ("objects met (DetRate by object)", BLUE), "corloc": ("frames with a hit (CorLoc)", SKY)}


def causes_chart(objects: Mapping[str, Any], boxes: Mapping[str, Any], subject: str) -> Figure:
    """Draw stacked bars: of all objects, tracks and boxes, how many have each cause.

    Args:
        objects: notes of ``right_objects``.
        boxes: notes of ``right_boxes``.
        subject: second line of the heading.
    """
    from matplotlib.patches import Patch

    bars = {
        "objects": objects["causes"],
        "tracks\n(most frames)": objects["tracks"]["most"],
        "boxes": boxes["causes"],
    }
    # In the order of CAUSES; ignored things and empty boxes are no part of a bar.
    counted = {
        name: {cause: causes[cause] for cause in CAUSES if cause in causes and cause != "empty"}
        for name, causes in bars.items()
    }
    with chart(3.9, "Why objects and boxes are right or wrong", subject) as (figure, (axes,)):
        for row, causes in enumerate(counted.values()):
            total = sum(causes.values()) or 1
            stack(axes, row, [(count / total, CAUSES[cause][1]) for cause, count in causes.items()])
        axes.set_yticks(range(len(bars)), [f"{n}\nn = {sum(c.values()):,}" for n, c in counted.items()])
        axes.invert_yaxis()
        axes.set_xlim(0, 100)
        axes.set_xlabel("%")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        shown = [cause for cause in CAUSES if any(causes.get(cause) for causes in counted.values())]
        words = {cause: CAUSES[cause][0] for cause in shown}
        if {"missed", "background"} <= words.keys():  # they share a colour, as no bar has both
            words["missed"] = "object missed / background named"
            del words["background"]
        handles = [Patch(color=paint(CAUSES[cause][1]), label=text) for cause, text in words.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=3, handlelength=1.2)
    return figure


def gains_chart(objects: Mapping[str, Any], subject: str) -> Figure:
    """Draw bars: what each metric would gain in points if a cause were mended, one panel a metric.

    Args:
        objects: notes of ``right_objects``, with ``gains``.
        subject: second line of the heading.
    """
    gains = {cause: values for cause, values in objects["gains"].items() if cause != "now"}
    title = "What mending one cause would gain, in points"
    with chart(4.0, title, subject, columns=len(METRICS), sharey=True) as (figure, axes):
        for panel, (metric, words) in zip(axes, METRICS.items(), strict=True):
            _gain_panel(panel, {cause: gain[metric] for cause, gain in gains.items()})
            now = percent(objects["gains"]["now"][metric], 1)
            panel.set_title(f"{words}\nnow {now}", fontsize=8.5)
        axes[0].set_yticks(range(len(gains)), [CAUSES[cause][0] for cause in gains])
        axes[0].invert_yaxis()
    return figure


def _gain_panel(axes: Axes, values: Mapping[str, float | None]) -> None:
    points = [100 * value if value is not None else 0.0 for value in values.values()]
    axes.barh(range(len(points)), points, 0.68, color=[paint(CAUSES[cause][1]) for cause in values])
    low, high = min(0.0, *points), max(1.0, *points)
    axes.set_xlim(low - 0.02 * (high - low), high + 0.42 * (high - low))  # room for numbers on the right
    axes.axvline(0, color="#6e6e76", linewidth=0.8)
    for row, (point, value) in enumerate(zip(points, values.values(), strict=True)):
        text = "–" if value is None else f"{point:+.1f}" if round(abs(point), 1) else "0"
        axes.annotate(text, (max(point, 0), row), (3, 0), textcoords="offset points", va="center", size=8)
    axes.tick_params(axis="y", length=0)
    axes.set_xticks([])
    axes.spines[["bottom", "left"]].set_visible(False)


def rates_chart(sizes: Mapping[str, Any], motion: Mapping[str, Any], subject: str) -> Figure:
    """Draw grouped bars: DetRate and CorLoc of the objects of each size and each speed.

    Args:
        sizes: notes of ``detrate_by_size``.
        motion: notes of ``detrate_by_motion``.
        subject: second line of the heading.
    """
    panels = {"by size (root of their share of the frame)": sizes, "by motion": motion}
    bins = {title: [each for each in notes["bins"] if each["objects"]] for title, notes in panels.items()}
    widths = [max(len(each), 2) for each in bins.values()]
    with chart(3.7, "Which objects are localized", subject, columns=2, sharey=True, width_ratios=widths) as (
        figure,
        axes,
    ):
        for panel, (title, rows) in zip(axes, bins.items(), strict=True):
            places = np.arange(len(rows))
            for shift, (key, (words, color)) in zip((-0.2, 0.2), MEASURES.items(), strict=True):
                bars = panel.bar(
                    places + shift, [100 * each[key] for each in rows], 0.38, color=paint(color), label=words
                )
                panel.bar_label(bars, [percent(each[key]) for each in rows], padding=2, size=8)
            panel.set_xticks(places, [f"{each['name']}\nn = {each['objects']:,}" for each in rows])
            panel.tick_params(axis="x", length=0)
            panel.set_ylim(0, 108)
            panel.set_yticks([0, 25, 50, 75, 100])
            panel.grid(axis="y", linewidth=0.7)
            panel.set_title(title)
        axes[0].set_ylabel("%")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, handlelength=1.2)
    return figure
