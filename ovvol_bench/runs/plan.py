"""From a selection to built parts and the specs of all combinations; impossible pairs are refused here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Set
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any, TypeVar

import torch

from ovvol_bench.components import Encoder, Grouper
from ovvol_bench.data.base import Dataset
from ovvol_bench.errors import DataError, SettingError
from ovvol_bench.files import canonical_digest
from ovvol_bench.naming.prompts import build_prompts
from ovvol_bench.naming.settings import NamingSettings, naming_settings
from ovvol_bench.pipeline import best_precision
from ovvol_bench.registry import Registry
from ovvol_bench.registry.code import core_code
from ovvol_bench.results.machine import core_version
from ovvol_bench.runs.benchmark import build_dataset, build_metrics, clip_infos
from ovvol_bench.runs.learned import video_hash, videos_seen
from ovvol_bench.runs.parts import (
    LabelerWithText,
    Part,
    build_encoder,
    build_grouper,
    build_labeler,
    prepare,
)
from ovvol_bench.runs.results import Truth
from ovvol_bench.runs.selection import Choice, Selection
from ovvol_bench.runs.spec import PartSpec, RunSpec
from ovvol_bench.types import ClipInfo

Key = TypeVar("Key")
Built = TypeVar("Built")


@dataclass(frozen=True)
class Plan:
    """One dataset's matrix, ready to run.

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
        """How much is asked of every run."""
        return Truth.of(self.infos, self.dataset.vocabulary.name)

    @cached_property
    def combinations(self) -> tuple[tuple[RunSpec, Exception | None], ...]:
        """The spec of every run, with the reason if it can't run."""
        return tuple(
            (self._spec(parts, seeds), self._refusal(parts))
            for parts in self._parts()
            for seeds in self._seeds()
        )

    def _parts(self) -> Iterator[tuple[Part[Any], Part[Any], Part[Any]]]:
        for (encoder, grouper), labeler in product(self.groupers, self.labelers):
            yield self.encoders[encoder], self.groupers[encoder, grouper], self.labelers[labeler]

    def _refusal(self, parts: tuple[Part[Any], ...]) -> Exception | None:
        """Why parts can't run together on this dataset, or None."""
        error = next((part.error for part in parts if part.error), None)
        oracle = next((part.spec.name for part in parts if part.spec.oracle), None)
        if error or oracle is None or all(info.truth is not None for info in self.infos):
            return error
        return SettingError(
            f"'{oracle}' is an oracle: it answers with the truth, and dataset '{self.dataset_spec.name}' has"
            " clips without. Choose another component or dataset."
        )

    def _seeds(self) -> tuple[tuple[int, ...], ...]:
        """The seeds of every run: all in one with a consensus, else one each."""
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
    precision = precision_of(selection, device)
    fast = precision if selection.fidelity == "fast" else None
    encoders = {
        choice.name: prepare(build_encoder(registry, choice, frames, device), fast)
        for choice in selection.encoders
    }
    groupers = {
        (name, choice.name): prepare(build_grouper(registry, choice, encoder, frames, device), fast)
        for name, encoder in encoders.items()
        for choice in selection.groupers
    }
    prompts = build_prompts(clips.vocabulary, naming)
    labelers = {
        choice.name: prepare(build_labeler(registry, choice, prompts, device), fast)
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


def precision_of(selection: Selection, device: torch.device) -> torch.dtype:
    """Of the components' arithmetic: ``auto`` means the hardware's best, for ``reference`` float32."""
    if selection.precision == "auto":
        return torch.float32 if selection.fidelity == "reference" else best_precision(device)
    return torch.bfloat16 if selection.precision == "bfloat16" else torch.float32
