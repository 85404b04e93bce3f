"""Speed and memory that ``bench`` measured: tables, and a picture of speed against accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, Literal

from ovvol_bench.errors import DataError, SettingError, nearest
from ovvol_bench.report.charts import chart, paint, percent, save
from ovvol_bench.report.drawing import BLUE, ORANGE
from ovvol_bench.results.layout import (
    MISSING,
    Grid,
    TextColumn,
    expendable_places,
    is_share,
    number_text,
    with_unit,
)
from ovvol_bench.results.schema import COMPONENTS, PartRecord, Record
from ovvol_bench.throughput.record import Agreement, Row, Throughput

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

IN_A_PASS = ("wait", "encode", "group", "label", "name", "store")
APART = ("decode", "transform", "boxes", "metrics")
COUNTED = ("encode", "group", "label")
GIGA, MEGA = 1e9, 1e6


@dataclass(frozen=True)
class Line:
    """Row with the file that it is from."""

    row: Row
    of: Throughput

    @property
    def times_reference(self) -> float | None:
        """Clips a second over those of ``reference`` in the same file, at its smallest batch."""
        same = [
            each
            for each in self.of.rows
            if each.fidelity == "reference" and (each.method, each.size) == (self.row.method, self.row.size)
        ]
        if not same:
            return None
        slowest = min(same, key=lambda each: each.batch_size)
        return self.row.clips_per_s.median / slowest.clips_per_s.median

    def milliseconds(self, stage: str) -> str:
        """Milliseconds a clip in a stage."""
        return number(self.row.seconds[stage].median if stage in self.row.seconds else None, 1e-3)

    def share_of_peak(self, stage: str) -> str:
        """Share of the matrix peak, in percent."""
        return number((self.row.share_of_peak or {}).get(stage), 0.01)

    def count(self, field: Literal["parameters", "flops"], name: str, unit: float) -> str:
        """Parameters of a component, or operations of a stage."""
        return number((getattr(self.row, field) or {}).get(name), unit)


Column = tuple[str, Callable[[Line], str]]

_WORDS: tuple[Column, ...] = (
    ("method", lambda line: line.row.method),
    ("frames of", lambda line: str(line.of.dataset.name)),
    ("size", lambda line: size_text(line.row.size)),
    ("batch", lambda line: str(line.row.batch_size)),
    ("fidelity", lambda line: line.row.fidelity),
    ("precision", lambda line: line.row.precision),
)
"""Words that tell configurations apart: a column where they differ, else a part of the title."""

_IN_TITLES = {"frames of": "frames of {}", "batch": "batch {}"}

_SPEED: tuple[Column, ...] = (
    ("clips/s", lambda line: number(line.row.clips_per_s.median)),
    ("quartiles", lambda line: f"{number(line.row.clips_per_s.low)} to {number(line.row.clips_per_s.high)}"),
    ("frames/s", lambda line: number(line.row.frames_per_s.median)),
    ("x reference", lambda line: number(line.times_reference)),
    ("cores", lambda line: number(line.row.cores)),
    ("peak GB", lambda line: number(line.row.memory.host, GIGA)),
    ("device GB", lambda line: number(line.row.memory.device, GIGA)),
    ("matrix peak GFLOP/s", lambda line: number(line.row.matrix_peak, GIGA)),
    *((f"{stage} %", partial(Line.share_of_peak, stage=stage)) for stage in (*COUNTED, "whole")),
)

_STAGES: tuple[Column, ...] = tuple(
    (stage, partial(Line.milliseconds, stage=stage)) for stage in (*IN_A_PASS, "whole", *APART)
)

_PARTS: tuple[Column, ...] = (
    *((f"{kind} M", partial(Line.count, field="parameters", name=kind, unit=MEGA)) for kind in COMPONENTS),
    *(
        (f"{stage} GFLOP", partial(Line.count, field="flops", name=stage, unit=GIGA))
        for stage in (*COUNTED, "whole")
    ),
)

_LEAST_IMPORTANT = (
    *("matrix peak GFLOP/s", "frames/s", "precision", "cores", "quartiles"),
    *("metrics", "boxes", "transform", "decode", "store", "wait", "name"),
)
"""Columns that a narrow terminal may lack first; then numbers from the right."""
_NEVER_LEFT_OUT = ("clips/s", "whole", "whole GFLOP")

_STAGE_NOTES = (
    "medians; whole is a pass: waiting for frames, the stages and what lies between them",
    "right of it each alone: reading in one thread, the transform, boxes (a part of name), metrics over all"
    " clips",
)
_PART_NOTES = (
    "operations of one clip in products of matrices and convolutions, in the plain float32 code of reference;"
    " a multiplication and an addition are two",
)
_AGREEMENT_NOTE = (
    "patches: share that the same slot wins; names: share of the slots with a patch that have the same name,"
    " or none; cosine: of patch embeddings"
)

_COLORS = {"fast": BLUE, "reference": ORANGE}
_WIDE = 5.0
"""Ratio of the fastest to the slowest from which on speeds are drawn on a logarithmic scale."""


def render_throughput(results: Sequence[Throughput], style: str = "text", *, width: int | None = None) -> str:
    """Lay throughput results out as tables; every machine has tables of its own, as speeds don't compare.

    Args:
        results: as ``load_throughput`` returns them.
        style: ``text``, ``markdown``, ``latex`` or ``html``.
        width: see ``Grid.render``.
    """
    grids = [grid for same in by_machine(results) for grid in _grids(same)]
    return "\n\n".join(grid.render(style, width=width) for grid in grids)


def by_machine(results: Iterable[Throughput]) -> list[list[Throughput]]:
    """Group results by machine, sorted by its name."""
    groups: dict[str, list[Throughput]] = {}
    for result in results:
        groups.setdefault(result.fingerprint, []).append(result)
    return sorted(groups.values(), key=lambda group: group[0].machine.text)


def size_text(size: Sequence[int]) -> str:
    """Format height and width."""
    return f"{size[0]}x{size[1]}"


def number(value: float | None, unit: float = 1.0) -> str:
    """Format with at least three digits what is below 100; a dash for None.

    >>> number(1234.4), number(12.34), number(0.01234), number(None), number(2.5e9, 1e9)
    ('1234', '12.3', '0.0123', '–', '2.50')
    """
    if value is None:
        return MISSING
    scaled = value / unit
    return f"{scaled:.0f}" if abs(scaled) >= 100 else f"{scaled:#.3g}".rstrip(".") if scaled else "0"


def _grids(results: Sequence[Throughput]) -> Iterator[Grid]:
    """Yield the tables of one machine."""
    lines = [Line(row, result) for result in results for row in result.rows]
    where = results[0].machine.text
    notes = ["% are shares of the matrix peak, which was measured after each configuration"]
    for result in results:
        weights = ", weights drawn at random" if result.asked.random_weights else ""
        notes.append(
            f"{result.date[:10]}: {result.asked.repeats} batches after {result.asked.warmup}{weights};"
            f" load before {result.load:.1f}"
        )
        notes += [f"failed: {failure.what}: {failure.error}" for failure in result.failures]
    yield _grid(f"Speed · {where}", lines, _WORDS, _SPEED, notes)
    yield _grid(f"Milliseconds a clip · {where}", lines, _WORDS, _STAGES, _STAGE_NOTES)
    # Batch sizes and fidelities share the operations of a combination at one size.
    counted = {(line.row.method, *line.row.size): line for line in lines if line.row.flops}
    if counted:
        yield _grid("Parameters and operations", list(counted.values()), _WORDS[:3], _PARTS, _PART_NOTES)
    yield from _agreement_grids([entry for result in results for entry in result.agreement])


def _grid(
    title: str,
    lines: Sequence[Line],
    words: Sequence[Column],
    numbers: Sequence[Column],
    notes: Sequence[str],
) -> Grid:
    """Lay out the words that tell lines apart, with those that they share in the title, and numbers."""
    titles, columns = [title], []
    for header, read in words:
        cells = [read(line) for line in lines]
        if len(set(cells)) > 1:
            columns.append(TextColumn(header, cells, prose=header == "method"))
        elif cells:
            titles.append(_IN_TITLES.get(header, "{}").format(cells[0]))
    for header, read in numbers:
        cells = [read(line) for line in lines]
        if set(cells) != {MISSING}:
            columns.append(TextColumn(header, cells, numeric=True))
    headers = [column.header for column in columns]
    ranked = [headers.index(header) for header in _LEAST_IMPORTANT if header in headers]
    ranked += [
        place
        for place, column in reversed(list(enumerate(columns)))
        if column.numeric and column.header not in _NEVER_LEFT_OUT and place not in ranked
    ]
    return Grid(" · ".join(titles), columns, notes, expendable_places(ranked, columns))


def _agreement_grids(entries: Sequence[Agreement]) -> Iterator[Grid]:
    """Yield a table of slots, names and embeddings, and one of metrics; none where nothing was compared."""
    compared = [entry for entry in entries if entry.error is None]
    if not compared:
        return
    cosines = [each.patch_cosine or {} for each in compared]
    words = {
        "method": [each.method for each in compared],
        "size": [size_text(each.size) for each in compared],
    }
    words["precision"] = [each.precision for each in compared]
    numbers = {
        "clips": [str(each.clips) for each in compared],
        "patches %": [percent(each.patches_same, 2) for each in compared],
        "names %": [percent(each.names_same, 2) for each in compared],
        "cosine": [f"{each['mean']:.5f}" if each else MISSING for each in cosines],
        "least cosine": [f"{each['least']:.5f}" if each else MISSING for each in cosines],
    }
    failed = [f"failed: {each.method}: {each.error}" for each in entries if each.error is not None]
    title = "Fast against reference, same clips and draws"
    yield _plain_grid(title, words, numbers, [_AGREEMENT_NOTE, *failed], ("clips", "cosine"))

    pairs = [(each, name, pair) for each in compared for name, pair in each.metrics.items()]
    shares = [is_share(name, (pair.reference, pair.fast)) for _, name, pair in pairs]
    words = {
        "method": [each.method for each, _, _ in pairs],
        "size": [size_text(each.size) for each, _, _ in pairs],
        "metric": [with_unit(name, share) for (_, name, _), share in zip(pairs, shares, strict=True)],
    }
    numbers = {
        header: [
            number_text(getattr(pair, header), share, decimals=2, sign="+" if header == "difference" else "")
            for (_, _, pair), share in zip(pairs, shares, strict=True)
        ]
        for header in ("reference", "fast", "difference")
    }
    yield _plain_grid("Metrics of fast against reference", words, numbers, [], ("difference",))


def _plain_grid(
    title: str,
    words: dict[str, list[str]],
    numbers: dict[str, list[str]],
    notes: Sequence[str],
    expendable: Iterable[str],
) -> Grid:
    columns = [TextColumn(header, cells, prose=header == "method") for header, cells in words.items()]
    columns += [TextColumn(header, cells, numeric=True) for header, cells in numbers.items()]
    places = [list(words | numbers).index(header) for header in expendable]
    return Grid(title, columns, notes, places)


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
    datasets = sorted({result.dataset.name for result in measured})
    return save(_figure(panels, key, f"frames of {', '.join(datasets)}"), path)


def metric_key(results: Sequence[Record], metric: str) -> str:
    """Complete the name of a metric by its protocol.

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


