"""Charts of localization by what is localized: sizes and speeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ovvol_bench.report.charts import BLUE, SKY, Heading, chart, paint, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE, MOTION = "by size (root of their share of the frame)", "by motion"
MEASURES = {"met": ("objects met (DetRate by object)", BLUE), "corloc": ("frames with a hit (CorLoc)", SKY)}


def rates_chart(sizes: Mapping[str, Any], motion: Mapping[str, Any], subject: str) -> Figure:
    """Grouped bars: DetRate and CorLoc of the objects of each size and each speed.

    Args:
        sizes: notes of ``detrate_by_size``.
        motion: notes of ``detrate_by_motion``.
        subject: second line of the heading.
    """
    bins = [_shown(sizes["bins"]), _shown(motion["bins"])]
    heading, widths = Heading("Which objects are localized", subject), [max(len(each), 2) for each in bins]
    with chart(3.7, heading, columns=2, sharey=True, width_ratios=widths) as (figure, axes):
        for panel, rows, title in zip(axes, bins, (SIZE, MOTION), strict=True):
            _bars(panel, rows)
            panel.set_title(title)
        axes[0].set_ylabel("%")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, handlelength=1.2)
    return figure


def _shown(bins: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The bins that something is in."""
    return [each for each in bins if each["objects"]]


def _bars(axes: Axes, bins: Sequence[Mapping[str, Any]]) -> None:
    places = np.arange(len(bins))
    for shift, (key, (words, color)) in zip((-0.2, 0.2), MEASURES.items(), strict=True):
        values = [100 * each[key] for each in bins]
        axes.bar(places + shift, values, 0.38, color=paint(color), label=words)
        for place, each in zip(places, bins, strict=True):
            at = (place + shift, 100 * each[key])
            axes.annotate(percent(each[key]), at, (0, 2), textcoords="offset points", ha="center", size=8)
    axes.set_xticks(places, [f"{each['name']}\nn = {each['objects']:,}" for each in bins])
    axes.tick_params(axis="x", length=0)
    axes.set_ylim(0, 108)
    axes.set_yticks([0, 25, 50, 75, 100])
    axes.grid(axis="y", linewidth=0.7)
