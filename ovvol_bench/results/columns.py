"""Columns of a table: from the names that users type to what a cell says."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ovvol_bench.errors import SettingError, nearest
from ovvol_bench.results.rows import Row, Stat
from ovvol_bench.results.schema import COMPONENTS
from ovvol_bench.results.statistics import Sample
from ovvol_bench.results.widths import expendable_places

MISSING = "–"
SPEED = "clips_per_s"
DEFAULT_COLUMNS = (*COMPONENTS, "corloc_any", "corloc_top1", "detrate", "ap50", SPEED)

_COUNTS = re.compile(r"_per_|^(active_slots|id_switches|over_segmentation|under_segmentation)")
"""Names of metrics that count things, and are no shares even where their value is 0 or 1."""


@dataclass(frozen=True)
class TextColumn:
    """A column of words.

    Attributes:
        key: unique name, for files that programs read.
        header: as printed.
        read: the cell of a row.
    """

    key: str
    header: str
    read: Callable[[Row], str]


@dataclass(frozen=True)
class NumberColumn:
    """A column of numbers over seeds.

    Attributes:
        key: unique name, for files that programs read.
        header: as printed.
        read: the number of a row.
        percent: whether it is a share, printed as a percentage.
        higher_is_better: direction, for ranking and bold print.
        sample: the number by video, None where a row doesn't have it so.
        span: what ties leave open of the number, None where that is next to nothing.
    """

    key: str
    header: str
    read: Callable[[Row], Stat]
    percent: bool
    higher_is_better: bool = True
    sample: Callable[[Row], Sample | None] = lambda row: None
    span: Callable[[Row], tuple[float, float] | None] = lambda row: None

    def text(self, row: Row) -> str:
        """The cell: ``54.3``, ``54.3 ± 1.2`` over seeds, or a dash where undefined."""
        stat = self.read(row)
        if not stat.n:
            return MISSING
        spread = "" if stat.std is None else f" ± {number_text(stat.std, self.percent, like=stat.mean)}"
        partial = f" (n={stat.n})" if stat.n != len(row.done) else ""
        return self.number(stat.mean) + spread + partial

    def span_text(self, row: Row) -> str:
        """What ties leave open, to stand behind the cell: `` (ties 54.1 to 55.0)``, or nothing."""
        low, high = self.span(row) or (None, None)
        return "" if low is None or high is None else f" (ties {self.number(low)} to {self.number(high)})"

    def number(self, value: float) -> str:
        """One number: one decimal for percentages and from 10 on, two for small rates; 0 is ``0.0``."""
        return number_text(value, self.percent)

    def difference(self, value: float) -> str:
        """A difference of two numbers, with its sign."""
        return number_text(value, self.percent, sign="+")


Column = TextColumn | NumberColumn


def is_share(key: str, values: Iterable[float | None]) -> bool:
    """Tell a share, which people read as a percentage, from a count (by its name) and from larger numbers.

    Tables, lists and pictures for people all ask here; in files for programs shares stay as they are.

    Args:
        key: ``NAME`` or ``NAME@PROTOCOL``.
        values: all that are printed in one unit; None and NaN where undefined.

    Returns:
        True if the name is of no count and all values are within [-1, 1].

    >>> is_share("ap50@coco", [0.397, None]), is_share("id_switches_video@mot-box", [1.0])
    (True, False)
    """
    known = (value for value in values if value is not None and not math.isnan(value))
    return not _COUNTS.search(key) and all(-1 <= value <= 1 for value in known)


def with_unit(name: str, share: bool) -> str:
    """The name of a number as people read it: with ``%`` behind that of a share."""
    return f"{name} %" if share else name


def number_text(
    value: float | None,
    share: bool,
    *,
    decimals: int | None = None,
    like: float | None = None,
    sign: str = "",
) -> str:
    """A number as people read it, shares in percent; a dash where it is undefined.

    Args:
        value: as stored.
        share: see ``is_share``.
        decimals: by default 1 for percentages, 0.0 and numbers from 10 on, and 2 for others.
        like: the number that says how many decimals are usual, for a deviation; by default ``value``.
        sign: ``+`` for differences.

    >>> number_text(0.891, share=True), number_text(2.314, share=False), number_text(None, share=True)
    ('89.1', '2.31', '–')
    """
    if value is None or math.isnan(value):
        return MISSING
    if decimals is None:
        size = abs(value if like is None else like)
        decimals = 1 if share or size == 0 or size >= 10 else 2
    rounded = round(100 * value if share else value, decimals) + 0.0  # + 0.0 turns -0.0 into 0.0
    return f"{rounded:{sign}.{decimals}f}"


def _coverage_text(row: Row) -> str:
    if math.isnan(row.coverage):
        return MISSING
    skipped: dict[str, int] = {}
    for result in row.done:
        for reason, count in result.coverage.left_out.items():
            skipped[reason] = skipped.get(reason, 0) + count
    reasons = "".join(f", {count} {reason}" for reason, count in sorted(skipped.items()))
    return f"{100 * row.coverage:.1f} %{reasons}"


def _status_text(row: Row) -> str:
    if not row.failed:
        return "done"
    return f"{len(row.failed)} of {len(row.results)} failed" if row.done else "failed"


_TEXTS: dict[str, Callable[[Row], str]] = {
    "method": lambda row: row.names[0] if row.outside else MISSING,
    "encoder": lambda row: MISSING if row.outside else row.names[0],
    "grouper": lambda row: row.names[1] or MISSING,
    "labeler": lambda row: row.names[2] or MISSING,
    "dataset": lambda row: row.first.dataset.name,
    "split": lambda row: row.first.dataset.split or MISSING,
    "id": lambda row: ", ".join(result.id for result in row.results),
    "date": lambda row: max(result.date or "" for result in row.results)[:10] or MISSING,
    "machine": lambda row: "; ".join(row.machines) or MISSING,
    "precision": lambda row: row.settings.get("precision", MISSING),
    "fidelity": lambda row: row.settings.get("fidelity", MISSING),
    "seeds": lambda row: str(len(row.done)),
    "coverage": _coverage_text,
    "seen": lambda row: ", ".join(f"{kind} {count}" for kind, count in row.seen.items()) or MISSING,
    "status": _status_text,
}


def metric_keys(rows: Sequence[Row]) -> dict[str, bool]:
    """Every metric key ``NAME@PROTOCOL`` of the rows, sorted, with its direction."""
    scores = {key: score for row in rows for result in row.done for key, score in result.metrics.items()}
    return {key: scores[key].higher_is_better for key in sorted(scores)}


def check_columns(names: Sequence[str], rows: Sequence[Row]) -> None:
    """Refuse column names that no result has.

    Raises:
        SettingError: names the first such column, the nearest known one and all that there are.
    """
    metrics = metric_keys(rows)
    settings = {name for row in rows for name in row.settings}
    offered = [*_TEXTS, SPEED, *dict.fromkeys(key.split("@")[0] for key in metrics)]
    for name in names:
        if name not in {*offered, *metrics, *settings}:
            hint = nearest(name, [*offered, *metrics, *settings])
            raise SettingError(
                f"unknown column '{name}'.{hint} These results have: {', '.join(offered)}; "
                "also NAME@PROTOCOL and settings such as grouper.num_slots."
            )


def text_column(name: str) -> TextColumn:
    """One of the columns of words that every table can have, such as ``seeds`` or ``coverage``."""
    return TextColumn(name, name, _TEXTS[name])


def setting_column(name: str, header: str) -> TextColumn:
    """What a setting is set to, a dash for rows without it."""
    return TextColumn(name, header, lambda row: row.settings.get(name, MISSING))


def resolve_column(name: str, rows: Sequence[Row]) -> list[Column]:
    """The columns that one name stands for among these rows.

    A metric's short name yields one column a protocol, labelled with it if there are several. Speed
    yields one column a machine, since numbers of different machines must not be compared. A name
    that the rows have nothing for yields no column.
    """
    if name in _TEXTS:
        return [text_column(name)]
    if name == SPEED:
        return _speed_columns(rows)
    directions = metric_keys(rows)
    keys = [key for key in directions if name in (key, key.split("@")[0])]
    if keys:
        return [_metric_column(key, name if len(keys) == 1 else key, directions[key], rows) for key in keys]
    if any(name in row.settings for row in rows):
        return [setting_column(name, name)]
    return []


def machine_labels(rows: Sequence[Row]) -> dict[str, str]:
    """Machines that finished a run, each with a letter: ``{"A": "8 cores, torch 2.15"}``."""
    machines = sorted({machine for row in rows for machine in row.machines})
    return {chr(ord("A") + index): machine for index, machine in enumerate(machines)}


def _speed_columns(rows: Sequence[Row]) -> list[Column]:
    machines = machine_labels(rows)
    if len(machines) < 2:
        return [_speed_column(SPEED, SPEED, machine) for machine in machines.values()]
    return [_speed_column(f"{SPEED} [{m}]", f"{SPEED} [{letter}]", m) for letter, m in machines.items()]


def _speed_column(key: str, header: str, machine: str) -> NumberColumn:
    return NumberColumn(key, header, lambda row: row.speed(machine), percent=False)


def _metric_column(key: str, header: str, higher_is_better: bool, rows: Sequence[Row]) -> NumberColumn:
    share = is_share(key, (row.metric(key).mean for row in rows))
    return NumberColumn(
        key,
        with_unit(header, share),
        lambda row: row.metric(key),
        share,
        higher_is_better,
        lambda row: row.sample(key),
        lambda row: row.tie_span(key),
    )


_IMPORTANCE = (
    *("date", "machine", SPEED, "seeds", "id", "precision"),
    *("dataset.frames_per_clip", "dataset.short_side", "grouper.num_slots"),
    *("other metrics", "corloc_top1", "detrate", "ap50", "corloc_any"),
)
"""Columns that a narrow terminal may lack, least important first."""

_PROSE = ("settings", "coverage", "seen", "id", "machine")


def expendable_columns(columns: Sequence[Column], rows: Sequence[Row]) -> tuple[int, ...]:
    """The places of columns that a narrow terminal may lack, least important first.

    Never those of the parts, the first metric, words that tell rows apart, nor what the numbers would mislead
    without, such as coverage. Of what matters alike the rightmost goes first.
    """
    numbers = [place for place, column in enumerate(columns) if isinstance(column, NumberColumn)]
    first = min(numbers, key=lambda place: (columns[place].key.startswith(SPEED), place), default=None)
    ranks = {place: _importance(column) for place, column in enumerate(columns) if place != first}
    ranked = sorted((place for place in ranks if ranks[place] >= 0), key=lambda place: (ranks[place], -place))
    words = {
        place: [each.read(row) for row in rows]
        for place, each in enumerate(columns)
        if isinstance(each, TextColumn)
    }
    return expendable_places(ranked, words)


def _importance(column: Column) -> int:
    """The place in ``_IMPORTANCE``; -1 for columns that no table may lack."""
    name = re.split(r"@| \[", column.key)[0]
    if name in _IMPORTANCE:
        return _IMPORTANCE.index(name)
    return _IMPORTANCE.index("other metrics") if isinstance(column, NumberColumn) else -1


def is_prose(column: Column) -> bool:
    """Tell a column of lists or sentences, whose lines may be broken, from others."""
    return column.key in _PROSE
