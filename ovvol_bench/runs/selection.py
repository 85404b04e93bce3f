"""What to run: a preset, changed by what was typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from ovvol_bench.errors import SettingError, nearest
from ovvol_bench.registry import Registry
from ovvol_bench.runs.presets import Kind, Preset

PARTS: tuple[Kind, ...] = ("encoder", "grouper", "labeler", "dataset")
ALL = "all"
"""In place of the names of encoders, groupers or labelers: every one that is installed."""


@dataclass(frozen=True)
class Choice:
    """A component by name, with the settings that were chosen for it; the factory has the others."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Selection:
    """A matrix of runs: every encoder with every grouper, labeler and seed, on every dataset.

    Attributes:
        encoders: at least one, names unique; so for groupers, labelers and datasets.
        groupers: see encoders.
        labelers: see encoders.
        datasets: see encoders.
        metrics: what to score with, in order.
        naming: naming settings that differ from the defaults.
        seeds: one run each, or merged by ``consensus`` into one.
        consensus: lowest and highest number of groups, or None.
        fidelity: ``fast`` or ``reference``.
        precision: ``float32``, ``bfloat16``, or ``auto`` for what the fidelity and hardware give.
        limit: only the first so many clips, None for all.
    """

    encoders: tuple[Choice, ...]
    groupers: tuple[Choice, ...]
    labelers: tuple[Choice, ...]
    datasets: tuple[Choice, ...]
    metrics: tuple[Choice, ...] = ()
    naming: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    consensus: tuple[int, int] | None = None
    fidelity: str = "fast"
    precision: str = "auto"
    limit: int | None = None

    def __post_init__(self) -> None:
        _check_seeds(self.seeds, self.consensus)
        if self.fidelity == "reference" and self.precision == "bfloat16":
            raise SettingError(
                "--fidelity reference is float32 by definition, but --precision is bfloat16. "
                "Drop one of the two."
            )
        if self.limit is not None and self.limit < 1:
            raise SettingError(f"--limit must be at least 1 clip, got {self.limit}")


def select(
    preset: Preset,
    registry: Registry,
    names: Mapping[Kind, Sequence[str]],
    settings: Mapping[str, Mapping[str, Any]],
    **others: Any,
) -> Selection:
    """Change a preset by what was typed.

    Args:
        preset: where names, settings, metrics, seeds and fidelity come from if nothing else says so.
        registry: knows the components and their settings.
        names: components by kind, replacing the preset's; settings that the preset has for them stay.
            ``all`` stands for every encoder, grouper or labeler that is installed, in alphabetical order.
        settings: values by kind (a component's or ``naming``) and setting. A value goes to every
            chosen component of the kind that has the setting; one for ``NAME.SETTING`` to that component.
        others: further fields of the selection; None leaves the preset's.

    Raises:
        UnknownNameError: if a component isn't installed.
        SettingError: if none of the chosen components has a setting, a name is given twice, or two
            options contradict each other.
    """
    chosen = {kind: _choose(preset, kind, _expand(registry, kind, names.get(kind, ()))) for kind in PARTS}
    usual = [Choice(part.name, part.options) for part in preset.metrics]
    chosen["metric"] = pick_metrics(usual, names.get("metric", ()))
    for kind in get_args(Kind):
        chosen[kind] = with_settings(registry, kind, chosen[kind], settings.get(kind, {}))
    fields = {"fidelity": preset.fidelity, "seeds": preset.seeds}
    return Selection(
        encoders=tuple(chosen["encoder"]),
        groupers=tuple(chosen["grouper"]),
        labelers=tuple(chosen["labeler"]),
        datasets=tuple(chosen["dataset"]),
        metrics=tuple(chosen["metric"]),
        naming={**preset.naming, **settings.get("naming", {})},
        **(fields | {key: value for key, value in others.items() if value is not None}),
    )


def pick_metrics(usual: Sequence[Choice], names: Sequence[str]) -> list[Choice]:
    """The metrics that names stand for.

    Args:
        usual: what is computed, and how, if there are no names.
        names: of metrics: these alone, as they are in ``usual``; ``+NAME`` is added to the others, and where
            all names are such, to ``usual``.
    """
    added = [name[1:] for name in names if name.startswith("+")]
    alone = [name for name in names if not name.startswith("+")]
    wanted = [*(alone or [choice.name for choice in usual]), *added]
    known = {choice.name for choice in usual}
    return [
        *(choice for choice in usual if choice.name in wanted),
        *(Choice(name) for name in dict.fromkeys(wanted) if name not in known),
    ]


def _expand(registry: Registry, kind: Kind, names: Sequence[str]) -> Sequence[str]:
    """The names; for ``all`` those of every installed component of the kind."""
    if ALL not in names or kind == "dataset":
        return names
    if len(names) > 1:
        raise SettingError(f"--{kind}: '{ALL}' stands for every {kind}. Give it alone, or give names.")
    return registry.names(kind)


def _choose(preset: Preset, kind: Kind, names: Sequence[str]) -> list[Choice]:
    names = names or (getattr(preset, kind).name,)
    twice = {name for name in names if list(names).count(name) > 1}
    if twice:
        raise SettingError(f"--{kind} names {', '.join(sorted(twice))} more than once")
    return [Choice(name, preset.options_for(kind, name)) for name in names]


def with_settings(
    registry: Registry, kind: Kind, choices: Sequence[Choice], values: Mapping[str, Any]
) -> list[Choice]:
    """Add values to the choices that have the settings.

    Args:
        registry: knows the settings.
        kind: of the choices.
        choices: components with the settings chosen before.
        values: by setting, for every choice that has it; by ``NAME.SETTING`` for one of them, which counts
            before what is for all.

    Raises:
        UnknownNameError: if a component isn't installed.
        SettingError: if none of them has a setting, or one is for a component that isn't chosen.
    """
    known = {each.name: [item.name for item in registry.settings(kind, each.name)] for each in choices}
    changed = [dict(each.options) for each in choices]
    for key in sorted(values, key=lambda each: "." in each):  # stable: what is for one component comes last
        name, _, setting = key.rpartition(".")
        option, names = f"-o {kind}{':' if name else '.'}{key}", [name] if name else list(known)
        if name and name not in known:
            raise SettingError(
                f"{option}: this run has no {kind} '{name}'.{nearest(name, known)} It has: {', '.join(known)}"
            )
        takers = [each for each in names if setting in known[each]]
        if not takers:
            every = sorted(set().union(*(known[each] for each in names)))
            who = f"{kind} '{name}' has no" if name else f"no {kind} of this run has a"
            raise SettingError(
                f"{option}: {who} setting '{setting}'.{nearest(setting, every)} "
                f"Settings: {', '.join(every) or 'none'}. See: ovvol-bench show {kind} {name or 'NAME'}"
            )
        for choice, options in zip(choices, changed, strict=True):
            if choice.name in takers:
                options[setting] = values[key]
    return [Choice(choice.name, options) for choice, options in zip(choices, changed, strict=True)]


def _check_seeds(seeds: tuple[int, ...], consensus: tuple[int, int] | None) -> None:
    if len(set(seeds)) != len(seeds):
        raise SettingError(f"--seeds names a seed twice: {', '.join(map(str, seeds))}")
    if consensus is None:
        return
    low, high = consensus
    if not 2 <= low <= high:
        raise SettingError(f"--consensus must be LOW..HIGH with 2 <= LOW <= HIGH, got {low}..{high}")
    if len(seeds) < 2:
        raise SettingError("--consensus merges several seeds; give them, as in --seeds 0,1,2")
