"""Many combinations in one pass over the clips: every shared stage runs once a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from ovvol_bench.components import GuidedLabeler, Labeler, SlotLabeler
from ovvol_bench.errors import ContractError
from ovvol_bench.fidelity import autocast
from ovvol_bench.naming.consensus import consensus
from ovvol_bench.naming.localize import gather_evidence, name_pooled, pool_slots, shares, winning_slots
from ovvol_bench.naming.rule import NO_EVIDENCE, Evidence
from ovvol_bench.pipeline import (
    NotFiniteError,
    clip_generator,
    embed,
    embed_guided,
    embed_slots,
    encode,
    group,
    stack,
)
from ovvol_bench.registry import Registry
from ovvol_bench.runs.clock import Clock, EncodeStage, GroupStage, LabelStage, NameStage, Stage, StoreStage
from ovvol_bench.runs.combination import Run
from ovvol_bench.runs.plan import Plan
from ovvol_bench.runs.spec import RunSpec
from ovvol_bench.types import Clip, ClipInfo, Features, Localization

Value = TypeVar("Value")
OnError = Literal["fail", "skip"]
Positions = tuple[int, ...]
Work = Callable[[Positions], Value]
"""Computes the rows for some positions of the batch."""


@dataclass(frozen=True)
class Answer(Generic[Value]):
    """Answer of a component to a batch.

    Attributes:
        value: row by row for the clips at ``positions``.
        positions: in the batch; clips that the component failed on are missing.
    """

    value: Value
    positions: Positions

    def of(self: Answer[Tensor], position: int) -> Tensor:
        """Return the row of one clip."""
        return self.value[self.positions.index(position)]

    def rows(self: Answer[Tensor], positions: Positions) -> Tensor:
        """Return the rows of several clips."""
        return _take(self.value, [self.positions.index(position) for position in positions])


@dataclass(frozen=True)
class Grouped:
    """The slot of every patch of some clips.

    Attributes:
        slots: (T, h, w) int64 of each clip.
        counts: how many slots each has, by position.
        sums: (K, E) float32 of each clip: what a labeler makes of its slots; more rows than slots where other
            clips of the batch have more. None before it was asked.
    """

    slots: Answer[Tensor]
    counts: Mapping[int, int]
    sums: Answer[Tensor] | None = None

    def of(self, position: int) -> tuple[Tensor, Tensor]:
        """Slots of one clip and their embeddings, (T, h, w) and (K, E)."""
        assert self.sums is not None
        return self.slots.of(position), self.sums.of(position)[: self.counts[position]]


@dataclass(frozen=True)
class Batch:
    """Clips of one size.

    Attributes:
        clips: B clips.
        video: (B, T, 3, H, W) float32 RGB in [0, 1], on the device.
    """

    clips: Sequence[Clip]
    video: Tensor

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the clips."""
        return tuple(clip.info.id for clip in self.clips)

    def infos(self, positions: Positions) -> list[ClipInfo]:
        """Identity and truth of the clips at some positions."""
        return [self.clips[position].info for position in positions]


@dataclass(frozen=True)
class Seen:
    """Stages of a batch before naming, with one encoder.

    Attributes:
        batch: the clips.
        features: of the encoder.
        slots: masks by stage, one a grouper and seed; failed ones are missing.
        patches: embeddings by labeler, of those that embed patches; None where they failed.
    """

    batch: Batch
    features: Answer[Features]
    slots: Mapping[GroupStage, Answer[Tensor]]
    patches: Mapping[str, Answer[Tensor] | None]


