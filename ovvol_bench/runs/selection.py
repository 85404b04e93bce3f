"""Selection of a run: a preset or a matrix file, changed by what was typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ovvol_bench.errors import DataError, SettingError, UnknownNameError, nearest
from ovvol_bench.fidelity import DEFAULT, Fidelity, Precision, check_precision
from ovvol_bench.files import read_yaml
from ovvol_bench.registry import Registry

Document = TypeVar("Document", bound=BaseModel)
Kind = Literal["encoder", "grouper", "labeler", "dataset", "metric"]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0, strict=True)], ...], Field(min_length=1)]
"""Strict, as true would else be 1."""


ALL = "all"
"""In place of the names of encoders, groupers or labelers: every one that is installed."""


class Part(BaseModel):
    """A component by name, with the settings that differ from its factory's defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


class TrainingPreset(BaseModel):
    """Training of one component in a preset.

    Attributes:
        component: settings of the component in training, which replace those it is run with.
        recipe: settings that differ from the recipe's defaults.
        precision: of the arithmetic where none is typed; None: the hardware's best.
        dataset: what to learn from.
        validation: what to measure on, or None.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    component: dict[str, Any] = Field(default_factory=dict)
    recipe: dict[str, Any] = Field(default_factory=dict)
    precision: Literal["float32", "bfloat16", "float16"] | None = None
    dataset: Part
    validation: Part | None = None


class Preset(BaseModel):
    """Content of a preset file.

    Attributes:
        description: one line for ``--help`` and docs.
        encoder: video to features.
        grouper: features to slots.
        labeler: patches and text to embeddings.
        dataset: what to run on.
        naming: naming settings that differ from the defaults.
        metrics: what to score with, in the order of the table.
        fidelity: ``fast`` or ``reference``.
        seeds: one run each.
        alternatives: settings for other components than the above, by kind and name, for when they
            are chosen on the command line.
        training: by name of the recipe.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str = ""
    encoder: Part
    grouper: Part
    labeler: Part
    dataset: Part
    naming: dict[str, Any] = Field(default_factory=dict)
    metrics: tuple[Part, ...] = ()
    fidelity: Fidelity = DEFAULT
    seeds: Seeds = (0,)
    alternatives: dict[Kind, dict[str, dict[str, Any]]] = Field(default_factory=dict)
    training: dict[str, TrainingPreset] = Field(default_factory=dict)

    def options_for(self, kind: Kind, name: str) -> dict[str, Any]:
        """Return the preset's settings for a component; none for one it doesn't know."""
        own = self.metrics if kind == "metric" else (getattr(self, kind),)
        for part in own:
            if part.name == name:
                return dict(part.options)
        return dict(self.alternatives.get(kind, {}).get(name, {}))


PRESETS = resources.files("ovvol_bench.presets")
"""Folder of the presets that come with ovvol-bench."""


def preset_names() -> list[str]:
    """List the presets that come with ovvol-bench."""
    return sorted(Path(file.name).stem for file in PRESETS.iterdir() if file.name.endswith(".yaml"))


def load_preset(name: str, registry: Registry | None = None) -> Preset:
    """Read a preset.

    Args:
        name: of a preset that comes with ovvol-bench, or path of a YAML file.
        registry: whose entries' own settings under a preset of that name are its alternatives, unless it has
            some for the component itself.

    Raises:
        UnknownNameError: if there is no such preset or file.
        SettingError: if the file isn't YAML, lacks a field or has an unknown or wrong one.
    """
    path = Path(name)
    if path.suffix in {".yaml", ".yml"} or len(path.parts) > 1:
        if not path.is_file():
            raise UnknownNameError(f"preset file {path} does not exist")
        return parse_yaml(Preset, path)
    if name not in preset_names():
        raise UnknownNameError(
            f"unknown preset '{name}'.{nearest(name, preset_names())} Presets: {', '.join(preset_names())}; "
            "or the path of a .yaml file."
        )
    preset = parse_yaml(Preset, PRESETS / f"{name}.yaml")
    if registry is None:
        return preset
    alternatives = {kind: dict(preset.alternatives.get(kind, {})) for kind in PARTS}
    for kind in PARTS:
        for each in registry.names(kind):
            if own := registry.find(kind, each).entry.presets.get(name):
                alternatives[kind].setdefault(each, dict(own))
    return preset.model_copy(update={"alternatives": preset.alternatives | alternatives})


