"""Networks of a run, built on a device; what can't be built is kept with its reason."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from ovvol_bench.components import AnyLabeler, Component, Encoder, Grouper
from ovvol_bench.errors import ContractError, MissingSettingError, SettingError, WeightsError, calling
from ovvol_bench.naming.prompts import Prompts, TextBank
from ovvol_bench.pipeline import check_frames, embed_prompts
from ovvol_bench.registry import Filled, FromDataset, FromEncoder, Registry
from ovvol_bench.runs.benchmark import check_kind, fit, part_spec
from ovvol_bench.runs.learned import Learned, learned_by
from ovvol_bench.runs.selection import Choice
from ovvol_bench.runs.spec import PartSpec
from ovvol_bench.weights import noting_files

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
        """The component.

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


def prepare(part: Part[Built], precision: torch.dtype | None) -> Part[Built]:
    """Make a part ready for quick answers in a precision, or keep the error.

    Nothing is done for None and for float32.
    """
    built = part.built.labeler if isinstance(part.built, LabelerWithText) else part.built
    if precision in (None, torch.float32) or not isinstance(built, Component):
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
    """The file, or the one of the same name that training writes."""
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
