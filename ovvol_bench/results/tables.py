"""Tables of results: only what may be compared stands together, in every style for people and programs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from ovvol_bench.errors import SettingError, nearest
from ovvol_bench.files import json_ready
from ovvol_bench.printing import for_csv
from ovvol_bench.results.frame import (
    CLIPS,
    SHARED,
    SPEED,
    TEXT_COLUMNS,
    coverage_of,
    machines_of,
    merged,
    results_frame,
    sample_of,
    setting_names,
    telling_settings,
    tie_span,
)
from ovvol_bench.results.layout import (
    MISSING,
    Grid,
    TextColumn,
    expendable_places,
    is_share,
    number_text,
    with_unit,
)
from ovvol_bench.results.schema import COMPONENTS, Record
from ovvol_bench.results.statistics import Sample, marks

if TYPE_CHECKING:
    from pandas import DataFrame

STYLES = ("text", "markdown", "csv", "latex", "html", "json")
GROUPINGS = ("dataset", *COMPONENTS)
DEFAULT_COLUMNS = (*COMPONENTS, "corloc_any", "corloc_top1", "detrate", "ap50", SPEED)

_DIFFERING = {
    "grouper.num_slots": "slots",
    "dataset.short_side": "resolution",
    "dataset.frames_per_clip": "frames",
    "precision": "precision",
}
"""Settings that weigh heavily on numbers, with headers: columns where rows differ in them."""

_IMPORTANCE = (
    *("date", "machine", SPEED, "seeds", "id", "precision"),
    *("dataset.frames_per_clip", "dataset.short_side", "grouper.num_slots"),
    *("other metrics", "corloc_top1", "detrate", "ap50", "corloc_any"),
)
"""Columns that a narrow terminal may lack, least important first."""

_PROSE = ("settings", "coverage", "seen", "id", "machine")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: column of the rows, or of the numbers.
        header: as printed.
        numeric: a number over seeds; else words.
        share: a share, printed as a percentage.
        higher_is_better: direction, for ranking and marks.
    """

    key: str
    header: str
    numeric: bool = False
    share: bool = False
    higher_is_better: bool = True

    def number(self, value: float) -> str:
        """Print a value of the column."""
        return number_text(value, self.share)

    def difference(self, value: float) -> str:
        """Print a difference of two values, with its sign."""
        return number_text(value, self.share, sign="+")


