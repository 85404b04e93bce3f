"""Networks of a run, built from the registry; what can't be built is kept with its reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import torch

from ovvol_bench.components import AnyLabeler, Component, Encoder, Grouper
from ovvol_bench.errors import ContractError, MissingSettingError, SettingError, calling
from ovvol_bench.naming.prompts import Prompts, TextBank
from ovvol_bench.pipeline import check_frames, embed_prompts
from ovvol_bench.registry import Filled, FromDataset, FromEncoder, Registry
from ovvol_bench.runs.benchmark import check_kind, fit, part_spec
from ovvol_bench.runs.learned import Learned, learned_by
from ovvol_bench.runs.selection import Choice
from ovvol_bench.runs.spec import PartSpec
from ovvol_bench.runs.weights import weights_digest
from ovvol_bench.weights import noting_files

Built = TypeVar("Built")


@dataclass(frozen=True)
class Part(Generic[Built]):
    """A component of a plan: built, or failed with the reason; ``value`` raises that reason.

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
    """A labeler and what it makes of the dataset's prompts."""

    labeler: AnyLabeler
    text: TextBank


def _spec_of(registry: Registry, kind: str, choice: Choice) -> tuple[PartSpec, Exception | None]:
    """A network's spec, and why it can't be built if a setting that it must have is not given."""
    try:
        return part_spec(registry, kind, choice), None
    except MissingSettingError as error:
        found = registry.find(kind, choice.name)
        return PartSpec(choice.name, choice.options, found.origin, found.version), error


def _build(
    registry: Registry, kind: str, choice: Choice, device: torch.device, check: Callable[[Any], None]
) -> Part[Any]:
    """Build a network, keep what goes wrong. Weights that nothing sets are drawn from a fixed seed."""
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
    """A part made ready for quick answers in a precision, or the reason why it can't be.

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
    """An encoder on the device, checked to take clips of so many frames."""

    def check(encoder: Encoder) -> None:
        check_frames(encoder, frames, f"encoder '{choice.name}'")

    return _build(registry, "encoder", choice, device, check)


def build_grouper(
    registry: Registry, choice: Choice, encoder: Part[Encoder], frames: int, device: torch.device
) -> Part[Grouper]:
    """A grouper on the device, fitted to the encoder whose features it will get.

    Settings that follow from the encoder (`FromEncoder`) are filled in unless chosen.
    """
    if encoder.built is None:
        return Part(_spec_of(registry, "grouper", choice)[0], None, encoder.error)
    fitted = fit_to_encoder(registry, choice, encoder.built, frames)

    def check(grouper: Grouper) -> None:
        check_pair(registry, (encoder.spec.name, encoder.value), fitted, grouper)

    return _build(registry, "grouper", fitted, device, check)


def fit_to_encoder(registry: Registry, choice: Choice, encoder: Encoder, frames: int) -> Choice:
    """A grouper's choice with what follows from an encoder and clips of so many frames."""
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
    """A labeler on the device, and its embeddings of the prompts.

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
