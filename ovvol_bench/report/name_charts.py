"""Charts of names: which is taken for which, and precision at every recall."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ovvol_bench.arrays import Doubles
from ovvol_bench.printing import shortened
from ovvol_bench.report.charts import LIGHT, WIDTH, chart, paint, percent
from ovvol_bench.report.drawing import BLUE, FAINT, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_NUMBERS = 20
"""A matrix of up to so many classes has room for numbers."""

MOST_NAMES = 60
"""Rows and columns of a matrix: a heat map of thousands of names is unreadable and takes gigabytes."""

MOST_CURVES = 41
"""So many classes have a panel, those with the highest AP."""


def confusion_chart(notes: Mapping[str, Any], subject: str) -> Figure:
    """Draw a heat map: of the localized objects of a class, the share that gets each name.

    Args:
        notes: of ``naming_balanced``.
        subject: second line of the heading.
    """
    totals = {row: sum(cells.values()) for row, cells in notes["rows"].items()}
    rows = sorted(_most(totals, MOST_NAMES), key=int)
    taken = Counter(dict.fromkeys(rows, 0))
    for row in rows:
        taken.update(notes["rows"][row])
    # Names that are no row, as nothing of theirs was localized, still have columns.
    others = {name: count for name, count in taken.items() if name not in rows}
    columns = sorted([*rows, *_most(others, 2 * MOST_NAMES - len(rows))], key=int)
    counts = np.array([[notes["rows"][row].get(name, 0) for name in columns] for row in rows], float)
    counts = counts.reshape(len(rows), len(columns))  # two axes even where there is no row
    shares = counts / np.array([[totals[row]] for row in rows]).reshape(-1, 1)
    localized = [f"{totals[name]:,} of {notes['sought'][name]:,}" for name in rows]
    hidden = len(totals) - len(rows)
    title = "Names of localized objects, % of each true class"
    title += f" ({hidden} with fewer objects not shown)" if hidden else ""
    with chart(2.0 + 0.3 * max(len(rows), 3), title, subject) as (figure, (axes,)):
        axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
        words = _words(notes, columns)
        axes.set_xticks(range(len(columns)), words, rotation=40, ha="right", rotation_mode="anchor")
        own = zip(_words(notes, rows), localized, strict=True)
        axes.set_yticks(range(len(rows)), [f"{name}  {count}" for name, count in own])
        starred = any(word.endswith("*") for word in words)
        axes.set_xlabel("named as" + ("   (* kept out of training)" if starred else ""))
        axes.set_ylabel("true class, localized of all")
        _draw_cells(axes, shares, rows, columns)
    return figure


def _most(counts: Mapping[str, int], most: int) -> list[str]:
    """Class ids of the highest counts, the lower id of equals first."""
    return sorted(counts, key=lambda each: (-counts[each], int(each)))[:most]


def class_words(name: str | None, class_id: str) -> str:
    """Put a class into words.

    >>> class_words("giant_panda", "13"), class_words(None, "13")
    ('giant panda', 'class 13')
    """
    return name.replace("_", " ") if name else f"class {class_id}"


def _words(notes: Mapping[str, Any], ids: Sequence[str]) -> list[str]:
    """Names of classes, those that no part was trained on with a star."""
    held_out = {str(each) for each in notes["held_out"]}
    names = {each: shortened(class_words(notes["class_names"].get(each), each), 22) for each in ids}
    return [f"{name} *" if each in held_out else name for each, name in names.items()]


def _draw_cells(axes: Axes, shares: Doubles, rows: Sequence[str], columns: Sequence[str]) -> None:
    """Part the cells of a matrix by lines, write numbers where there is room, and frame right names."""
    from matplotlib.patches import Rectangle

    # Grid lines follow ticks: minor ones lie between the cells.
    axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.grid(which="minor", linewidth=0.8)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    if len(columns) <= MOST_NUMBERS:
        for row, column in np.argwhere(shares > 0).tolist():
            share = shares[row, column]
            color = "white" if share > 0.55 else paint(INK)
            text = percent(share) if share >= 0.005 else "<1"
            axes.annotate(text, (column, row), ha="center", va="center", size=8, color=color)
    for row, name in enumerate(rows):
        corner = (columns.index(name) - 0.5, row - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=paint(INK), linewidth=1.1))


def curves_chart(notes: Mapping[str, Any], subject: str) -> Figure:
    """Draw precision-recall curves: the mean over classes, then a panel a class, best first.

    Args:
        notes: of ``pr_curves``.
        subject: second line of the heading.
    """
    classes = sorted(notes["per_class"].items(), key=lambda item: (-item[1]["ap"], int(item[0])))
    # A stored curve ends where its recall does; precision is 0 beyond.
    curves = [np.pad(each["precision"], (0, 101 - len(each["precision"]))) for _, each in classes]
    mean = np.mean(curves, axis=0) if curves else np.zeros(101)
    precision = float(np.mean([each["ap"] for _, each in classes])) if classes else None
    panels = [("mean of classes", precision, mean)]
    panels += [
        (class_words(each.get("name"), number), each["ap"], curve)
        for (number, each), curve in zip(classes[:MOST_CURVES], curves, strict=False)
    ]
    down, across = _shape(len(panels))
    left_out = len(classes) - len(panels) + 1
    title = "Precision at every recall" + (f" ({left_out} classes of lower AP not shown)" if left_out else "")
    height = 1.1 + down * (0.5 + 0.7 * WIDTH / across)
    with chart(height, title, subject, down, across, sharex=True, sharey=True) as (figure, axes):
        for panel, (name, value, curve) in zip(axes, panels, strict=False):
            _curve_panel(panel, curve, mean)
            panel.set_title(f"{shortened(name, 19)}\nAP {percent(value, 1)}", fontsize=8.5)
        for panel in axes[len(panels) :]:
            panel.set_axis_off()
        for panel in axes[max(len(panels) - across, 0) : len(panels)]:
            panel.tick_params(labelbottom=True)
        figure.supxlabel("recall, %", size=9)
        figure.supylabel("precision, %", size=9)
    return figure


def _shape(panels: int) -> tuple[int, int]:
    """Rows and columns, 4 to 7 of these, that leave the fewest places empty.

    >>> _shape(13), _shape(8), _shape(31), _shape(3)
    ((2, 7), (2, 4), (5, 7), (1, 3))
    """
    fewest = 4 if panels <= 12 else 5
    across = min(range(7, fewest - 1, -1), key=lambda width: -panels % width) if panels > 4 else panels
    return -(-panels // across), across


def _curve_panel(axes: Axes, curve: Doubles, mean: Doubles) -> None:
    recall = np.arange(101)
    axes.plot(recall, 100 * mean, color=paint(LIGHT), linewidth=1)
    axes.fill_between(recall, 100 * curve, color=paint(BLUE), alpha=0.15, linewidth=0)
    axes.plot(recall, 100 * curve, color=paint(BLUE), linewidth=1.4)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 104)
    axes.set_xticks([0, 50, 100])
    axes.set_yticks([0, 50, 100])
    axes.grid(linewidth=0.7)
    axes.tick_params(labelsize=8, color=paint(FAINT))
