"""What limits a method: its numbers with grouping, naming, or both replaced by the truth.

Four runs make a ladder: the method, true groups with its names, its groups with true names, and both true,
which only the patch grid keeps from perfection. What a part costs depends on the other, so its share is the
mean over both orders of mending them (the Shapley value of two players).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ovvol_bench.errors import DataError
from ovvol_bench.results.layout import Grid, number_text
from ovvol_bench.results.schema import Record

PARTS = ("patch grid", "encoder and grouper", "naming")
COLUMNS = ("corloc_any", "corloc_top1", "detrate", "ap50", "naming_accuracy")


@dataclass(frozen=True)
class Shares:
    """Where a number's way to 1 goes; reached and shares add up to 1.

    Attributes:
        name: of the number, ``NAME@PROTOCOL``.
        reached: by the method.
        grid: lost by the patch grid, whatever the parts do.
        grouping: lost by encoder and grouper.
        naming: lost by the labeler and naming. A share below 0 says that the truth there makes it worse.
    """

    name: str
    reached: float
    grid: float
    grouping: float
    naming: float

    @property
    def lost(self) -> tuple[float, float, float]:
        """The shares in the order of ``PARTS``."""
        return self.grid, self.grouping, self.naming

    @property
    def record(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"number": self.name, "reached": self.reached, **dict(zip(PARTS, self.lost, strict=True))}


def attribute(name: str, method: float, groups: float, names: float, both: float) -> Shares:
    """Share out what a number lacks.

    Args:
        name: of the number.
        method: as it is.
        groups: with true groups.
        names: with true names.
        both: with both.

    >>> shares = attribute("ap50", 0.1, 0.2, 0.6, 0.8)
    >>> [round(share, 3) for share in (shares.reached, *shares.lost)]
    [0.1, 0.2, 0.15, 0.55]
    """
    grouping = ((groups - method) + (both - names)) / 2
    naming = ((names - method) + (both - groups)) / 2
    return Shares(name, method, 1 - both, grouping, naming)


def ladder(results: Mapping[tuple[bool, bool], Sequence[Record]]) -> list[Shares]:
    """The shares of all numbers of a ladder that lie between 0 and 1.

    Args:
        results: by whether groups and names are true: finished results, one a seed.

    Raises:
        DataError: if one of the four steps has no finished result.
    """
    missing = [step for step in _STEPS if not results.get(step)]
    if missing:
        raise DataError(
            f"the ladder lacks the step '{_STEPS[missing[0]]}'; expected finished runs of all four. See the "
            "reasons above"
        )
    names = [name for name in results[False, False][0].metrics if name.split("@")[0] in COLUMNS]
    return [attribute(name, *(_mean(results[step], name) for step in _STEPS)) for name in names]


def ladder_grid(shares: Sequence[Shares]) -> Grid:
    """The shares as a table, percent."""
    headers = ("number", "reached %", *(f"{part} %" for part in PARTS))
    cells = tuple(
        (each.name, *(number_text(value, share=True) for value in (each.reached, *each.lost)))
        for each in shares
    )
    notes = (
        "what a number lacks to 100%, by who loses it: the patch grid with everything else true; the others "
        "as the mean over both orders of mending them",
    )
    return Grid("where the way to 100% goes", headers, (False, *[True] * 4), cells, notes)


_STEPS = {
    (False, False): "the method",
    (True, False): "true groups",
    (False, True): "true names",
    (True, True): "both true",
}


def _mean(results: Sequence[Record], name: str) -> float:
    values = [result.metrics[name].value for result in results if name in result.metrics]
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else math.nan
