"""Plan of a matrix: networks built on a device, and the specs of all combinations of them.

A network that can't be built is kept with its reason; impossible pairs are refused here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from ovvol_bench.components import AnyLabeler, Component, Encoder, Grouper
from ovvol_bench.data.base import Dataset
from ovvol_bench.errors import (
    ContractError,
    DataError,
    MissingSettingError,
    SettingError,
    WeightsError,
    calling,
)
from ovvol_bench.fidelity import dtype_of
from ovvol_bench.files import canonical_digest
from ovvol_bench.naming.prompts import Prompts, TextBank, build_prompts
from ovvol_bench.naming.settings import NamingSettings, naming_settings
from ovvol_bench.pipeline import check_frames, embed_prompts
from ovvol_bench.registry import Filled, FromDataset, FromEncoder, Registry
from ovvol_bench.registry.code import core_code
from ovvol_bench.results.machine import core_version
from ovvol_bench.runs.build import build_dataset, build_metrics, check_kind, clip_infos, fit, part_spec
from ovvol_bench.runs.learned import Learned, learned_by, video_hash, videos_seen
from ovvol_bench.runs.selection import Choice, Selection
from ovvol_bench.runs.spec import PartSpec, RunSpec
from ovvol_bench.runs.store import Truth
from ovvol_bench.types import ClipInfo
from ovvol_bench.weights import noting_files

Key = TypeVar("Key")


@dataclass(frozen=True)
class Plan:
    """Matrix on one dataset, ready to run.

    Attributes:
        selection: what was asked for.
        dataset_spec: of the dataset.
        dataset: the clips.
        infos: of the clips asked for, in the dataset's order.
        encoders: by name.
        groupers: by names of encoder and grouper, as some settings follow from the encoder.
        labelers: by name.
        metrics: specs of the metrics, in order.
        naming: settings of naming.
        device: where the components are.
        precision: of the components' arithmetic.
    """

    selection: Selection
    dataset_spec: PartSpec
    dataset: Dataset
    infos: tuple[ClipInfo, ...]
    encoders: Mapping[str, Part[Encoder]]
    groupers: Mapping[tuple[str, str], Part[Grouper]]
    labelers: Mapping[str, Part[LabelerWithText]]
    metrics: tuple[PartSpec, ...]
    naming: NamingSettings
    device: torch.device
    precision: torch.dtype

    @property
    def gpu(self) -> str | None:
        """Name of the GPU in use, or None."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else None

    @cached_property
    def truth(self) -> Truth:
        """Count of what every run is asked for."""
        return Truth.of(self.infos, self.dataset.vocabulary.name)

    @cached_property
    def combinations(self) -> tuple[tuple[RunSpec, Exception | None], ...]:
        """Spec of every run, with the reason if it can't run."""
        return tuple(
            (self._spec(parts, seeds), self._refusal(parts))
            for parts in self._parts()
            for seeds in self._seeds()
        )

    def _parts(self) -> Iterator[tuple[Part[Any], Part[Any], Part[Any]]]:
        for (encoder, grouper), labeler in product(self.groupers, self.labelers):
            yield self.encoders[encoder], self.groupers[encoder, grouper], self.labelers[labeler]

    def _refusal(self, parts: tuple[Part[Any], ...]) -> Exception | None:
        """Return the reason why parts can't run together on this dataset, or None."""
        error = next((part.error for part in parts if part.error), None)
        oracle = next((part.spec.name for part in parts if part.spec.oracle), None)
        if error or oracle is None or all(info.truth is not None for info in self.infos):
            return error
        return SettingError(
            f"'{oracle}' is an oracle: it answers with the truth, and dataset '{self.dataset_spec.name}' has"
            " clips without. Choose another component or dataset."
        )

    def _seeds(self) -> tuple[tuple[int, ...], ...]:
        """Return the seeds of every run: all in one with a consensus, else one each."""
        seeds = self.selection.seeds
        return (seeds,) if self.selection.consensus else tuple((seed,) for seed in seeds)

    def _spec(self, parts: tuple[Part[Any], Part[Any], Part[Any]], seeds: tuple[int, ...]) -> RunSpec:
        encoder, grouper, labeler = parts
        return RunSpec(
            encoder=encoder.spec,
            grouper=grouper.spec,
            labeler=labeler.spec,
            dataset=self.dataset_spec,
            vocabulary=canonical_digest(asdict(self.dataset.vocabulary)),
            naming=json.loads(json.dumps(asdict(self.naming.as_used()))),
            metrics=self.metrics,
            seeds=seeds,
            consensus=self.selection.consensus,
            precision=str(self.precision).removeprefix("torch."),
            fidelity=self.selection.fidelity,
            limit=self.selection.limit,
            core=core_version(),
            core_code=core_code(),
        )


