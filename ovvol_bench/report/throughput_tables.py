"""Tables of throughput: speed and memory, stages, parts, and how far ``fast`` is from ``reference``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from ovvol_bench.report.agreement_tables import agreement_grids
from ovvol_bench.results.layout import MISSING, Grid, expendable_places, render_grid
from ovvol_bench.results.schema import COMPONENTS
from ovvol_bench.results.throughput import Row, Spread, Throughput

IN_A_PASS = ("wait", "encode", "group", "label", "name", "store")
APART = ("decode", "transform", "boxes", "metrics")
COUNTED = ("encode", "group", "label")
GIGA, MEGA = 1e9, 1e6


@dataclass(frozen=True)
class Line:
    """A row with what its file says of all rows."""

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


Column = tuple[str, Callable[[Line], str]]
Cells = tuple[str, Sequence[str]]
"""The header of a column and what stands below it."""

_WHAT: tuple[Column, ...] = (
    ("method", lambda line: line.row.method),
    ("frames of", lambda line: str(line.of.dataset.name)),
    ("size", lambda line: size_text(line.row.size)),
    ("batch", lambda line: str(line.row.batch_size)),
    ("fidelity", lambda line: line.row.fidelity),
    ("precision", lambda line: line.row.precision),
)
"""What tells configurations apart: a column where it differs, else a part of the title."""

_IN_TITLES = {"frames of": "frames of {}", "batch": "batch {}"}

_SPEED: tuple[Column, ...] = (
    ("clips/s", lambda line: number(line.row.clips_per_s.median)),
    ("quartiles", lambda line: _quartiles(line.row.clips_per_s)),
    ("frames/s", lambda line: number(line.row.frames_per_s.median)),
    ("x reference", lambda line: number(line.times_reference)),
    ("cores", lambda line: number(line.row.cores)),
    ("peak GB", lambda line: number(line.row.memory.host, GIGA)),
    ("device GB", lambda line: number(line.row.memory.device, GIGA)),
    ("matrix peak GFLOP/s", lambda line: number(line.row.matrix_peak, GIGA)),
    *(
        (f"{stage} %", partial(lambda stage, line: _share(line, stage), stage))
        for stage in (*COUNTED, "whole")
    ),
)

_STAGES: tuple[Column, ...] = tuple(
    (stage, partial(lambda stage, line: _milliseconds(line, stage), stage))
    for stage in (*IN_A_PASS, "whole", *APART)
)

_PARTS: tuple[Column, ...] = (
    *(
        (f"{kind} M", partial(lambda kind, line: _count(line, "parameters", kind, MEGA), kind))
        for kind in COMPONENTS
    ),
    *(
        (f"{stage} GFLOP", partial(lambda stage, line: _count(line, "flops", stage, GIGA), stage))
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


def render_throughput(results: Sequence[Throughput], style: str = "text", *, width: int | None = None) -> str:
    """Lay throughput results out as tables; every machine has tables of its own, as speeds don't compare.

    Args:
        results: as ``load_throughput`` returns them.
        style: ``text``, ``markdown``, ``latex`` or ``html``.
        width: see ``tables.render_grid``.
    """
    grids = [grid for same in by_machine(results) for grid in _grids(same)]
    return "\n\n".join(render_grid(grid, style, width=width) for grid in grids)


def by_machine(results: Iterable[Throughput]) -> list[list[Throughput]]:
    """Results of each machine, sorted by its name."""
    groups: dict[str, list[Throughput]] = {}
    for result in results:
        groups.setdefault(result.fingerprint, []).append(result)
    return sorted(groups.values(), key=lambda group: group[0].machine.text)


def size_text(size: Sequence[int]) -> str:
    """Height and width."""
    return f"{size[0]}x{size[1]}"


def number(value: float | None, unit: float = 1.0) -> str:
    """Three digits at least of what is below 100, a dash for None.

    >>> number(1234.4), number(12.34), number(0.01234), number(None), number(2.5e9, 1e9)
    ('1234', '12.3', '0.0123', '–', '2.50')
    """
    if value is None:
        return MISSING
    scaled = value / unit
    return f"{scaled:.0f}" if abs(scaled) >= 100 else f"{scaled:#.3g}".rstrip(".") if scaled else "0"


def _quartiles(spread: Spread) -> str:
    return f"{number(spread.low)} to {number(spread.high)}"


def _milliseconds(line: Line, stage: str) -> str:
    return number(line.row.seconds[stage].median if stage in line.row.seconds else None, 1e-3)


def _share(line: Line, stage: str) -> str:
    """Of the matrix peak, in percent."""
    return number((line.row.share_of_peak or {}).get(stage), 0.01)


def _count(line: Line, field: Literal["parameters", "flops"], name: str, unit: float) -> str:
    return number((getattr(line.row, field) or {}).get(name), unit)


def _grids(results: Sequence[Throughput]) -> Iterator[Grid]:
    """The tables of one machine."""
    lines = [Line(row, result) for result in results for row in result.rows]
    where = results[0].machine.text
    yield _grid(f"Speed · {where}", lines, (_WHAT, _SPEED), _notes(results))
    yield _grid(f"Milliseconds a clip · {where}", lines, (_WHAT, _STAGES), _STAGE_NOTES)
    counted = {(line.row.method, *line.row.size): line for line in lines if line.row.flops}
    if counted:
        yield _grid("Parameters and operations", list(counted.values()), (_WHAT[:3], _PARTS), _PART_NOTES)
    yield from agreement_grids([entry for result in results for entry in result.agreement])


def _grid(
    title: str,
    lines: Sequence[Line],
    columns: tuple[Sequence[Column], Sequence[Column]],
    notes: Sequence[str],
) -> Grid:
    """A table of words that tell the lines apart, with those they share in the title, and of numbers."""
    words, numbers = ([(header, [read(line) for line in lines]) for header, read in each] for each in columns)
    shared = [
        _IN_TITLES.get(header, "{}").format(cells[0]) for header, cells in words if len(set(cells)) == 1
    ]
    telling = [column for column in words if len(set(column[1])) > 1]
    known = [column for column in numbers if set(column[1]) != {MISSING}]
    return _laid_out(" · ".join([title, *shared]), telling, known, notes)


def _laid_out(title: str, words: Sequence[Cells], numbers: Sequence[Cells], notes: Sequence[str]) -> Grid:
    columns = [*words, *numbers]
    numeric = [False] * len(words) + [True] * len(numbers)
    headers = tuple(header for header, _ in columns)
    cells = zip(*(cells for _, cells in columns), strict=True)
    places = [place for place, header in enumerate(headers) if header not in _NEVER_LEFT_OUT]
    ranked = [headers.index(header) for header in _LEAST_IMPORTANT if header in headers]
    ranked += [place for place in reversed(places) if place >= len(words) and place not in ranked]
    return Grid(
        title,
        headers,
        tuple(numeric),
        tuple(cells),
        tuple(notes),
        expendable=expendable_places(ranked, {place: each for place, (_, each) in enumerate(words)}),
        prose=tuple(place for place, header in enumerate(headers) if header == "method"),
    )


def _notes(results: Sequence[Throughput]) -> list[str]:
    """What to know of a machine's numbers: how busy it was, whose frames, what failed."""
    notes = ["% are shares of the matrix peak, which was measured after each configuration"]
    for result in results:
        asked = result.asked
        weights = ", weights drawn at random" if asked.random_weights else ""
        notes.append(
            f"{result.date[:10]}: {asked.repeats} batches after {asked.warmup}{weights};"
            f" load before {result.load:.1f}"
        )
        notes += [f"failed: {failure.what}: {failure.error}" for failure in result.failures]
    return notes
