"""Rows of a table: one combination with its settings, on one or several seeds."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ovvol_bench.metrics.by_video import Terms
from ovvol_bench.results.schema import Record
from ovvol_bench.results.statistics import Sample

Settings = dict[str, str]

TELLING_SPAN = 0.0005
"""A span of ties above this, 0.05 points, is printed beside the number."""


@dataclass(frozen=True)
class Stat:
    """A number over seeds.

    Attributes:
        mean: over the seeds on which it is defined; NaN if there is none.
        std: sample standard deviation, None for fewer than two seeds.
        n: seeds averaged.
    """

    mean: float
    std: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Stat:
        """Summarise the defined values.

        >>> Stat.of([0.5, 0.7]).mean, Stat.of([0.5]).std, Stat.of([]).n
        (0.6, None, 0)
        """
        if not values:
            return cls(math.nan, None, 0)
        std = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.fmean(values), std, len(values))


@dataclass(frozen=True)
class Row:
    """Results that differ in nothing but seed and machine.

    Attributes:
        results: at least one, done or failed.
    """

    results: tuple[Record, ...]

    @property
    def first(self) -> Record:
        """A result to read the common settings from."""
        return self.results[0]

    @cached_property
    def settings(self) -> Settings:
        """What the results have in common, flat; see ``settings_of``."""
        return settings_of(self.first)

    @cached_property
    def done(self) -> list[Record]:
        """Finished results, one a seed (the newest, where a seed ran on several machines)."""
        newest = sorted(
            (each for each in self.results if each.status == "done"), key=lambda each: each.date or ""
        )
        return list({each.all_seeds: each for each in newest}.values())

    @property
    def failed(self) -> list[Record]:
        """Results of runs that ended in an error."""
        return [result for result in self.results if result.status == "failed"]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of encoder, grouper and labeler."""
        return self.first.names

    @property
    def outside(self) -> bool:
        """Whether another program made the predictions."""
        return self.first.method is not None

    @property
    def machines(self) -> list[str]:
        """Machines that finished a run, in words, sorted; none for outside results."""
        done = [result for result in self.results if result.status == "done"]
        return [] if self.outside else sorted({result.machine.text for result in done})

    @property
    def coverage(self) -> float:
        """Share of the clips asked for that is in the numbers, in [0, 1]; the least over seeds."""
        return min((_coverage(result) for result in self.done), default=math.nan)

    @property
    def seen(self) -> dict[str, int]:
        """Of the videos that are scored, those that weights learned from; by kind of part."""
        return self.first.seen

    def metric(self, key: str) -> Stat:
        """A metric by its full key ``NAME@PROTOCOL``."""
        return _stat(self.done, lambda result: _value(result, key))

    def sample(self, key: str) -> Sample | None:
        """A metric by video over all seeds; None where results don't have it alike."""
        videos = [result.videos for result in self.done]
        known = [each for each in videos if key in each.terms]
        if not known or len(known) < len(videos) or any(each.names != known[0].names for each in known):
            return None
        seeds = (each.terms[key] for each in known)
        terms = tuple(Terms(np.array(each.sums), np.array(each.counts)) for each in seeds)
        return Sample(tuple(known[0].names), terms)

    def tie_span(self, key: str) -> tuple[float, float] | None:
        """Mean bounds that the order of equal scores leaves a metric; None if they are as good as equal."""
        spans = [span for each in self.done if key in each.metrics and (span := each.metrics[key].tie_span)]
        low, high = np.mean(spans, axis=0).tolist() if spans else (0.0, 0.0)
        return (low, high) if high - low > TELLING_SPAN else None

    def speed(self, machine: str) -> Stat:
        """Clips a second on one machine, as named by ``machine_label``."""
        here = [each for each in self.results if each.status == "done" and each.machine.text == machine]
        return _stat(here, lambda result: result.timing.clips_per_s)


def group_rows(results: Iterable[Record]) -> list[Row]:
    """Group results into one row a combination and its settings, over seeds and machines."""
    groups: dict[str, list[Record]] = {}
    for result in results:
        groups.setdefault(json.dumps([result.names, settings_of(result)]), []).append(result)
    return [Row(tuple(group)) for group in groups.values()]


def settings_of(result: Record) -> Settings:
    """Flatten everything that can change a result except its seed, by dotted name.

    Settings that say where content lies give way to the digest of the content.
    """
    flat: dict[str, Any] = {}
    for kind, part in {**result.parts, "dataset": result.dataset}.items():
        flat |= {f"{kind}.{name}": value for name, value in part.settings.items()}
    flat |= {f"{kind}.version": part.version for kind, part in result.parts.items()}
    if result.file is not None:
        flat["file"] = result.file.sha256[:8]
        return {name: setting_text(value) for name, value in sorted(flat.items())}
    flat |= {f"{kind}.weights": (part.weights_sha256 or "none")[:8] for kind, part in result.parts.items()}
    flat |= {f"naming.{name}": value for name, value in result.naming.items()}
    flat |= {name: getattr(result, name) for name in ("precision", "fidelity", "consensus")}
    flat["seeds merged"] = len(result.all_seeds)
    return {name: setting_text(value) for name, value in sorted(flat.items())}


def setting_text(value: object) -> str:
    """A setting as typed on a command line: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def telling_settings(rows: Sequence[Row], shown: Collection[str] = ()) -> dict[int, str]:
    """The settings that tell rows from the others of the same names, in one pass over all.

    Args:
        rows: of the block.
        shown: settings that have a column of their own.

    Returns:
        By ``id`` of the row, text such as ``grouper.num_slots=8, precision=bfloat16``; empty where a row is
        the only one of its names.
    """
    alike: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        alike.setdefault(row.names, []).append(row)
    told: dict[int, str] = {}
    for group in alike.values():
        known = sorted({name for row in group for name in row.settings}.difference(shown))
        differing = [name for name in known if len({row.settings.get(name) for row in group}) > 1]
        for row in group:
            told[id(row)] = ", ".join(f"{name}={row.settings.get(name, 'none')}" for name in differing)
    return told


def _coverage(result: Record) -> float:
    share = result.coverage.share
    return math.nan if share is None else share


def _value(result: Record, key: str) -> float | None:
    return result.metrics[key].value if key in result.metrics else None


def _stat(results: Iterable[Record], read: Callable[[Record], float | None]) -> Stat:
    return Stat.of([value for result in results if (value := read(result)) is not None])