def make_plan(selection: Selection, dataset: Choice, registry: Registry, device: torch.device) -> Plan:
    """Build every part once and pair them; see ``plan_on``.

    Args:
        selection: the matrix.
        dataset: one of the selection's.
        registry: builds the components.
        device: where they go.

    Raises:
        UnknownNameError, SettingError: if a name or setting is wrong.
        DataError: if the dataset can't be read or has no clips.
    """
    _checked_naming(selection)  # before a dataset is read, which may take minutes
    return plan_on(selection, build_dataset(registry, dataset), registry, device)


def plan_on(
    selection: Selection, opened: tuple[PartSpec, Dataset], registry: Registry, device: torch.device
) -> Plan:
    """Build every part once and pair them, for a dataset that is open already.

    A part that can't be built refuses the combinations that use it, and only those.

    Args:
        selection: the matrix; its datasets don't count.
        opened: what the dataset is, and itself.
        registry: builds the components.
        device: where they go.

    Raises:
        UnknownNameError, SettingError: if a name or setting is wrong.
        DataError: if the dataset has no clips.
    """
    naming = _checked_naming(selection)
    spec, clips = opened
    _, metrics = build_metrics(registry, selection.metrics, clips.vocabulary)
    infos = clip_infos(clips, selection.limit)
    if not infos:
        raise DataError(f"dataset '{spec.name}' has no clips with these settings: {dict(spec.options)}")
    frames = len(infos[0].frame_indices)
    precision = dtype_of(selection.fidelity, selection.precision, device)
    encoders = {
        choice.name: prepare(build_encoder(registry, choice, frames, device), precision)
        for choice in selection.encoders
    }
    groupers = {
        (name, choice.name): prepare(build_grouper(registry, choice, encoder, frames, device), precision)
        for name, encoder in encoders.items()
        for choice in selection.groupers
    }
    prompts = build_prompts(clips.vocabulary, naming)
    labelers = {
        choice.name: prepare(build_labeler(registry, choice, prompts, device), precision)
        for choice in selection.labelers
    }
    videos = {video_hash(spec.name, info.video) for info in infos}
    networks = (_with_seen(encoders, videos), _with_seen(groupers, videos), _with_seen(labelers, videos))
    return Plan(selection, spec, clips, infos, *networks, metrics, naming, device, precision)


def _checked_naming(selection: Selection) -> NamingSettings:
    naming = naming_settings(selection.naming)
    if selection.consensus and naming.merge == "overlap":
        raise SettingError(
            "naming.merge=overlap looks at soft masks, and a consensus of several seeds has none."
            " Choose another merging, or drop --consensus."
        )
    return naming


def _with_seen(parts: Mapping[Key, Part[Built]], videos: Set[str]) -> dict[Key, Part[Built]]:
    """Parts that know how many of the run's videos their weights learned from."""
    return {
        key: replace(part, spec=replace(part.spec, seen=videos_seen(part.learned, videos)))
        for key, part in parts.items()
    }


Built = TypeVar("Built")


@dataclass(frozen=True)
class Part(Generic[Built]):
    """Component of a plan: built, or failed with the reason; ``value`` raises that reason.

    Attributes:
        learned: what the weights that were loaded say they learned from.
    """

    spec: PartSpec
    built: Built | None
    error: Exception | None = None
    learned: tuple[Learned, ...] = ()

    @property
    def value(self) -> Built:
        """Component as built.

        Raises:
            Exception: what building it raised.
        """
        if self.built is None:
            raise self.error or RuntimeError(f"{self.spec.name} was not built")
        return self.built


@dataclass(frozen=True)
class LabelerWithText:
    """Labeler with its embeddings of the dataset's prompts."""

    labeler: AnyLabeler
    text: TextBank


def _spec_of(registry: Registry, kind: str, choice: Choice) -> tuple[PartSpec, Exception | None]:
    """Return a network's spec, and the error if a required setting is not given."""
    try:
        return part_spec(registry, kind, choice), None
    except MissingSettingError as error:
        found = registry.find(kind, choice.name)
        return PartSpec(choice.name, choice.options, found.origin, found.version), error


