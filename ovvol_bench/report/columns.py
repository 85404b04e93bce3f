"""Columns of a table: from the names that users type to what a cell says."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ovvol_bench.errors import SettingError, nearest
from ovvol_bench.report.results_files import COMPONENTS, Result
from ovvol_bench.report.rows import Row, Stat, seeds_of
from ovvol_bench.report.statistics import Sample

MISSING = "–"
SPEED = "clips_per_s"
DEFAULT_COLUMNS = (*COMPONENTS, "corloc_any", "corloc_top1", "detrate", "ap50", SPEED)


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
        percent: whether a share in [0, 1] is printed as a percentage.
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
        spread = "" if stat.std is None else f" ± {self._format(stat.std, like=stat.mean)}"
        partial = f" (n={stat.n})" if stat.n != len(row.done) else ""
        return self.number(stat.mean) + spread + partial

    def span_text(self, row: Row) -> str:
        """What ties leave open, to stand behind the cell: `` (ties 54.1 to 55.0)``, or nothing."""
        low, high = self.span(row) or (None, None)
        return "" if low is None or high is None else f" (ties {self.number(low)} to {self.number(high)})"

    def number(self, value: float) -> str:
        """One number: one decimal for percentages and from 10 on, two for small rates; 0 is ``0.0``."""
        return self._format(value, like=value)

    def difference(self, value: float) -> str:
        """A difference of two numbers, with its sign."""
        return self._format(value, like=value, sign="+")

    def _format(self, value: float, like: float, sign: str = "") -> str:
        scale = 100 if self.percent else 1
        decimals = 1 if self.percent or like == 0 or abs(like) >= 10 else 2
        rounded = round(scale * value, decimals) + 0.0  # + 0.0 turns -0.0 into 0.0
        return f"{rounded:{sign}.{decimals}f}"


Column = TextColumn | NumberColumn


def split_of(result: Result) -> str:
    """The dataset's split, or an empty text for datasets without."""
    return str(result["dataset"].get("options", {}).get("split") or "")


def _coverage_text(row: Row) -> str:
    if math.isnan(row.coverage):
        return MISSING
    skipped: dict[str, int] = {}
    for result in row.done:
        for reason, count in result.get("coverage", {}).get("skipped", {}).items():
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
    "dataset": lambda row: row.first["dataset"]["name"],
    "split": lambda row: split_of(row.first) or MISSING,
    "id": lambda row: ", ".join(result["id"] for result in row.results),
    "date": lambda row: max((result.get("date") or "" for result in row.results), default="")[:10] or MISSING,
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
    scores = {key: score for row in rows for result in row.done for key, score in result["metrics"].items()}
    return {key: scores[key].get("higher_is_better", True) for key in sorted(scores)}


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
    stats = [row.metric(key) for row in rows]
    percent = "_per_" not in key and all(0 <= stat.mean <= 1 for stat in stats if stat.n)
    return NumberColumn(
        key,
        f"{header} %" if percent else header,
        lambda row: row.metric(key),
        percent,
        higher_is_better,
        lambda row: row.sample(key),
        lambda row: row.tie_span(key),
    )


def seed_text(result: Result) -> str:
    """The seed or seeds in words, for example ``seed 0`` or ``seeds 0, 1, 2``."""
    seeds = seeds_of(result)
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
