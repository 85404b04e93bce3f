"""Running again what a result says, and holding the numbers against it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ovvol_bench.errors import DataError, SettingError
from ovvol_bench.registry import Registry
from ovvol_bench.runs.benchmark import located
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
    """One number, then and now.

    Attributes:
        name: ``NAME@PROTOCOL``.
        then, now: the values; NaN where undefined or missing.
    """

    name: str
    then: float
    now: float

    @property
    def difference(self) -> float:
        """How far apart they are; 0 if both are undefined, infinite if one is."""
        if math.isnan(self.then) or math.isnan(self.now):
            return 0.0 if math.isnan(self.then) == math.isnan(self.now) else math.inf
        return abs(self.now - self.then)


def selection_of(
    registry: Registry, result: Mapping[str, Any], places: Mapping[str, Mapping[str, Any]]
) -> Selection:
    """What a result says was run.

    Args:
        registry: knows which settings say where things lie.
        result: a finished one.
        places: by kind, settings that say where weights and data lie here; nothing else may be changed.

    Raises:
        DataError: if the result is of a failed run, or from before results said how they were scored.
        SettingError: if another setting would be changed.
    """
    if "method" in result:
        raise DataError(
            f"result {result['id']} is of a file of '{result['method']['name']}', which no run makes; score "
            "the file again with ovvol-bench eval"
        )
    if result["status"] != "done" or "scoring" not in result:
        raise DataError(
            f"result {result['id']} can't be run again: expected a finished run that says how it was scored "
            "(field 'scoring')"
        )
    movable = {kind: located(registry, kind, result[kind]["name"]) for kind in PARTS}
    for kind, settings in places.items():
        for name in settings:
            if name not in movable.get(kind, ()):
                known = [f"{of}.{each}" for of in PARTS for each in movable[of]]
                raise SettingError(
                    f"-o {kind}.{name}: would be another run; expected only where things lie: "
                    f"{', '.join(known) or 'nothing, in this run'}"
                )
    chosen = {
        kind: (Choice(result[kind]["name"], {**result[kind]["options"], **places.get(kind, {})}),)
        for kind in PARTS
    }
    return Selection(
        encoders=chosen["encoder"],
        groupers=chosen["grouper"],
        labelers=chosen["labeler"],
        datasets=chosen["dataset"],
        metrics=tuple(Choice(metric["name"], metric["options"]) for metric in result["scoring"]),
        naming=result["naming"],
        seeds=tuple(result.get("seeds") or (result["seed"],)),
        consensus=tuple(result["consensus"]) if result.get("consensus") else None,
        fidelity=result["fidelity"],
        precision=result["precision"],
        limit=result["limit"],
    )


def checks(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Check]:
    """Every number of the earlier result beside that of the later one."""
    return [
        Check(name, _value(then["metrics"], name), _value(now["metrics"], name)) for name in then["metrics"]
    ]


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What else differs and may explain numbers that do: content, versions, machine."""
    for kind in PARTS:
        for field, what in _CONTENT.items():
            before, after = then[kind].get(field), now[kind].get(field)
            if before != after:
                yield f"{kind} {what}: {_short(before)}, now {_short(after)}"
    before, after = (each.get("code", {}).get("sha256") for each in (then, now))
    if before != after:
        yield f"code of ovvol-bench: {_short(before)}, now {_short(after)}"
    for field in ("cpu", "gpu", "torch"):
        before, after = then.get("machine", {}).get(field), now.get("machine", {}).get(field)
        if before != after:
            yield f"{field}: {_short(before)}, now {_short(after)}"


def _value(metrics: Mapping[str, Any], name: str) -> float:
    value = metrics.get(name, {}).get("value")
    return math.nan if value is None else float(value)


def _short(value: object) -> str:
    return "none" if value is None else str(value)[:40]
