"""Plan of a training: a preset, changed by what was typed, built and given an identity."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from ovvol_bench.components import Component, Encoder
from ovvol_bench.data.base import Dataset
from ovvol_bench.errors import CheckpointError, ContractError, DataError, SettingError
from ovvol_bench.fidelity import best_precision
from ovvol_bench.files import canonical_digest, read_json_object, write_text
from ovvol_bench.registry import ClipLength, FoundRecipe, Located, Registry, Weights
from ovvol_bench.results.machine import core_version
from ovvol_bench.runs.build import build_dataset, part_spec
from ovvol_bench.runs.learned import Learned, learned_by
from ovvol_bench.runs.plan import build_encoder, check_pair, fit_to_encoder, pick_device, weights_digest
from ovvol_bench.runs.selection import Choice, Part, Preset, TrainingPreset, with_settings
from ovvol_bench.runs.spec import PartSpec
from ovvol_bench.training.recipe import Recipe, TrainingTask
from ovvol_bench.weights import noting_files

_LOG = logging.getLogger(__name__)

TrainedKind = Literal["encoder", "grouper", "labeler"]
Settings = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class TrainingSpec:
    """Identity of a training: everything that its weights depend on.

    Attributes:
        kind: of the component.
        component: trained; ``digest`` is of the weights that it starts from.
        encoder: frozen, for groupers.
        dataset: learned from; ``digest`` is its fingerprint.
        recipe: by name.
        options: every setting of the recipe, resolved.
        seed: of all draws.
        precision: of the arithmetic.
        core: version of ovvol-bench.
    """

    kind: str
    component: PartSpec
    encoder: PartSpec | None
    dataset: PartSpec
    recipe: str
    options: Mapping[str, Any]
    seed: int
    precision: str
    core: str

    @property
    def identity(self) -> dict[str, Any]:
        """All that counts; where files lie does not, their digests do.

        Code counts by versions alone: a training goes on after a mistake in it has been mended.
        """
        fields: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        for role in ("component", "dataset", "encoder"):
            part: PartSpec | None = getattr(self, role)
            fields[role] = part and replace(part, code="").identity
        return fields

    @property
    def id(self) -> str:
        """First 16 hex digits of the hash of the identity."""
        return canonical_digest(self.identity)[:16]


@dataclass(frozen=True)
class TrainingRequest:
    """Training as it was asked for.

    Attributes:
        kind: of the component.
        name: of the component.
        recipe: by name; None for the component's usual one.
        preset: where everything else comes from.
        settings: values by kind of component, ``recipe``, ``dataset`` or ``validation``, and setting.
        encoder: by name, in place of the preset's.
        dataset: see encoder.
        validation: see encoder.
        seed: of all draws.
        precision: of the arithmetic; ``auto``: the preset's for the recipe, or the hardware's best.
        device: ``auto``, ``cpu`` or ``cuda``.
        cache: folder for what is worth keeping.
        workers: see `TrainingTask`.
    """

    kind: TrainedKind
    name: str
    recipe: str | None
    preset: Preset
    settings: Settings
    encoder: str | None
    dataset: str | None
    validation: str | None
    seed: int
    precision: str
    device: str
    cache: Path
    workers: int = 0


@dataclass(frozen=True)
class TrainingPlan:
    """A training that is ready to begin.

    Attributes:
        spec: what it is.
        recipe: built.
        component: that the recipe trains.
        learned: what the weights will have learned from, those that they start from included.
    """

    spec: TrainingSpec
    recipe: Recipe
    component: Component
    learned: tuple[Learned, ...] = ()

    def claim(self, folder: Path) -> None:
        """Take a folder for this training, or find that it is the same training's.

        Raises:
            CheckpointError: if another training lies there.
        """
        file = folder / "training.json"
        if not file.exists():
            write_text(file, json.dumps(self.spec.identity, indent=2) + "\n")
            return
        try:
            before = read_json_object(file)
        except DataError as error:
            raise CheckpointError(
                f"{error} {file.name} says what is trained here. Delete it if it is the training of this "
                "command, or choose another --output."
            ) from error
        if differing := _differences(before, self.spec.identity):
            raise CheckpointError(
                f"{folder} holds another training: {'; '.join(differing)}. Choose another --output, or "
                "give the settings of then to go on with it."
            )


def make_plan(registry: Registry, request: TrainingRequest) -> TrainingPlan:
    """Build what was asked for.

    Raises:
        UnknownNameError, SettingError: if a name or setting is wrong, or the preset doesn't train this.
        DataError: if the data can't be read.
        WeightsError: if weights can't be loaded.
    """
    found = registry.recipe(request.kind, request.name, request.recipe)
    preset = _training_preset(registry, request, found)
    check_data(registry, request, preset.dataset)
    dataset_spec, dataset = _dataset(registry, request, "dataset", preset.dataset)
    encoder_spec, encoder = _encoder(registry, request, dataset_spec)
    choice = _component_choice(registry, request, preset, encoder, dataset_spec)
    spec = part_spec(registry, request.kind, choice)
    with _seeded(request.seed), noting_files() as files:
        component: Component = registry.build(request.kind, choice.name, spec.options)
    if encoder is not None and encoder_spec is not None:
        check_pair(registry, (encoder_spec.name, encoder), choice, component)  # type: ignore[arg-type]
    validation = None
    if preset.validation is not None:
        _, validation = _dataset(registry, request, "validation", preset.validation)
    options = {**preset.recipe, **request.settings.get("recipe", {})}
    task = TrainingTask(
        component, dataset, validation, encoder, request.cache, request.seed, request.workers,
        _frames(registry, dataset_spec),
    )  # fmt: skip
    trained = replace(spec, digest=weights_digest(component))  # before a recipe changes it
    with _seeded(request.seed):
        recipe = found.build(task, options)
    if not isinstance(recipe, Recipe):
        raise ContractError(f"recipe '{found.name}' gave a {type(recipe).__name__}; expected a Recipe.")
    precision = request.precision
    if precision == "auto":
        best = best_precision(pick_device(request.device))
        precision = preset.precision or str(best).removeprefix("torch.")
    made = TrainingSpec(
        request.kind, trained, encoder_spec, dataset_spec, found.name, found.json_values(options),
        request.seed, precision, core_version(),
    )  # fmt: skip
    learned = (Learned.of(dataset_spec, dataset), *learned_by(files))
    return TrainingPlan(made, recipe, component, learned)


def _training_preset(registry: Registry, request: TrainingRequest, found: FoundRecipe) -> TrainingPreset:
    """Read the preset's part for a recipe; a typed dataset is taken as it is meant to be learned from."""
    known = request.preset.training
    preset = known.get(found.name)
    if preset is None and request.dataset is None:
        raise SettingError(
            f"the preset says nothing about recipe '{found.name}', only about {', '.join(known) or 'none'}."
            " Name what to learn from with --dataset, and set the rest with -o."
        )
    changed: dict[str, Part] = {}
    if request.dataset and (preset is None or request.dataset != preset.dataset.name):
        declared = registry.find("dataset", request.dataset).entry.training
        options = {name: value for name, value in declared.items() if value is not None}
        changed["dataset"] = Part(name=request.dataset, options=options)
    preset = preset or TrainingPreset(dataset=changed["dataset"])
    if request.validation and (preset.validation is None or request.validation != preset.validation.name):
        changed["validation"] = Part(name=request.validation)
    return preset.model_copy(update=changed)