@dataclass(frozen=True)
class Block:
    """Rows on the same clips under the same protocols.

    Attributes:
        title: dataset, split, size, protocols, start of the fingerprint.
        shared: the values of ``SHARED`` that all rows have.
        rows: from ``frame.merged``, best first.
        numbers: from ``frame.merged``, in the order of the rows.
        columns: at least one.
        notes: machines, and the reasons of failed runs.
    """

    title: str
    shared: dict[str, Any]
    rows: DataFrame
    numbers: DataFrame
    columns: tuple[Column, ...]
    notes: tuple[str, ...]

    def words(self, column: Column) -> list[str]:
        """Return the cells of a column of words; a dash where there is nothing to say."""
        cells = self.rows[column.key].fillna("").tolist()
        return cells if column.key == "settings" else [text or MISSING for text in cells]

    def stats(self, column: Column) -> DataFrame:
        """Return ``mean``, ``std`` and ``count`` of a column of numbers."""
        return cast("DataFrame", self.numbers[column.key])

    def samples(self, column: Column) -> list[Sample | None]:
        """Return a column of numbers by video, None for rows that don't have it so."""
        return [sample_of(done, column.key) for done in self.rows["done"]]

    def in_order(self, order: Sequence[Any]) -> Block:
        """Return the block with its rows in another order, given by their index."""
        return replace(self, rows=self.rows.loc[list(order)], numbers=self.numbers.loc[list(order)])

    def ranked(self, by: str | None) -> Block:
        """Order rows best first by a column, or the first one of numbers; rows without a value last.

        Args:
            by: name of the column as users type it.
        """
        asked = resolve_column(by, self.rows, self.numbers) if by else []
        column = next((each for each in [*asked, *self.columns] if asked or each.numeric), None)
        order = self.rows["names"].sort_values(kind="stable").index  # equal ones by name
        if column is not None:
            values = self.stats(column)["mean"] if column.numeric else self.rows[column.key]
            ascending = not (column.numeric and column.higher_is_better)
            order = values.loc[order].sort_values(ascending=ascending, kind="stable").index
        return self.in_order(order.tolist())

    def grid(self, style: str, spans: bool = False) -> Grid:
        """Put the block into words for a style for people; best and second are marked but in ``text``."""
        coverage = [coverage_of(done) for done in self.rows["done"]]
        columns = []
        for each in self.columns:
            if each.numeric:
                found = marks(self.samples(each), coverage, each.higher_is_better) if style != "text" else ()
                cells = list(self._numbers(each, spans))
                columns.append(TextColumn(each.header, cells, numeric=True, marks=found))
            else:
                columns.append(TextColumn(each.header, self.words(each), prose=each.key in _PROSE))
        return Grid(self.title, columns, self.notes, expendable_places(self._least_important(), columns))

    def _numbers(self, column: Column, spans: bool) -> Iterator[str]:
        """Yield ``54.3``, ``54.3 ± 1.2`` over seeds, ``54.3 ± 1.2 (n=2)`` where some lack it, or a dash."""
        stats = self.stats(column).itertuples(index=False)
        for (mean, std, count), done in zip(stats, self.rows["done"], strict=True):
            text = column.number(mean)
            if not math.isnan(std):
                text += f" ± {number_text(std, column.share, like=mean)}"
            if count < len(done) and not math.isnan(mean):
                text += f" (n={count:.0f})"
            if spans and (span := tie_span(done, column.key)):
                text += f" (ties {column.number(span[0])} to {column.number(span[1])})"
            yield text

    def _least_important(self) -> list[int]:
        """Rank the places of columns that a narrow terminal may lack, least important first.

        Never those of the parts, the first metric, nor what the numbers would mislead without, such as
        coverage. Of what matters alike the rightmost goes first.
        """
        numbers = [place for place, each in enumerate(self.columns) if each.numeric]
        first = min(
            numbers, key=lambda place: (self.columns[place].key.startswith(SPEED), place), default=None
        )
        ranks = {}
        for place, column in enumerate(self.columns):
            name = re.split(r"@| \[", column.key)[0]
            name = "other metrics" if column.numeric and name not in _IMPORTANCE else name
            if place != first and name in _IMPORTANCE:
                ranks[place] = (_IMPORTANCE.index(name), -place)
        return sorted(ranks, key=ranks.__getitem__)

    def for_programs(self) -> Iterator[dict[str, Any]]:
        """Yield one dictionary a row; NaN where a number is undefined."""
        rows: list[dict[str, Any]] = [dict(self.shared) for _ in self.rows.index]
        for column in self.columns:
            if not column.numeric:
                for row, text in zip(rows, self.words(column), strict=True):
                    row[column.key] = text
                continue
            for row, (mean, std, _) in zip(rows, self.stats(column).itertuples(index=False), strict=True):
                row[column.key] = mean
                if not math.isnan(std):  # of one seed there is none
                    row[f"{column.key}_std"] = std
        for row, results, done in zip(rows, self.rows["results"], self.rows["done"], strict=True):
            failed = [record for record in results if record.status == "failed"]
            yield row | {
                "seeds": len(done),
                "failed": len(failed),
                "coverage": coverage_of(done),
                "machine": "; ".join(machines_of(results)),
                "ids": " ".join(record.id for record in results),
                "errors": "; ".join(record.error or "no reason recorded" for record in failed),
            }