def _build(
    registry: Registry, kind: str, choice: Choice, device: torch.device, check: Callable[[Any], None]
) -> Part[Any]:
    """Build a network, or keep the error. Weights that nothing sets are drawn from a fixed seed."""
    spec, missing = _spec_of(registry, kind, choice)
    if missing:
        return Part(spec, None, missing)
    try:
        with torch.random.fork_rng(devices=[]), noting_files() as files:
            torch.manual_seed(0)
            component: Component = registry.build(kind, choice.name, spec.options)
        check_component(component, kind, choice.name)
        digest, learned = weights_digest(component), learned_by(files)
        component = component.to(device).eval().requires_grad_(False)
        check(component)
    except Exception as error:
        return Part(spec, None, error)
    return Part(replace(spec, digest=digest, oracle=component.needs_truth), component, learned=learned)


BASES = {"encoder": Encoder, "grouper": Grouper, "labeler": AnyLabeler}


def check_component(component: object, kind: str, name: str) -> None:
    """Refuse what a factory built if it is no component of its kind, or declares sizes that are none.

    Raises:
        ContractError: says what it is and what was expected.
    """
    check_kind(component, BASES[kind], f"{kind} '{name}'")
    if not hasattr(component, "_parameters"):
        raise ContractError(f"{kind} '{name}': call super().__init__() first in its __init__.")
    sizes = {"encoder": ("patch_size", "tubelet_size", "dim"), "labeler": ("patch_size", "dim")}
    for size in sizes.get(kind, ()):
        value = getattr(component, size, None)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            hint = " Patches are square." if size == "patch_size" else ""
            raise ContractError(
                f"{kind} '{name}': {size} is {value!r}; expected a whole number, at least 1.{hint}"
            )
    for statistics in ("mean", "std") if kind in sizes else ():
        value = getattr(component, statistics, None)
        if not isinstance(value, Sequence) or len(value) != 3:
            raise ContractError(f"{kind} '{name}': {statistics} is {value!r}; expected three numbers, R G B.")


def prepare(part: Part[Built], precision: torch.dtype) -> Part[Built]:
    """Make a part ready for quick answers in a precision, or keep the error.

    Nothing is done for float32, in which ``reference`` computes.
    """
    built = part.built.labeler if isinstance(part.built, LabelerWithText) else part.built
    if precision == torch.float32 or not isinstance(built, Component):
        return part
    try:
        with torch.no_grad(), calling(f"prepare() of '{part.spec.name}'"):
            built.prepare(precision)
    except Exception as error:
        return Part(part.spec, None, error)
    return part


def build_encoder(registry: Registry, choice: Choice, frames: int, device: torch.device) -> Part[Encoder]:
    """Build an encoder, checked to take clips of so many frames."""

    def check(encoder: Encoder) -> None:
        check_frames(encoder, frames, f"encoder '{choice.name}'")

    return _build(registry, "encoder", choice, device, check)


def build_grouper(
    registry: Registry, choice: Choice, encoder: Part[Encoder], frames: int, device: torch.device
) -> Part[Grouper]:
    """Build a grouper, fitted to the encoder whose features it will get.

    Settings that follow from the encoder (`FromEncoder`) are filled in unless chosen.
    """
    if encoder.built is None:
        return Part(_spec_of(registry, "grouper", choice)[0], None, encoder.error)
    fitted = fit_to_encoder(registry, choice, encoder.built, frames)

    def check(grouper: Grouper) -> None:
        check_pair(registry, (encoder.spec.name, encoder.value), fitted, grouper)

    return _build(registry, "grouper", fitted, device, check)


def fit_to_encoder(registry: Registry, choice: Choice, encoder: Encoder, frames: int) -> Choice:
    """Fill in what follows for a grouper from an encoder and clips of so many frames."""
    follows: dict[Filled, Any] = {
        FromEncoder("dim"): encoder.dim,
        FromEncoder("steps"): frames // encoder.tubelet_size,
    }
    return fit(registry, "grouper", choice, follows)


