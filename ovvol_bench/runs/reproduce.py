"""Running again what a result says, and holding the numbers against it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ovvol_bench.errors import DataError, SettingError
from ovvol_bench.registry import Registry
from ovvol_bench.results.schema import Configured, Record
from ovvol_bench.runs.build import located
from ovvol_bench.runs.selection import Choice, Selection

PARTS = ("encoder", "grouper", "labeler", "dataset")
_CONTENT = {
    "weights_sha256": "weights",
    "fingerprint": "data",
    "version": "version",
    "plugin": "plugin",
    "code_sha256": "code",
}


@dataclass(frozen=True)
class Check:
    """Number of a result, then and now.

    Attributes:
        name: ``NAME@PROTOCOL``.
        then, now: the values; NaN where undefined or missing.
    """

    name: str
    then: float
    now: float

    @property
    def difference(self) -> float:
        """Absolute difference; 0 if both are undefined, infinite if one is."""
        if math.isnan(self.then) or math.isnan(self.now):
            return 0.0 if math.isnan(self.then) == math.isnan(self.now) else math.inf
        return abs(self.now - self.then)


def selection_of(registry: Registry, result: Record, places: Mapping[str, Mapping[str, Any]]) -> Selection:
    """Make the selection that a result says was run.

    Args:
        registry: knows which settings say where things lie.
        result: a finished one.
        places: by kind, settings that say where weights and data lie here; nothing else may be changed.

    Raises:
        DataError: if the result is of a failed run, or from before results said how they were scored.
        SettingError: if another setting would be changed.
    """
    if result.method:
        raise DataError(
            f"result {result.id} is of a file of '{result.method.name}', which no run makes; score "
            "the file again with ovvol-bench eval"
        )
    if result.status != "done" or result.scoring is None:
        raise DataError(
            f"result {result.id} can't be run again: expected a finished run that says how it was scored "
            "(field 'scoring')"
        )
    parts: dict[str, Configured] = {**result.parts, "dataset": result.dataset}
    movable = {kind: located(registry, kind, part.name) for kind, part in parts.items()}
    for kind, settings in places.items():
        for name in settings:
            if name not in movable.get(kind, ()):
                known = [f"{of}.{each}" for of in parts for each in movable[of]]
                raise SettingError(
                    f"-o {kind}.{name}: would be another run; expected only where things lie: "
                    f"{', '.join(known) or 'nothing, in this run'}"
                )
    chosen = {
        kind: (Choice(part.name, {**part.options, **places.get(kind, {})}),) for kind, part in parts.items()
    }
    return Selection(
        encoders=chosen["encoder"],
        groupers=chosen["grouper"],
        labelers=chosen["labeler"],
        datasets=chosen["dataset"],
        metrics=tuple(Choice(metric.name, metric.options) for metric in result.scoring),
        naming=result.naming,
        seeds=result.all_seeds,
        consensus=result.consensus,
        fidelity=result.fidelity,
        precision=result.precision,
        limit=result.limit,
    )


def checks(then: Record, now: Record) -> list[Check]:
    """Set every number of the earlier result beside that of the later one."""
    return [Check(name, _value(then, name), _value(now, name)) for name in then.metrics]


def _value(result: Record, name: str) -> float:
    value = result.metrics[name].value if name in result.metrics else None
    return math.nan if value is None else float(value)


def changes(then: Record, now: Record) -> Iterator[str]:
    """Name other differences that may explain those of numbers: content, versions, machine."""
    compared = [
        (f"{kind} {what}", *(getattr(getattr(each, kind), field, None) for each in (then, now)))
        for kind in PARTS
        for field, what in _CONTENT.items()
    ]
    compared.append(("code of ovvol-bench", then.code.sha256, now.code.sha256))
    compared += [
        (name, getattr(then.machine, name), getattr(now.machine, name)) for name in ("cpu", "gpu", "torch")
    ]
    for what, before, after in compared:
        if before != after:
            old, new = ("none" if value is None else str(value)[:40] for value in (before, after))
            yield f"{what}: {old}, now {new}"