def make_blocks(
    records: Sequence[Record],
    columns: Sequence[str] | None = None,
    *,
    sort_by: str | None = None,
    by: str = "dataset",
    merge_seeds: bool = True,
) -> list[Block]:
    """Sort results into blocks and rows.

    Args:
        records: at least one.
        columns: names as users type them; None for the default ones, as far as results have them.
        sort_by: column that orders the rows, best first; None for the first column of numbers.
        by: ``dataset``, or a kind of component to give every component a block of its own.
        merge_seeds: one row for all seeds of a combination; else a row a result.

    Raises:
        SettingError: if a column that was asked for is in none of the results, or ``by`` is unknown.
    """
    if by not in GROUPINGS:
        raise SettingError(f"--by: got '{by}', expected one of {', '.join(GROUPINGS)}.")
    frame = results_frame(records)
    _check_columns([*(columns or ()), *([sort_by] if sort_by else [])], frame)
    frame["part"] = [dict(zip(COMPONENTS, names, strict=True)).get(by, "") for names in frame["names"]]
    # A failed run has no protocols; it joins a block on its clips.
    failed = frame["status"] == "failed"
    same = [*CLIPS, "oracle"]
    home = frame[~failed].groupby(same)["protocols"].min().to_dict()
    clips = frame.loc[failed, same].itertuples(index=False, name=None)
    frame.loc[failed, "protocols"] = [home.get(each, "") for each in clips]
    blocks = []
    for _, group in frame.groupby([*SHARED, "part"]):
        shared = {name: group[name].tolist()[0] for name in SHARED}
        part = group["part"].iloc[0]
        title = (
            f"{shared['dataset']} {shared['split']}".strip(),
            f"{shared['clips']} clips" if shared["clips"] else "",
            *shared["protocols"].split(),
            f"data {shared['fingerprint'][:8]}",
            f"{by} {part}" if part else "",
            "oracle: told the truth" if shared["oracle"] else "",
        )
        rows, numbers = merged(group, "combination" if merge_seeds else "record")
        block = _block(" · ".join(filter(None, title)), shared, rows, numbers, columns)
        blocks.append(block.ranked(sort_by))
    return blocks


def _block(
    title: str, shared: dict[str, Any], rows: DataFrame, numbers: DataFrame, names: Sequence[str] | None
) -> Block:
    """Choose columns and notes of a block: those asked for, and those that numbers mislead without."""
    outside = ["method"] if any(rows["method"]) else []
    asked = names or [*outside, *DEFAULT_COLUMNS]
    columns = [column for name in asked for column in resolve_column(name, rows, numbers)]
    there = {column.key for column in columns}
    own = {key: header for key, header in _DIFFERING.items() if key in rows and rows[key].nunique() > 1}
    settings = telling_settings(rows, [*there, *own])
    needed = {
        **own,
        "settings": any(settings),
        "seeds": any(len(done) > 1 for done in rows["done"]),
        "coverage": any(coverage_of(done) < 1 for done in rows["done"]),
        "seen": any(rows["seen"]),
        "status": any(rows["status"] != "done"),
    }
    columns += [Column(key, own.get(key, key)) for key in needed if needed[key] and key not in there]
    notes = []
    if any(column.key.startswith(SPEED) for column in columns):
        notes += [f"{header} on {machine}" for machine, header in _speed_headers(rows).items()]
    if needed["seen"]:
        notes.append(
            "seen: so many of the videos that a row is scored on are known to be among those that the "
            "weights of its part learned from. Its numbers don't compare with those of the other rows."
        )
    notes += _failure_notes(rows)
    return Block(title, shared, rows.assign(settings=settings), numbers, tuple(columns), tuple(notes))


def _check_columns(names: Sequence[str], frame: DataFrame) -> None:
    """Refuse column names that no result has.

    Raises:
        SettingError: names the first such column, the nearest known one and all that there are.
    """
    metrics = sorted({key for record in frame["record"] if record.status == "done" for key in record.metrics})
    offered = [*TEXT_COLUMNS, SPEED, *dict.fromkeys(key.split("@")[0] for key in metrics)]
    known = [*offered, *metrics, *setting_names(frame)]
    for name in names:
        if name not in known:
            raise SettingError(
                f"unknown column '{name}'.{nearest(name, known)} These results have: {', '.join(offered)}; "
                "also NAME@PROTOCOL and settings such as grouper.num_slots."
            )