def parse_yaml(kind: type[Document], path: Path | Traversable) -> Document:
    """Read YAML as a model.

    Args:
        kind: the model.
        path: of the file.

    Raises:
        SettingError: if it isn't YAML, lacks a field or has an unknown or wrong one; names file and field.
    """
    try:
        data = read_yaml(path)
    except DataError as error:
        raise SettingError(str(error)) from error
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"]) or "the file"
        raise SettingError(f"{path}: {where}: {first['msg']} (found {first['input']!r:.80})") from error


def _plain_if_all(part: Part) -> Part:
    if part.name == ALL and part.options:
        raise ValueError(f"'{ALL}' takes no options; give them to components by name, or with -o")
    return part


# A bare name is a component without settings of its own, and one component a list of one.
NamedPart = Annotated[
    Part,
    BeforeValidator(lambda value: {"name": value} if isinstance(value, str) else value),
    AfterValidator(_plain_if_all),
]
Parts = Annotated[
    tuple[NamedPart, ...],
    BeforeValidator(lambda value: [value] if isinstance(value, str | Mapping) else value),
    Field(min_length=1),
]


class MatrixFile(BaseModel):
    """Content of a matrix file: the components that run with each other; the rest is the preset's.

    Attributes:
        encoder: names, or {name, options}; ``all`` stands for every one that is installed.
        grouper: as encoder.
        labeler: as encoder.
        dataset: as encoder, without ``all``.
        seeds: one run each.
        naming: settings, added to the preset's.
        metrics: what to score with, in the order of the table.
        fidelity: ``fast`` or ``reference``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: Parts | None = None
    grouper: Parts | None = None
    labeler: Parts | None = None
    dataset: Parts | None = None
    seeds: Seeds | None = None
    naming: dict[str, Any] = Field(default_factory=dict)
    metrics: Annotated[tuple[NamedPart, ...], Field(min_length=1)] | None = None
    fidelity: Fidelity | None = None

    def names(self) -> dict[Kind, list[str]]:
        """Return the names of the components of each kind that the file lists."""
        return {kind: [part.name for part in parts] for kind, parts in self._parts().items()}

    def over(self, preset: Preset) -> Preset:
        """Put the file's settings, seeds, metrics and fidelity over a preset's own.

        A component's options are added to those that the preset has for it.
        """
        alternatives = {kind: dict(known) for kind, known in preset.alternatives.items()}
        changed: dict[str, Any] = {"alternatives": alternatives, "naming": {**preset.naming, **self.naming}}
        for kind, parts in self._parts().items():
            for part in parts:
                options = {**preset.options_for(kind, part.name), **part.options}
                alternatives.setdefault(kind, {})[part.name] = options
                if part.name == getattr(preset, kind).name:
                    changed[kind] = Part(name=part.name, options=options)
        own = {"seeds": self.seeds, "metrics": self.metrics, "fidelity": self.fidelity}
        return preset.model_copy(update=changed | {name: value for name, value in own.items() if value})

    def _parts(self) -> dict[Kind, tuple[Part, ...]]:
        listed: dict[Kind, tuple[Part, ...] | None] = {
            "encoder": self.encoder,
            "grouper": self.grouper,
            "labeler": self.labeler,
            "dataset": self.dataset,
        }
        return {kind: parts for kind, parts in listed.items() if parts is not None}


def load_matrix(path: Path) -> MatrixFile:
    """Read a matrix file.

    Raises:
        SettingError: if it doesn't exist, isn't YAML, or has an unknown or wrong field; names file and field.
    """
    if not path.is_file():
        raise SettingError(
            f"--matrix {path}: no such file. Expected a YAML file with encoder, grouper, labeler."
        )
    return parse_yaml(MatrixFile, path)


PARTS: tuple[Kind, ...] = ("encoder", "grouper", "labeler", "dataset")


@dataclass(frozen=True)
class Choice:
    """Component by name, with the settings that were chosen for it; the factory has the others."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Selection:
    """Matrix of runs: every encoder with every grouper, labeler and seed, on every dataset.

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
    fidelity: Fidelity = DEFAULT
    precision: Precision = "auto"
    limit: int | None = None

    def __post_init__(self) -> None:
        _check_seeds(self.seeds, self.consensus)
        check_precision(self.fidelity, self.precision)
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
    """Pick the metrics that names stand for.

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
    """Replace ``all`` by the names of every installed component of the kind."""
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
