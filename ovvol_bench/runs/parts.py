"""Networks of a run, built from the registry; what can't be built is kept with its reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import torch

from ovvol_bench.components import AnyLabeler, Component, Encoder, Grouper
from ovvol_bench.errors import MissingSettingError, SettingError
from ovvol_bench.naming.prompts import Prompts, TextBank
from ovvol_bench.pipeline import check_frames, embed_prompts
from ovvol_bench.registry import Registry
from ovvol_bench.runs.benchmark import fit, part_spec
from ovvol_bench.runs.selection import Choice
from ovvol_bench.runs.spec import PartSpec
from ovvol_bench.runs.weights import weights_digest

Built = TypeVar("Built")


@dataclass(frozen=True)
class Part(Generic[Built]):
    """A component of a plan: built, or failed with the reason; ``value`` raises that reason."""

    spec: PartSpec
    built: Built | None
    error: Exception | None = None

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
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            component: Component = registry.build(kind, choice.name, spec.options)
        digest = weights_digest(component)
        component = component.to(device).eval().requires_grad_(False)
        check(component)
    except Exception as error:
        return Part(spec, None, error)
    return Part(replace(spec, digest=digest, oracle=component.needs_truth), component)


def prepare(part: Part[Built], precision: torch.dtype | None) -> Part[Built]:
    """A part made ready for quick answers in a precision, or the reason why it can't be.

    Nothing is done for None and for float32.
    """
    built = part.built.labeler if isinstance(part.built, LabelerWithText) else part.built
    if precision in (None, torch.float32) or not isinstance(built, Component):
        return part
    try:
        with torch.no_grad():
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

    Settings named ``feature_dim`` and ``frames`` follow from the encoder and the clips unless chosen.
    """
    if encoder.built is None:
        return Part(_spec_of(registry, "grouper", choice)[0], None, encoder.error)
    steps = frames // encoder.built.tubelet_size
    fitted = fit(registry, "grouper", choice, {"feature_dim": encoder.built.dim, "frames": steps})

    def check(grouper: Grouper) -> None:
        check_pair(encoder.spec.name, encoder.value, fitted, grouper)

    return _build(registry, "grouper", fitted, device, check)


def check_pair(name: str, encoder: Encoder, choice: Choice, grouper: Grouper) -> None:
    """Refuse a grouper that can't work on an encoder's features.

    Args:
        name: of the encoder.
        encoder: gives features.
        choice: of the grouper, with its settings.
        grouper: takes them.

    Raises:
        SettingError: if maps are missing, or the grouper is set to another number of channels.
    """
    missing = sorted(grouper.needs - encoder.maps)
    if missing:
        raise SettingError(
            f"grouper '{choice.name}' needs {', '.join(missing)} from the encoder; '{name}' gives "
            f"{', '.join(sorted(encoder.maps)) or 'features only'}. Choose another encoder or grouper."
        )
    wanted = int(choice.options.get("feature_dim", encoder.dim))
    if wanted != encoder.dim:
        raise SettingError(
            f"grouper '{choice.name}' is set to features of {wanted} channels, encoder '{name}' gives "
            f"{encoder.dim}. Set -o grouper.feature_dim={encoder.dim}, with weights made for it."
        )


def build_labeler(
    registry: Registry, choice: Choice, prompts: Prompts, device: torch.device
) -> Part[LabelerWithText]:
    """A labeler on the device, and its embeddings of the prompts.

    A setting named ``num_classes`` follows from the vocabulary unless chosen.
    """
    choice = fit(registry, "labeler", choice, {"num_classes": prompts.num_classes})
    part: Part[AnyLabeler] = _build(registry, "labeler", choice, device, lambda labeler: None)
    if part.built is None:
        return Part(part.spec, None, part.error)
    try:
        with torch.inference_mode():
            rows = embed_prompts(part.built, prompts).float().cpu().numpy()
        return Part(part.spec, LabelerWithText(part.built, TextBank.of(prompts, rows)))
    except Exception as error:
        return Part(part.spec, None, error)