def resolve_column(name: str, rows: DataFrame, numbers: DataFrame) -> list[Column]:
    """Return the columns that a name stands for among these rows.

    A metric's short name yields one column a protocol, labelled with it if there are several. Speed yields
    one column a machine, since numbers of different machines must not be compared. A name that the rows have
    nothing for yields no column.
    """
    if name in TEXT_COLUMNS:
        return [Column(name, name)]
    if name == SPEED:
        headers = _speed_headers(rows)
        return [Column(f"{SPEED} [{machine}]", header, numeric=True) for machine, header in headers.items()]
    scores = {key: score for done in rows["done"] for each in done for key, score in each.metrics.items()}
    keys = [key for key in sorted(scores) if name in (key, key.split("@")[0])]
    found = []
    for key in keys:
        share = is_share(key, cast("DataFrame", numbers[key])["mean"])
        header = with_unit(name if len(keys) == 1 else key, share)
        found.append(Column(key, header, True, share, scores[key].higher_is_better))
    return found or [Column(name, name) for known in (setting_names(rows),) if name in known]


def _speed_headers(rows: DataFrame) -> dict[str, str]:
    """Head the speeds of each machine that finished a run, with a letter if there are several."""
    machines = sorted({machine for results in rows["results"] for machine in machines_of(results)})
    lettered = {machine: f"{SPEED} [{chr(ord('A') + place)}]" for place, machine in enumerate(machines)}
    return lettered if len(machines) > 1 else dict.fromkeys(machines, SPEED)


def _failure_notes(rows: DataFrame) -> list[str]:
    """Write a note for each distinct reason, with the number of runs it ended."""
    ended: dict[str, list[str]] = {}
    for record in (each for results in rows["results"] for each in results if each.status == "failed"):
        lines = (record.error or "no reason recorded").strip().splitlines()
        reason = lines[-1] if lines[0].startswith("Traceback") else lines[0]
        ended.setdefault(reason, []).append(f"{record.title}, {record.seed_text}")
    return [
        f"failed: {runs[0]}{f' and {len(runs) - 1} more' if len(runs) > 1 else ''}: {reason}"
        for reason, runs in ended.items()
    ]


def render(  # noqa: PLR0913 - what `ovvol-bench table` offers
    records: Sequence[Record],
    columns: Sequence[str] | None = None,
    style: str = "text",
    *,
    sort_by: str | None = None,
    by: str = "dataset",
    spans: bool = False,
    width: int | None = None,
) -> str:
    """Lay results out as tables, one a dataset and protocol.

    Shares in [0, 1] are printed as percentages with one decimal in the styles for people; ``csv``
    and ``json`` carry the numbers as stored. Several seeds give mean ± sample standard deviation.
    In markdown, LaTeX and HTML the best of a column is bold and the second underlined, where the paired
    intervals over videos support it (see ``statistics.marks``).

    Args:
        records: as ``load_results`` returns them.
        columns: names as users type them: metrics (``ap50`` or ``ap50@vid-devkit``), components,
            ``clips_per_s``, settings (``grouper.num_slots``); None for the default ones.
        style: one of ``STYLES``.
        sort_by: column that orders the rows, best first; None for the first one with numbers.
        by: ``dataset``, or a kind of component to give every component a block of its own.
        spans: whether what ties leave open of a number stands behind it, in the styles for people.
        width: see ``Grid.render``.

    Raises:
        SettingError: if a column, the style or ``by`` is unknown.
    """
    return render_blocks(make_blocks(records, columns, sort_by=sort_by, by=by), style, spans, width=width)


def render_blocks(
    blocks: Sequence[Block], style: str, spans: bool = False, *, width: int | None = None
) -> str:
    """Lay blocks out in one of ``STYLES``; arguments are those of ``render``.

    Raises:
        SettingError: if the style is unknown.
    """
    if style not in STYLES:
        raise SettingError(f"table style: got '{style}', expected one of {', '.join(STYLES)}.")
    if style in ("csv", "json"):
        rows = json_ready([row for block in blocks for row in block.for_programs()])
        return csv_text(rows) if style == "csv" else json.dumps(rows, indent=2)
    return "\n\n".join(block.grid(style, spans).render(style, width=width) for block in blocks)


def csv_text(rows: Sequence[dict[str, Any]]) -> str:
    """Write rows as CSV that spreadsheets read as it is: text that looks like a formula is no formula."""
    from pandas import DataFrame

    frame = DataFrame(rows).rename(columns=for_csv)
    cells = frame.map(lambda value: for_csv(value) if isinstance(value, str) else value)
    return cells.to_csv(index=False).rstrip("\n")
