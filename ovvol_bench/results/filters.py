"""Filters of a table: which results it shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ovvol_bench.errors import DataError, SettingError, nearest
from ovvol_bench.results.rows import settings_of
from ovvol_bench.results.schema import Record

_FACTS: Mapping[str, Callable[[Record], set[str]]] = {
    "method": lambda result: {result.method.name} if result.method else set(),
    "encoder": lambda result: set() if result.method else {result.names[0]},
    "grouper": lambda result: {result.names[1]} - {""},
    "labeler": lambda result: {result.names[2]} - {""},
    "dataset": lambda result: {result.dataset.name},
    "split": lambda result: {result.dataset.split},
    "seed": lambda result: {str(seed) for seed in result.all_seeds},
    "status": lambda result: {result.status},
    "id": lambda result: {result.id},
}


@dataclass(frozen=True)
class Filter:
    """What a result must say to be shown.

    Attributes:
        key: a component, ``dataset``, ``seed``, ..., or a setting such as ``grouper.num_slots``.
        values: one of them, as typed on a command line.
    """

    key: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.key}={','.join(self.values)}"


def parse_filter(text: str) -> Filter:
    """Read ``KEY=VALUE,...``.

    Raises:
        SettingError: if there is no key or no value.

    >>> parse_filter("grouper=kmeans,grid")
    Filter(key='grouper', values=('kmeans', 'grid'))
    """
    key, _, after = text.partition("=")
    values = tuple(value.strip() for value in after.split(",") if value.strip())
    if not key.strip() or not values:
        raise SettingError(f"filter '{text}': expected KEY=VALUE,..., as in grouper=kmeans,slot_attention")
    return Filter(key.strip(), values)


def filtered(results: Sequence[Record], filters: Sequence[Filter]) -> list[Record]:
    """The results that meet all filters; a result without a setting doesn't meet a filter on it.

    Raises:
        SettingError: if a key is given twice or none of the results has it; names the nearest.
        DataError: if nothing is left.
    """
    facts = [_facts(result) for result in results]
    _check_keys([each.key for each in filters], facts)
    met = [
        result
        for result, known in zip(results, facts, strict=True)
        if all(known.get(each.key, set()) & set(each.values) for each in filters)
    ]
    if not met and filters:
        raise DataError(_nothing_left(filters, facts))
    return met


def _facts(result: Record) -> dict[str, set[str]]:
    """Everything that can be filtered by: what a result says, as text."""
    settings = {name: {value} for name, value in settings_of(result).items()}
    return settings | {key: read(result) for key, read in _FACTS.items()}


def _check_keys(keys: Sequence[str], facts: Sequence[Mapping[str, set[str]]]) -> None:
    known = sorted(set().union(*facts))
    for key in keys:
        if key not in known:
            raise SettingError(
                f"unknown filter '{key}'.{nearest(key, known)} Filters: {', '.join(_FACTS)}; "
                "also settings such as grouper.num_slots, precision or naming.merge."
            )
        if keys.count(key) > 1:
            raise SettingError(f"filter '{key}' is given twice; several values stand between commas.")


def _nothing_left(filters: Sequence[Filter], facts: Sequence[Mapping[str, set[str]]]) -> str:
    """Which filter no result meets, and what there is; or that they contradict each other."""
    for each in filters:
        there = set().union(*(known.get(each.key, set()) for known in facts))
        if not there & set(each.values):
            hint = nearest(each.values[0], there)
            return (
                f"an empty table: none of {len(facts)} results has {each}.{hint} There are: "
                f"{', '.join(sorted(there))}."
            )
    return f"an empty table: none of {len(facts)} results has {' and '.join(map(str, filters))} together."