class Matrix:
    """Carries batches through every combination; a failing component ends only those that use it.

    Args:
        plan: the built parts.
        runs: combinations that can run.
        clock: sums the seconds of stages.
        registry: whose plugins hear of every localized clip.
        on_error: ``skip`` leaves out single clips that a component answers with NaN, and counts
            them; ``fail`` ends the combinations that use the component.
    """

    def __init__(
        self, plan: Plan, runs: Sequence[Run], clock: Clock, registry: Registry, on_error: OnError
    ) -> None:
        self._plan = plan
        self._runs = runs
        self._clock = clock
        self._registry = registry
        self._on_error = on_error

    def advance(self, clips: Sequence[Clip]) -> None:
        """Localize clips of one frame size and length with every combination that needs them."""
        with torch.inference_mode():
            batch = Batch(clips, stack(clips, self._plan.device))
            patches = {name: self._embed(name, batch) for name in self._named(Labeler)}
            for encoder in self._plan.encoders:
                features = self._encode(encoder, batch)
                if features is None:
                    continue
                guided = {
                    name: self._guide(name, encoder, batch, features) for name in self._named(GuidedLabeler)
                }
                seen = Seen(
                    batch, features, dict(self._slots(encoder, batch, features)), {**patches, **guided}
                )
                for run in self._users(EncodeStage(encoder), batch):
                    self._name(run, seen)

    def _named(self, kind: type[Any]) -> list[str]:
        """Names of the labelers of one kind."""
        parts = self._plan.labelers.items()
        return [name for name, part in parts if part.built and isinstance(part.built.labeler, kind)]

    def _embed(self, name: str, batch: Batch) -> Answer[Tensor] | None:
        def work(rows: Positions) -> Tensor:
            labeler = cast(Labeler, self._plan.labelers[name].value.labeler)
            video, infos = _take(batch.video, rows), batch.infos(rows)
            return embed(labeler, video, f"labeler '{name}'", infos).float()

        return self._ask(LabelStage(name), batch, range(len(batch.clips)), work)

    def _guide(
        self, name: str, encoder: str, batch: Batch, features: Answer[Features]
    ) -> Answer[Tensor] | None:
        """Patch embeddings of a labeler that looks at an encoder's features."""

        def work(rows: Positions) -> Tensor:
            labeler = cast(GuidedLabeler, self._plan.labelers[name].value.labeler)
            video, infos = _take(batch.video, rows), batch.infos(rows)
            return embed_guided(
                labeler, video, features_of(features, rows), f"labeler '{name}'", infos
            ).float()

        return self._ask(LabelStage(name, encoder), batch, features.positions, work)

    def _slots(
        self, encoder: str, batch: Batch, features: Answer[Features]
    ) -> Iterator[tuple[GroupStage, Answer[Tensor]]]:
        """Yield the masks of every grouper and seed on one encoder's features."""
        stages = dict.fromkeys(stage for run in self._runs for stage in run.spec.group_stages)
        for stage in stages:
            answer = self._group(stage, batch, features) if stage.encoder == encoder else None
            if answer is not None:
                yield stage, answer

    def _encode(self, name: str, batch: Batch) -> Answer[Features] | None:
        def work(rows: Positions) -> Features:
            video, infos = _take(batch.video, rows), batch.infos(rows)
            return encode(self._plan.encoders[name].value, video, f"encoder '{name}'", infos)

        return self._ask(EncodeStage(name), batch, range(len(batch.clips)), work)

    def _group(self, stage: GroupStage, batch: Batch, features: Answer[Features]) -> Answer[Tensor] | None:
        name = stage.grouper

        def work(rows: Positions) -> Tensor:
            draws = [clip_generator(stage.seed, batch.ids[row], name) for row in rows]
            grouper, given = self._plan.groupers[stage.encoder, name].value, features_of(features, rows)
            return group(grouper, given, draws, f"grouper '{name}'", batch.infos(rows)).masks.float()

        return self._ask(stage, batch, features.positions, work)

    def _name(self, run: Run, seen: Seen) -> None:
        """Name the slots of every clip that the run lacks and that no component failed on."""
        if not all(stage in seen.slots for stage in run.spec.group_stages):
            return
        masks = [seen.slots[stage] for stage in run.spec.group_stages]
        wanted = tuple(
            position
            for position, clip in enumerate(seen.batch.clips)
            if run.needs(clip.info.id) and all(position in each.positions for each in masks)
        )
        grouped = self._embedded(run, seen, wanted) if wanted else None
        if grouped is None or grouped.sums is None:
            return
        for position in grouped.sums.positions:
            clip = seen.batch.clips[position].info
            localization = self._localize(run, seen, grouped, position)
            if localization is None:
                return
            with self._clock.measure(StoreStage(run.spec.id)):
                run.add(clip, localization)
            told = {"run_id": run.spec.id, "localization": localization, "clip": clip}
            self._registry.tell("ovvol_clip_localized", **told)

    def _localize(self, run: Run, seen: Seen, grouped: Grouped, position: int) -> Localization | None:
        """Localize one clip; None if naming fails the run."""
        naming, text = self._plan.naming, self._plan.labelers[run.spec.labeler.name].value.text
        clip, (slots, sums) = seen.batch.clips[position], grouped.of(position)
        try:
            with self._clock.measure(NameStage(run.spec.id)):
                evidence = self._evidence(run, seen, slots, position)
                found = name_pooled(slots, sums, text, naming, clip.info.frame_size, evidence)
                soft = None
                if run.soft_masks:
                    soft = shares(seen.slots[run.spec.group_stages[0]].of(position), len(clip.frames))
                height, width = clip.frames.shape[1:3]
                return replace(found, input_size=(int(height), int(width)), soft=soft)
        except Exception as error:
            run.failure = error
            return None

    def _evidence(self, run: Run, seen: Seen, slots: Tensor, position: int) -> Evidence:
        """Gather what the merger looks at beside embeddings; most look at nothing else."""
        naming = self._plan.naming
        if naming.merge not in ("overlap", "features"):
            return NO_EVIDENCE
        soft = seen.slots[run.spec.group_stages[0]].of(position) if run.spec.consensus is None else None
        features = features_of(seen.features, (position,)).grid[0]
        return gather_evidence(naming, slots.to(self._plan.device), soft, features)

    def _embedded(self, run: Run, seen: Seen, wanted: Positions) -> Grouped | None:
        """Return slots of clips with their embeddings, brought to the host all at once.

        None if grouping or labeler failed; clips that the labeler failed on have no sums.
        """
        try:
            with self._clock.measure(NameStage(run.spec.id)):
                grouped = merge_seeds(run.spec, seen, wanted)
            sums = self._sums(run, seen, grouped)
            if sums is None:
                return None
            with self._clock.measure(NameStage(run.spec.id)):
                slots = replace(grouped.slots, value=grouped.slots.value.cpu())
                return Grouped(slots, grouped.counts, replace(sums, value=sums.value.cpu()))
        except Exception as error:
            run.failure = error
            return None

    def _sums(self, run: Run, seen: Seen, grouped: Grouped) -> Answer[Tensor] | None:
        """Embed every slot with the run's labeler, (B, K, E) float32; None if it failed."""
        name, most = run.spec.labeler.name, max(grouped.counts.values())
        labeler, patches = self._plan.labelers[name].value.labeler, seen.patches.get(name)
        if not isinstance(labeler, SlotLabeler):
            if patches is None:
                return None
            shared = tuple(each for each in grouped.slots.positions if each in patches.positions)
            with self._clock.measure(NameStage(run.spec.id)):
                return Answer(pool_slots(grouped.slots.rows(shared), most, patches.rows(shared)), shared)

        def work(rows: Positions) -> Tensor:
            video, infos, slots = _take(seen.batch.video, rows), seen.batch.infos(rows), grouped.slots
            return embed_slots(labeler, video, (slots.rows(rows), most), f"labeler '{name}'", infos).float()

        return self._ask(run.spec.slot_label_stage, seen.batch, grouped.slots.positions, work)

    def _ask(
        self, stage: Stage, batch: Batch, positions: Sequence[int], work: Work[Value]
    ) -> Answer[Value] | None:
        """Run a stage if any combination needs it; None if none does, or if it fails those that do."""
        users = self._users(stage, batch)
        if not users:
            return None
        try:
            with self._clock.measure(stage), autocast(self._plan.device, self._plan.precision):
                return self._sound(users, batch, tuple(positions), work)
        except Exception as error:
            for run in users:
                run.failure = error
            return None

    def _sound(
        self, users: Sequence[Run], batch: Batch, positions: Positions, work: Work[Value]
    ) -> Answer[Value] | None:
        """Return the answer for those clips that have a finite one."""
        while positions:
            try:
                return Answer(work(positions), positions)
            except NotFiniteError as error:
                bad = [positions[row] for row in error.positions]
                ids = [batch.clips[position].info.id for position in bad]
                if self._on_error == "fail":
                    hint = "--on-error skip leaves such clips out and counts them."
                    raise ContractError(f"{error} Clips: {', '.join(ids)}. {hint}") from error
                for run in users:
                    run.skip(ids, "answer holds NaN or infinity", str(error))
                positions = tuple(position for position in positions if position not in bad)
        return None

    def _users(self, stage: Stage, batch: Batch) -> list[Run]:
        """Combinations that need the stage for at least one clip of the batch."""
        return [
            run
            for run in self._runs
            if stage in run.spec.stages and any(run.needs(clip.info.id) for clip in batch.clips)
        ]


