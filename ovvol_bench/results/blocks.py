"""Blocks of a table: only what may be compared stands together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ovvol_bench.errors import SettingError
from ovvol_bench.results.columns import (
    DEFAULT_COLUMNS,
    MISSING,
    SPEED,
    Column,
    NumberColumn,
    TextColumn,
    check_columns,
    machine_labels,
    resolve_column,
    setting_column,
    text_column,
)
from ovvol_bench.results.rows import Row, group_rows, telling_settings
from ovvol_bench.results.schema import COMPONENTS, Record

DIFFERING = tuple(
    setting_column(key, header)
    for key, header in (
        ("grouper.num_slots", "slots"),
        ("dataset.short_side", "resolution"),
        ("dataset.frames_per_clip", "frames"),
        ("precision", "precision"),
    )
)
"""Columns for settings that weigh heavily on numbers; shown where rows differ in them."""
GROUPINGS = ("dataset", *COMPONENTS)


class Shared(NamedTuple):
    """What results must have in common for their numbers to compare.

    An oracle's are no method's: they stand apart.
    """

    dataset: str
    split: str
    fingerprint: str
    clips: int
    protocols: tuple[str, ...]
    oracle: bool = False

    def under(self, protocols: tuple[str, ...]) -> Shared:
        """The same clips under other protocols."""
        return self._replace(protocols=protocols)


@dataclass(frozen=True)
class Query:
    """What a table is to show.

    Attributes:
        columns: names as users type them; None for the default ones, as far as results have them.
        sort_by: column that orders the rows, best first; None for the first column of numbers.
        by: ``dataset``, or a kind of component to give every component a block of its own.
        merge_seeds: one row for all seeds of a combination; else a row a result.
    """

    columns: Sequence[str] | None = None
    sort_by: str | None = None
    by: str = "dataset"
    merge_seeds: bool = True


@dataclass(frozen=True)
class Block:
    """Rows on the same clips under the same protocols.

    Attributes:
        title: dataset, split, size, protocols, start of the fingerprint.
        shared: what all rows have in common.
        rows: best first.
        columns: at least one.
        notes: machines, and the reasons of failed runs.
    """

    title: str
    shared: Shared
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    notes: tuple[str, ...]


def shared_by(result: Record) -> Shared:
    """What other results must share with this one to stand in its block."""
    data = result.dataset
    protocols = tuple(sorted({key.partition("@")[2] for key in result.metrics}))
    return Shared(data.name, data.split, data.fingerprint, data.clips or 0, protocols, result.oracle)


def make_blocks(results: Sequence[Record], query: Query) -> list[Block]:
    """Sort results into blocks and rows.

    Raises:
        SettingError: if a column that was asked for is in none of the results, or ``by`` is unknown.
    """
    if query.by not in GROUPINGS:
        raise SettingError(f"--by: got '{query.by}', expected one of {', '.join(GROUPINGS)}.")
    asked = [*(query.columns or ()), *([query.sort_by] if query.sort_by else [])]
    check_columns(asked, group_rows(results))
    groups = _group(results, query.by)
    return [_make_block(group, key, query) for key, group in sorted(groups.items())]


def _group(results: Sequence[Record], by: str) -> dict[tuple[Shared, str], list[Record]]:
    """Results by block; a failed run, which has no protocols, joins a block on its clips."""
    done = sorted((shared_by(result) for result in results if result.status == "done"), reverse=True)
    home = {shared.under(()): shared for shared in done}
    groups: dict[tuple[Shared, str], list[Record]] = {}
    for result in results:
        shared = shared_by(result)
        if result.status == "failed":
            shared = home.get(shared.under(()), shared)
        groups.setdefault((shared, _part_name(result, by)), []).append(result)
    return groups


def _part_name(result: Record, by: str) -> str:
    return dict(zip(COMPONENTS, result.names, strict=True)).get(by, "")


def _make_block(results: Sequence[Record], key: tuple[Shared, str], query: Query) -> Block:
    rows = group_rows(results) if query.merge_seeds else [Row((result,)) for result in results]
    outside = ["method"] if any(row.outside for row in rows) else []
    names = query.columns or [*outside, *DEFAULT_COLUMNS]
    columns = [column for name in names for column in resolve_column(name, rows)]
    columns += _needed_columns(rows, {column.key for column in columns})
    notes = (*_machine_notes(rows, columns), *_seen_notes(rows), *_failure_notes(rows))
    ranked = tuple(_ranked(rows, columns, query))
    return Block(_title(*key, query.by), key[0], ranked, tuple(columns), notes)


def _title(shared: Shared, part: str, by: str) -> str:
    size = [f"{shared.clips} clips"] if shared.clips else []
    where = [*([f"{by} {part}"] if part else []), *(["oracle: told the truth"] if shared.oracle else [])]
    name = f"{shared.dataset} {shared.split}".strip()
    return " · ".join([name, *size, *shared.protocols, f"data {shared.fingerprint[:8]}", *where])


def _needed_columns(rows: Sequence[Row], there: set[str]) -> list[Column]:
    """Columns without which the numbers would mislead."""
    own = [column for column in DIFFERING if column.key not in there and _differ(rows, column)]
    shown = {*there, *(column.key for column in own)}
    told = telling_settings(rows, shown)
    settings = TextColumn("settings", "settings", lambda row: told[id(row)])
    candidates = [
        *((column, True) for column in own),
        (settings, any(settings.read(row) for row in rows)),
        (text_column("seeds"), any(len(row.done) > 1 for row in rows)),
        (text_column("coverage"), any(row.coverage < 1 for row in rows)),
        (text_column("seen"), any(row.seen for row in rows)),
        (text_column("status"), any(row.failed for row in rows)),
    ]
    return [column for column, needed in candidates if needed and column.key not in there]


def _differ(rows: Sequence[Row], column: TextColumn) -> bool:
    """Whether rows that have the setting have it differently."""
    return len({column.read(row) for row in rows} - {MISSING}) > 1


def _ranked(rows: Sequence[Row], columns: Sequence[Column], query: Query) -> list[Row]:
    """Best first by the asked column, or the first one with numbers; rows without a value last."""
    by_name = sorted(rows, key=lambda row: row.names)
    asked = resolve_column(query.sort_by, rows) if query.sort_by else []
    column = next(
        (column for column in [*asked, *columns] if asked or isinstance(column, NumberColumn)), None
    )
    if column is None:
        return by_name
    if isinstance(column, TextColumn):
        return sorted(by_name, key=column.read)
    return sorted(by_name, key=lambda row: _rank(column, row))


def _rank(column: NumberColumn, row: Row) -> tuple[bool, float]:
    mean = column.read(row).mean
    if math.isnan(mean):
        return True, 0.0
    return False, -mean if column.higher_is_better else mean


def _machine_notes(rows: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    if not any(column.key.startswith(SPEED) for column in columns):
        return []
    machines = machine_labels(rows)
    if len(machines) == 1:
        return [f"{SPEED} on {machine}" for machine in machines.values()]
    return [f"{SPEED} [{letter}] on {machine}" for letter, machine in machines.items()]


def _seen_notes(rows: Sequence[Row]) -> list[str]:
    if not any(row.seen for row in rows):
        return []
    return [
        "seen: so many of the videos that a row is scored on are known to be among those that the weights of "
        "its part learned from. Its numbers don't compare with those of the other rows."
    ]


def _failure_notes(rows: Sequence[Row]) -> list[str]:
    """One note a distinct reason, with how many it ended."""
    ended: dict[str, list[str]] = {}
    for row in rows:
        for result in row.failed:
            who = "+".join(filter(None, row.names))
            ended.setdefault(_reason(result), []).append(f"{who}, {result.seed_text}")
    return [
        f"failed: {runs[0]}{f' and {len(runs) - 1} more' if len(runs) > 1 else ''}: {reason}"
        for reason, runs in ended.items()
    ]


def _reason(result: Record) -> str:
    lines = (result.error or "no reason recorded").strip().splitlines()
    return lines[-1] if lines[0].startswith("Traceback") else lines[0]