def _points(
    measured: Sequence[Throughput], results: Sequence[Record], key: str
) -> Iterator[tuple[Row, list[float]]]:
    """Yield the combinations of one machine at their fastest batch size, and their accuracy of each seed."""

    def identity(fingerprint: str | None, parts: Iterable[PartRecord], fidelity: str) -> tuple[Any, ...]:
        same = [(part.name, repr(sorted(part.settings.items())), part.weights_sha256) for part in parts]
        return fingerprint, *same, fidelity

    accuracies: dict[Any, list[float]] = {}
    for result in results:
        score = result.metrics.get(key)
        if score is not None and score.value is not None:
            which = identity(result.dataset.fingerprint, result.parts.values(), result.fidelity)
            accuracies.setdefault(which, []).append(score.value)
    fastest: dict[Any, Row] = {}
    for of in measured:
        for row in of.rows:
            which = identity(of.dataset.fingerprint, row.parts, row.fidelity)
            known = fastest.get(which)
            slower = known is not None and known.clips_per_s.median > row.clips_per_s.median
            if not row.resized and not slower:
                fastest[which] = row
    yield from ((row, accuracies[which]) for which, row in fastest.items() if which in accuracies)


def _figure(panels: dict[str, list[tuple[Row, list[float]]]], key: str, frames: str) -> Figure:
    every = [point for points in panels.values() for point in points]
    speeds = [row.clips_per_s.median for row, _ in every]
    share = is_share(key, (fmean(accuracy) for _, accuracy in every))
    wide = max(speeds) > _WIDE * min(speeds)
    about = (
        f"{frames}; clips a second at the fastest batch size with quartiles, {key} with deviation over seeds"
    )
    title = f"Speed against {key.split('@', maxsplit=1)[0]}"
    with chart(0.8 + 3.4 * len(panels), title, about, rows=len(panels), sharey=True) as (figure, axes):
        for panel, (machine, points) in zip(axes, panels.items(), strict=True):
            panel.set_title(machine)
            panel.grid(linewidth=0.7)
            for row, accuracy in points:
                _draw(panel, row, [100 * each if share else each for each in accuracy])
            panel.set_xlabel("clips/s")
            panel.set_ylabel(with_unit(key, share))
            panel.margins(x=0.25, y=0.15)
            panel.set(xscale="log") if wide else panel.set_xlim(left=0)
        return figure


def _draw(axes: Axes, row: Row, accuracy: Sequence[float]) -> None:
    speed, value = row.clips_per_s, fmean(accuracy)
    across = [[speed.median - speed.low], [speed.high - speed.median]]
    up = stdev(accuracy) if len(accuracy) > 1 else None
    color = paint(_COLORS[row.fidelity])
    axes.errorbar(speed.median, value, xerr=across, yerr=up, fmt="o", color=color, capsize=2, linewidth=0.9)
    label = row.method if row.fidelity == "fast" else f"{row.method} ({row.fidelity})"
    axes.annotate(label, (speed.median, value), (4, 4), textcoords="offset points", fontsize=7)