def check_data(registry: Registry, request: TrainingRequest, part: Part) -> None:
    """Refuse to learn from what the preset scores, unless it was typed; then say that results will be marked.

    Raises:
        SettingError: if the data is the preset's own and nothing of it was typed.
    """
    scored = request.preset.dataset
    if part.name != scored.name:
        return
    settings = registry.settings("dataset", part.name)
    defaults = {each.name: each.default for each in settings}
    declared = registry.find("dataset", part.name).entry.training
    # A path that the preset leaves to users says nothing about what it scores.
    open_to_users = {each.name for each in settings if each.required} - scored.options.keys()
    telling = [name for name in declared if name not in open_to_users] if declared else list(defaults)
    typed = request.settings.get("dataset", {})
    own, other = {**defaults, **part.options, **typed}, {**defaults, **scored.options}
    places = {each.name for each in settings if isinstance(each.role, Located)}
    if not telling or any(
        _comparable(own[name], name in places) != _comparable(other[name], name in places) for name in telling
    ):
        return
    what = ", ".join(f"{name}={own[name]}" for name in telling) or "without settings"
    if not any(name in typed for name in telling):
        raise SettingError(
            f"dataset '{part.name}' with {what} is what the preset scores: weights that learn from it can't "
            f"be measured on it. Set what to learn from with -o dataset.SETTING=VALUE."
        )
    _LOG.warning(
        "dataset '%s' with %s is what the preset scores: results of these weights on it will be marked.",
        *(part.name, what),
    )