def check_pair(registry: Registry, named: tuple[str, Encoder], choice: Choice, grouper: Grouper) -> None:
    """Refuse a grouper that can't work on an encoder's features.

    Args:
        registry: knows the grouper's settings.
        named: the encoder that gives features, and its name.
        choice: of the grouper, with its settings.
        grouper: takes them.

    Raises:
        SettingError: if maps are missing, or the grouper is set to another number of channels.
    """
    name, encoder = named
    missing = sorted(grouper.needs - encoder.maps)
    if missing:
        raise SettingError(
            f"grouper '{choice.name}' needs {', '.join(missing)} from the encoder; '{name}' gives "
            f"{', '.join(sorted(encoder.maps)) or 'features only'}. Choose another encoder or grouper."
        )
    for setting in registry.settings("grouper", choice.name):
        if setting.role != FromEncoder("dim"):
            continue
        wanted = int(choice.options.get(setting.name, encoder.dim))
        if wanted != encoder.dim:
            raise SettingError(
                f"grouper '{choice.name}' is set to features of {wanted} channels, encoder '{name}' gives "
                f"{encoder.dim}. Set -o grouper.{setting.name}={encoder.dim}, with weights made for it."
            )


def build_labeler(
    registry: Registry, choice: Choice, prompts: Prompts, device: torch.device
) -> Part[LabelerWithText]:
    """Build a labeler and its embeddings of the prompts.

    Settings that follow from the dataset (`FromDataset`) are filled in unless chosen.
    """
    follows: dict[Filled, Any] = {
        FromDataset("num_classes"): prompts.num_classes,
        FromDataset("class_names"): tuple(prompts.class_names[1 : prompts.num_classes + 1]),
    }
    choice = fit(registry, "labeler", choice, follows)
    part: Part[AnyLabeler] = _build(registry, "labeler", choice, device, lambda labeler: None)
    if part.built is None:
        return Part(part.spec, None, part.error)
    try:
        with torch.inference_mode():
            rows = embed_prompts(part.built, prompts, f"labeler '{choice.name}'").float().cpu().numpy()
        text = LabelerWithText(part.built, TextBank.of(prompts, rows))
        return Part(part.spec, text, learned=part.learned)
    except Exception as error:
        return Part(part.spec, None, error)


OFFICIAL_FILES = {
    "videomae.pth": ("encoder", "weights"),
    "grouping.pth": ("grouper", "weights"),
    "pacl.pth": ("labeler", "weights"),
    "clip.pt": ("labeler", "pretrained"),
}
"""File names that ``--weights-from`` looks for, and the setting that each goes to."""


def weights_digest(module: nn.Module) -> str | None:
    """Hash parameters and persistent buffers: names, types, shapes and bytes.

    It is of what was loaded, not of the file, so that the same weights in another layout count as
    the same, and weights that a library fetched by name count at all.

    Returns:
        SHA-256, 64 hex digits; None for a module without any.
    """
    state = module.state_dict()
    if not state:
        return None
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def weights_from(folder: Path) -> dict[str, dict[str, str]]:
    """Find the official checkpoints in a folder, as settings.

    Args:
        folder: with the files of ``OFFICIAL_FILES``, or the same names ending in .safetensors.

    Returns:
        {kind: {setting: path}}, as ``-o`` would give them.

    Raises:
        WeightsError: listing what is missing.
    """
    found = {name: _existing(folder / name) for name in OFFICIAL_FILES}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise WeightsError(
            f"--weights-from {folder}: missing {', '.join(missing)}. Expected files: "
            f"{', '.join(OFFICIAL_FILES)}; rename or link them so, or give each file with "
            "-o encoder.weights=FILE, -o grouper.weights=FILE, -o labeler.weights=FILE."
        )
    settings: dict[str, dict[str, str]] = {}
    for name, (kind, setting) in OFFICIAL_FILES.items():
        settings.setdefault(kind, {})[setting] = str(found[name])
    return settings


def _existing(path: Path) -> Path | None:
    """Return the file, or the one of the same name that training writes."""
    return next((each for each in (path, path.with_suffix(".safetensors")) if each.is_file()), None)


def pick_device(asked: str) -> torch.device:
    """Return the device that a name means.

    Args:
        asked: ``cpu``, ``cuda`` or ``auto``, which is CUDA where there is a device.

    Raises:
        SettingError: if CUDA is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if asked == "cuda" and not available:
        raise SettingError("--device cuda: PyTorch finds no CUDA device. Use --device cpu or auto.")
    return torch.device("cuda" if available and asked != "cpu" else "cpu")
