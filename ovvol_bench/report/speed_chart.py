"""The picture of speed against accuracy: clips a second of throughput files, a metric of results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from ovvol_bench.errors import DataError, SettingError, nearest
from ovvol_bench.files import replacing
from ovvol_bench.report.charts import BLUE, ORANGE, Heading, chart, paint
from ovvol_bench.report.throughput_tables import by_machine
from ovvol_bench.results.layout import is_share, with_unit
from ovvol_bench.results.schema import PartRecord, Record
from ovvol_bench.results.throughput import Row, Spread, Throughput

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = {"fast": BLUE, "reference": ORANGE}
_WIDE = 5.0
"""Ratio of the fastest to the slowest from which on speeds are drawn on a logarithmic scale."""


@dataclass(frozen=True)
class Point:
    """A combination at its fastest batch size.

    Attributes:
        label: its names.
        fidelity: ``fast`` or ``reference``.
        speed: clips a second.
        accuracy: of each seed.
    """

    label: str
    fidelity: str
    speed: Spread
    accuracy: list[float]

    @property
    def mean(self) -> float:
        """Accuracy over the seeds."""
        return fmean(self.accuracy)


def write_speed_chart(
    measured: Sequence[Throughput], results: Sequence[Record], metric: str, path: Path
) -> Path:
    """Draw the combinations whose accuracy is known into a PNG file, a panel a machine.

    Args:
        measured: throughput at the dataset's own size; other sizes are left out, results don't have them.
        results: of the same combinations, weights, fidelity and dataset.
        metric: on the vertical axis, ``NAME`` or ``NAME@PROTOCOL``.
        path: of the file.

    Returns:
        The path.

    Raises:
        SettingError: if no result has the metric, or several protocols have it.
        DataError: if no combination is in both.
    """
    key = metric_key(results, metric)
    panels = {same[0].machine.text: list(_points(same, results, key)) for same in by_machine(measured)}
    panels = {machine: points for machine, points in panels.items() if points}
    if not panels:
        raise DataError(
            f"no result has '{key}' for a combination that was measured at the dataset's own size, with the"
            " same settings, weights, fidelity and dataset. Make some with: ovvol-bench run, results add"
        )
    with replacing(path) as temporary:
        datasets = sorted({result.dataset.name for result in measured})
        _figure(panels, key, f"frames of {', '.join(datasets)}").savefig(temporary)
    return path


def metric_key(results: Sequence[Record], metric: str) -> str:
    """The full key of a metric.

    Raises:
        SettingError: if no result has it, or several protocols have it.
    """
    keys = sorted({key for result in results for key in result.metrics})
    found = [key for key in keys if metric in (key, key.split("@")[0])]
    if len(found) != 1:
        which = f"one of {', '.join(found)}" if found else "a metric of the results"
        hint = nearest(metric, keys)
        raise SettingError(f"--metric {metric}: expected {which}.{hint}")
    return found[0]


def _points(measured: Sequence[Throughput], results: Sequence[Record], key: str) -> Iterator[Point]:
    """The combinations of one machine that are in the results."""
    accuracies: dict[Any, list[float]] = {}
    for result in results:
        score = result.metrics.get(key)
        if score is not None and score.value is not None:
            which = (result.dataset.fingerprint, _identity(result.parts.values()), result.fidelity)
            accuracies.setdefault(which, []).append(score.value)
    for which, row in _fastest(measured).items():
        if which in accuracies:
            yield Point(row.method, row.fidelity, row.clips_per_s, accuracies[which])


def _fastest(measured: Sequence[Throughput]) -> dict[Any, Row]:
    """By dataset, combination and fidelity the row of the fastest batch size."""
    fastest: dict[Any, Row] = {}
    for of in measured:
        for row in of.rows:
            which = (of.dataset.fingerprint, _identity(row.parts), row.fidelity)
            known = fastest.get(which)
            slower = known is not None and known.clips_per_s.median > row.clips_per_s.median
            if not row.resized and not slower:
                fastest[which] = row
    return fastest


def _identity(parts: Iterable[PartRecord]) -> tuple[Any, ...]:
    """Names, settings and weights of encoder, grouper and labeler."""
    return tuple((part.name, repr(sorted(part.settings.items())), part.weights_sha256) for part in parts)


def _figure(panels: dict[str, list[Point]], key: str, frames: str) -> Figure:
    every = [point for points in panels.values() for point in points]
    speeds = [point.speed.median for point in every]
    share = is_share(key, (point.mean for point in every))
    wide = max(speeds) > _WIDE * min(speeds)
    about = (
        f"{frames}; clips a second at the fastest batch size with quartiles, {key} with deviation over seeds"
    )
    heading = Heading(f"Speed against {key.split('@', maxsplit=1)[0]}", about)
    with chart(0.8 + 3.4 * len(panels), heading, rows=len(panels), sharey=True) as (figure, axes):
        for panel, (machine, points) in zip(axes, panels.items(), strict=True):
            panel.set_title(machine)
            panel.grid(linewidth=0.7)
            for point in points:
                _draw(panel, point, 100 if share else 1)
            panel.set_xlabel("clips/s")
            panel.set_ylabel(with_unit(key, share))
            panel.margins(x=0.25, y=0.15)
            panel.set(xscale="log") if wide else panel.set_xlim(left=0)
        return figure


def _draw(axes: Axes, point: Point, scale: float) -> None:
    speed, value = point.speed.median, scale * point.mean
    across = [[speed - point.speed.low], [point.speed.high - speed]]
    up = scale * stdev(point.accuracy) if len(point.accuracy) > 1 else None
    color = paint(_COLORS[point.fidelity])
    axes.errorbar(speed, value, xerr=across, yerr=up, fmt="o", color=color, capsize=2, linewidth=0.9)
    label = point.label if point.fidelity == "fast" else f"{point.label} ({point.fidelity})"
    axes.annotate(label, (speed, value), (4, 4), textcoords="offset points", fontsize=7)