def _comparable(value: object, is_place: bool) -> str:
    """A setting's value as text; a place as its path from the root, links followed."""
    return os.path.realpath(str(value)) if is_place and value is not None else str(value)


def _dataset(registry: Registry, request: TrainingRequest, role: str, part: Part) -> tuple[PartSpec, Dataset]:
    """A dataset in its role, ``dataset`` or ``validation``, with what was set for that role."""
    chosen = Choice(part.name, part.options)
    (choice,) = with_settings(registry, "dataset", [chosen], request.settings.get(role, {}))
    return build_dataset(registry, choice)


def _encoder(
    registry: Registry, request: TrainingRequest, dataset: PartSpec
) -> tuple[PartSpec | None, Encoder | None]:
    """The frozen encoder that a grouper learns on."""
    if request.kind != "grouper":
        return None, None
    name = request.encoder or request.preset.encoder.name
    chosen = Choice(name, request.preset.options_for("encoder", name))
    (choice,) = with_settings(registry, "encoder", [chosen], request.settings.get("encoder", {}))
    part = build_encoder(registry, choice, _frames(registry, dataset), local_device(request.device))
    return part.spec, part.value


def _component_choice(
    registry: Registry,
    request: TrainingRequest,
    preset: TrainingPreset,
    encoder: Encoder | None,
    dataset: PartSpec,
) -> Choice:
    """The component as trained: without weights unless some were typed, fitted to a frozen encoder."""
    options = request.preset.options_for(request.kind, request.name)
    own = [each.name for each in registry.settings(request.kind, request.name) if each.role == Weights()]
    options = {key: value for key, value in options.items() if key not in own} | preset.component
    chosen = Choice(request.name, options)
    (choice,) = with_settings(registry, request.kind, [chosen], request.settings.get(request.kind, {}))
    if encoder is None:
        return choice
    return fit_to_encoder(registry, choice, encoder, _frames(registry, dataset))


def _frames(registry: Registry, dataset: PartSpec) -> int:
    """Frames of the dataset's clips, 8 where no setting says so."""
    settings = registry.settings("dataset", dataset.name)
    said = [dataset.options[each.name] for each in settings if each.role == ClipLength()]
    return int(said[0]) if said else 8


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """First weights follow from the seed, and other draws of the process stay as they are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def local_device(asked: str) -> torch.device:
    """The device of this process, one GPU each where a launcher started several."""
    device = pick_device(asked)
    if device.type == "cuda":
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return device


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """List the differences of two identities, innermost fields first."""
    found = []
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += [f"{key}.{text}" for text in _differences(old, new)]
        elif old != new:
            found.append(f"{key} was {old!r:.60} and is {new!r:.60}")
    return found