def merge_seeds(spec: RunSpec, seen: Seen, wanted: Positions) -> Grouped:
    """Slot of every patch of some clips, of one seed or agreed upon by several.

    Args:
        spec: says of what stages, and how many groups a consensus may have.
        seen: masks of the batch.
        wanted: positions of the clips.
    """
    frames = seen.batch.video.shape[1]
    masks = [seen.slots[stage].rows(wanted) for stage in spec.group_stages]
    winners = [winning_slots(one, frames) for one in masks]
    if spec.consensus is None:
        return Grouped(Answer(winners[0], wanted), dict.fromkeys(wanted, masks[0].shape[1]))
    maps = torch.stack(winners, dim=1).cpu().numpy()
    groups = [
        consensus(
            by_seed,
            *spec.consensus,
            seed=clip_generator(spec.seeds[0], seen.batch.ids[position], "consensus").initial_seed(),
            choose=spec.naming.get("consensus", "eigengap"),
        )
        for by_seed, position in zip(maps, wanted, strict=True)
    ]
    counts = [int(each.max()) + 1 for each in groups]
    agreed = torch.from_numpy(np.stack(groups)).to(winners[0].device)
    return Grouped(Answer(agreed, wanted), dict(zip(wanted, counts, strict=True)))


def features_of(features: Answer[Features], rows: Sequence[int]) -> Features:
    """Return the features of the clips at some positions of the batch."""
    chosen = tuple(features.positions.index(row) for row in rows)
    maps = {key: _take(value, chosen) for key, value in features.value.maps.items()}
    return Features(_take(features.value.grid, chosen), maps)


def _take(values: Tensor, rows: Sequence[int]) -> Tensor:
    """Return some rows, without a copy if they are all."""
    return values if len(rows) == len(values) else values[list(rows)]
