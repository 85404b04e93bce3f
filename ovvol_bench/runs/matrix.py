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
from ovvol_bench.naming.consensus import consensus
from ovvol_bench.naming.slots import gather_evidence, name_pooled, pool_slots, winning_slots
from ovvol_bench.pipeline import (
    NotFiniteError,
    autocast,
    embed,
    embed_guided,
    embed_slots,
    encode,
    group,
    stack,
)
from ovvol_bench.registry import Registry
from ovvol_bench.runs.clock import Clock, Stage
from ovvol_bench.runs.draws import clip_generator
from ovvol_bench.runs.plan import Plan
from ovvol_bench.runs.run import Run
from ovvol_bench.runs.spec import RunSpec
from ovvol_bench.types import Clip, ClipInfo, Features, Localization

Value = TypeVar("Value")
OnError = Literal["fail", "skip"]
Positions = tuple[int, ...]
Work = Callable[[Positions], Value]
"""Computes the rows for some positions of the batch."""


@dataclass(frozen=True)
class Answer(Generic[Value]):
    """What a component made of a batch.

    Attributes:
        value: row by row for the clips at ``positions``.
        positions: in the batch; clips that the component failed on are missing.
    """

    value: Value
    positions: Positions

    def of(self: Answer[Tensor], position: int) -> Tensor:
        """The row of one clip."""
        return self.value[self.positions.index(position)]


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
    """What was made of a batch on the way to naming, with one encoder.

    Attributes:
        batch: the clips.
        features: of the encoder.
        slots: masks by stage, one a grouper and seed; failed ones are missing.
        patches: embeddings by labeler, of those that embed patches; None where they failed.
    """

    batch: Batch
    features: Answer[Features]
    slots: Mapping[Stage, Answer[Tensor]]
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
                for run in self._users(("encode", encoder), batch):
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

        return self._ask(("label", name), batch, range(len(batch.clips)), work)

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

        return self._ask(("label", name, encoder), batch, features.positions, work)

    def _slots(
        self, encoder: str, batch: Batch, features: Answer[Features]
    ) -> Iterator[tuple[Stage, Answer[Tensor]]]:
        """The masks of every grouper and seed on one encoder's features."""
        stages = dict.fromkeys(stage for run in self._runs for stage in run.group_stages)
        for stage in stages:
            answer = self._group(stage, batch, features) if stage[1] == encoder else None
            if answer is not None:
                yield stage, answer

    def _encode(self, name: str, batch: Batch) -> Answer[Features] | None:
        def work(rows: Positions) -> Features:
            video, infos = _take(batch.video, rows), batch.infos(rows)
            return encode(self._plan.encoders[name].value, video, f"encoder '{name}'", infos)

        return self._ask(("encode", name), batch, range(len(batch.clips)), work)

    def _group(self, stage: Stage, batch: Batch, features: Answer[Features]) -> Answer[Tensor] | None:
        _, encoder, name, seed = stage

        def work(rows: Positions) -> Tensor:
            draws = [clip_generator(int(seed), batch.ids[row], name) for row in rows]
            grouper, given = self._plan.groupers[encoder, name].value, features_of(features, rows)
            return group(grouper, given, draws, f"grouper '{name}'", batch.infos(rows)).masks.float()

        return self._ask(stage, batch, features.positions, work)

    def _name(self, run: Run, seen: Seen) -> None:
        """Name the slots of every clip that the run lacks and that no component failed on."""
        if not all(stage in seen.slots for stage in run.group_stages):
            return
        for position, clip in enumerate(seen.batch.clips):
            if run.failure:
                return
            failed = any(position not in seen.slots[stage].positions for stage in run.group_stages)
            if failed or not run.needs(clip.info.id):
                continue
            localization = self._localize(run, seen, position)
            if localization is not None:
                with self._clock.measure(("store", run.spec.id)):
                    run.add(clip.info, localization)
                self._registry.hook.ovvol_clip_localized(localization=localization, clip=clip.info)

    def _localize(self, run: Run, seen: Seen, position: int) -> Localization | None:
        """The localization of one clip; None if a component failed on it or naming fails the run."""
        naming, text = self._plan.naming, self._plan.labelers[run.spec.labeler.name].value.text
        clip, named = seen.batch.clips[position], ("name", run.spec.id)
        masks = [seen.slots[stage].of(position) for stage in run.group_stages]
        try:
            with self._clock.measure(named):
                slots, count = merge_seeds(run.spec, clip.info.id, masks, len(clip.frames))
                slots = slots.to(self._plan.device)
            pooled = self._pooled(run, seen, position, (slots, count))
            if pooled is None:
                return None
            with self._clock.measure(named):
                soft = masks[0] if run.spec.consensus is None else None
                features = features_of(seen.features, (position,)).grid[0]
                evidence = gather_evidence(naming, slots, soft, features)
                found = name_pooled(slots, pooled, text, naming, clip.info.frame_size, evidence)
                return replace(found, input_size=input_size(clip))
        except Exception as error:
            run.failure = error
            return None

    def _pooled(self, run: Run, seen: Seen, position: int, grouping: tuple[Tensor, int]) -> Tensor | None:
        """(K, E) what the run's labeler makes of each slot of a clip; None if it failed on the clip."""
        name, (slots, count) = run.spec.labeler.name, grouping
        labeler = self._plan.labelers[name].value.labeler
        if not isinstance(labeler, SlotLabeler):
            patches = seen.patches[name]
            if patches is None or position not in patches.positions:
                return None
            with self._clock.measure(("name", run.spec.id)):
                return pool_slots(slots, count, patches.of(position))

        def work(rows: Positions) -> Tensor:
            video, infos = _take(seen.batch.video, rows), seen.batch.infos(rows)
            return embed_slots(labeler, video, (slots[None], count), f"labeler '{name}'", infos).float()

        answer = self._ask(run.label_stages[2], seen.batch, (position,), work)
        return answer.of(position) if answer else None

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
        """The answer for those clips that have a finite one."""
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
            if stage in run.stages and any(run.needs(clip.info.id) for clip in batch.clips)
        ]


def merge_seeds(spec: RunSpec, clip_id: str, masks: Sequence[Tensor], frames: int) -> tuple[Tensor, int]:
    """Slot of every patch, of one seed or agreed upon by several.

    Args:
        spec: says how many groups a consensus may have.
        clip_id: the clip, whose draws the consensus uses.
        masks: (K, S, h, w) of each seed.
        frames: T.

    Returns:
        (T, h, w) int64 slots and how many there are.
    """
    if spec.consensus is None:
        return winning_slots(masks[0], frames), len(masks[0])
    maps = np.stack([winning_slots(mask, frames).cpu().numpy() for mask in masks])
    seed = clip_generator(spec.seeds[0], clip_id, "consensus").initial_seed() % 2**32
    groups = consensus(maps, *spec.consensus, seed=seed)
    return torch.from_numpy(groups), int(groups.max()) + 1


def features_of(features: Answer[Features], rows: Sequence[int]) -> Features:
    """The features of the clips at some positions of the batch."""
    chosen = tuple(features.positions.index(row) for row in rows)
    maps = {key: _take(value, chosen) for key, value in features.value.maps.items()}
    return Features(_take(features.value.grid, chosen), maps)


def input_size(clip: Clip) -> tuple[int, int]:
    """(height, width) of the clip's resized frames."""
    height, width = clip.frames.shape[1:3]
    return int(height), int(width)


def _take(values: Tensor, rows: Sequence[int]) -> Tensor:
    """Those rows; without a copy if they are all."""
    return values if len(rows) == len(values) else values[list(rows)]
