"""Recipes of groupers: a frozen encoder's features of clips, cached if wanted, and a loss of one's own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ovvol_bench.components import Encoder, Grouper
from ovvol_bench.data.base import Dataset
from ovvol_bench.data.loading import prefetch
from ovvol_bench.errors import DecodeError, SettingError
from ovvol_bench.metrics.base import ColumnMetric
from ovvol_bench.metrics.corloc import CorLoc
from ovvol_bench.metrics.detrate import DetectionRate
from ovvol_bench.naming.localize import segment_boxes, winning_slots
from ovvol_bench.pipeline import clip_generator, encode, group, stack
from ovvol_bench.registry.annotations import BatchSize
from ovvol_bench.training.clips import (
    CachedClips,
    FixedVideoClips,
    NativeSize,
    Sampling,
    VideoClips,
    read_sizes,
)
from ovvol_bench.training.features import CachePlan, FrozenEncoder, cached_features
from ovvol_bench.training.optimization import Optimization, make_schedule
from ovvol_bench.training.pictures import slot_picture
from ovvol_bench.training.recipe import Batch, Draws, Examples, Losses, Recipe, TrainingTask, component_of
from ovvol_bench.types import Features, Localization
from ovvol_bench.weights import save_state


class GroupingRecipe(Recipe):
    """Train a grouper on the features of a frozen encoder.

    A recipe of one's own gives `losses`, and assigns what is trained beside the grouper, such as a decoder or
    a teacher. Clips, cached features, validation, true boxes, pictures and saving are here, and may be
    changed. Where a video is too short for a stride, one of the others is drawn; where it is shorter than a
    clip, its last frame is repeated.

    Args:
        task: what to train, and on what.
        sizes: HEIGHTxWIDTH of the frames in pixels, one or several; a step draws one of them. Frames of
            another shape lose what sticks out. ``native``: each video has its own size, which needs
            ``same_video_batch``; then ``clips_per_video`` clips at most are computed at a time.
        short_side: of the frames at ``native`` sizes, pixels; the long side is the nearest multiple of the
            encoder's patch.
        strides: every n-th frame makes a clip; one is drawn for each clip.
        clips_per_video: of a pass over the data.
        same_video_batch: fill a step with ``clips_per_video`` clips of each of few videos. They follow each
            other, so that a process with so many of them has those of one video.
        cache_features: encode fixed clips once and learn from these.
        cached_clips_per_video: of them.
        cache_limit_gb: space for all cached features, 10^9 bytes; the ones used longest ago make room.
        batch_size: clips an optimizer step, over all processes.
        epochs: passes over the videos.
        optimizer: by name.
        learning_rate: at the end of the warm-up.
        schedule: ``exponential`` decay, or half a ``cosine`` down to 0.
        warmup_steps: optimizer steps in which the learning rate rises.
        decay_rate: of ``exponential``: factor gained every ``decay_steps`` steps.
        decay_steps: see ``decay_rate``.
        weight_decay: of the optimizer.
        clip_gradients: largest norm of all gradients together; none: not clipped.
        evaluate_clips: validation clips on which slots are held against true boxes; 0: none.

    Attributes:
        grouper: in training.
        encoder: frozen; not part of the module.

    Raises:
        SettingError: if a number is out of range, or grouper, encoder and numbers don't fit together.
        DecodeError: if frames can't be read for the cache.
    """

    grouper: Grouper

    def __init__(  # noqa: PLR0913 - keywords are the settings
        self,
        task: TrainingTask,
        *,
        sizes: tuple[str, ...] = ("224x224", "224x304", "224x400"),
        short_side: int = 224,
        strides: tuple[int, ...] = (1, 2, 4, 8),
        clips_per_video: int = 7,
        same_video_batch: bool = False,
        cache_features: bool = False,
        cached_clips_per_video: int = 2,
        cache_limit_gb: float = 20.0,
        batch_size: BatchSize = 224,
        epochs: float = 300,
        optimizer: Literal["adam", "adamw"] = "adam",
        learning_rate: float = 3e-3,
        schedule: Literal["exponential", "cosine"] = "exponential",
        warmup_steps: int = 5000,
        decay_rate: float = 0.5,
        decay_steps: int = 50_000,
        weight_decay: float = 0.0,
        clip_gradients: float | None = 1.0,
        evaluate_clips: int = 64,
    ) -> None:
        super().__init__()
        self.grouper, encoder = component_of(task, Grouper), task.encoder
        if encoder is None:
            raise SettingError("a grouper learns from the features of an encoder. Give one with --encoder.")
        if self.grouper.needs:
            raise SettingError(
                f"grouper {type(self.grouper).__name__} needs {', '.join(sorted(self.grouper.needs))} of the "
                "encoder; recipes of groupers are given its features alone."
            )
        self.encoder, self.task = FrozenEncoder(encoder), task
        if evaluate_clips < 0:
            raise SettingError(f"recipe.evaluate_clips={evaluate_clips}: expected 0 or more.")
        if cached_clips_per_video < 1:
            raise SettingError(
                f"recipe.cached_clips_per_video={cached_clips_per_video}: expected at least 1."
            )
        self._evaluate_clips = evaluate_clips
        self.optimization = Optimization(
            optimizer,
            learning_rate,
            factor=make_schedule(schedule, warmup_steps, decay_rate, decay_steps),
            batch_size=batch_size,
            epochs=epochs,
            weight_decay=weight_decay,
            clip_gradients=clip_gradients,
        )
        sampling = Sampling(
            frames=self.clip_frames(),
            strides=strides,
            sizes=read_sizes(sizes, encoder.patch_size, short_side),
            clips_per_video=clips_per_video,
            same_video=same_video_batch,
        )
        self.alike = sampling.alike
        if cache_features:
            self.examples = self._cached(
                replace(sampling, clips_per_video=cached_clips_per_video), cache_limit_gb
            )
        else:
            self.examples = VideoClips(task.dataset.training_videos(), sampling, self.draw)
        if task.validation is not None:
            whole = sampling if self.alike else replace(sampling, clips_per_video=1, same_video=False)
            self.validation = VideoClips(task.validation.training_videos(), whole, self.draw)

    @abstractmethod
    def losses(self, grid: Tensor, batch: Batch) -> Losses:
        """Compute the losses of a batch of clips.

        Args:
            grid: (B, S, h, w, D) float32, features of the frozen encoder.
            batch: what `draw` gives, and ``video`` (B, T, H, W, 3) uint8 where features aren't cached.

        Returns:
            ``loss``, which is minimised, and other scalars that are worth a curve.
        """

    def draw(self, draws: Draws) -> Batch:
        """Draw further tensors of an example, such as the noise that slots start from; none by default."""
        return {}

    def clip_frames(self) -> int:
        """Return T, the frames of a clip: as many as clips of the dataset have."""
        return self.task.frames

    @property
    def exported(self) -> Grouper:
        """The grouper that is measured, shown and saved; the one in training, unless overridden."""
        return self.grouper

    def forward(self, batch: Batch) -> Losses:
        return self.losses(batch["features"], batch)

    def prepare(self, batch: Batch) -> Batch:
        cached = batch.get("features")
        features = self.encoder.features(batch["video"]) if cached is None else cached.float()
        return {**batch, "features": features}

    def evaluate(self) -> Mapping[str, float]:
        """Measure CorLoc and DetRate of slots, see `localization_quality`; nothing where truth is unknown."""
        data = self.task.validation
        if data is None or not self._evaluate_clips or data.info(0).truth is None:
            return {}
        device = next(self.parameters()).device
        encoder = self.encoder.encoder.to(device)
        return localization_quality(encoder, self.exported, data, self._evaluate_clips, self.task.seed)

    def pictures(self, batch: Batch) -> Mapping[str, npt.NDArray[np.uint8]]:
        """Draw ``slots``: frames of some clips, and which slot wins where."""
        draws = [Generator().manual_seed(number) for number in range(len(batch["features"]))]
        masks = group(self.exported, Features(batch["features"]), draws).masks
        return {"slots": slot_picture(masks, batch.get("video"))}

    def save_weights(self, path: Path, about: Mapping[str, str]) -> None:
        save_state(self.exported, path, about)

    def _cached(self, sampling: Sampling, limit_gb: float) -> Examples:
        if sampling.same_video or isinstance(sampling.sizes, NativeSize):  # the second implies the first
            raise SettingError("recipe.same_video_batch draws clips anew: set recipe.cache_features=false.")
        task, videos = self.task, self.task.dataset.training_videos()
        plan = CachePlan(task.cache / "features", limit_gb, task.workers)
        fixed = [FixedVideoClips(videos, sampling, size, task.seed) for size in sampling.sizes]
        features = [cached_features(self.encoder, clips, plan) for clips in fixed]
        return CachedClips(fixed[0].names, features, self.draw)


def localization_quality(
    encoder: Encoder, grouper: Grouper, dataset: Dataset, clips: int, seed: int
) -> dict[str, float]:
    """Measure CorLoc and DetRate of slots before naming: each is one segment, none is dropped or merged.

    An upper bound of what naming can keep, and the number to watch in training.

    Args:
        encoder: of the grouper's features, on its device.
        grouper: to measure, on the same device.
        dataset: with truth.
        clips: how many are looked at, evenly spread over the dataset; all if there are fewer.
        seed: of the grouper's draws.

    Returns:
        ``corloc`` (any box counts) and ``detrate`` under protocol vid-reference, NaN where no clip shows
        an object; and ``unreadable_clips``, which were left out, where there are any.

    Raises:
        DataError: if a clip has no truth.
        ContractError: if a component breaks its contract.
    """
    metrics: dict[str, ColumnMetric] = {"corloc": CorLoc(), "detrate": DetectionRate()}
    indices = np.linspace(0, len(dataset) - 1, min(clips, len(dataset))).round().astype(int)
    first = next(chain(encoder.parameters(), grouper.parameters()), None)
    device = torch.device("cpu") if first is None else first.device
    unreadable = 0
    for _, clip in prefetch(dataset, indices.tolist(), workers=1):
        if isinstance(clip, DecodeError):
            unreadable += 1
            continue
        with torch.inference_mode():
            features = encode(encoder, stack([clip], device), truth=[clip.info])
            draws = [clip_generator(seed, clip.info.id, "grouper")]
            masks = group(grouper, features, draws, truth=[clip.info]).masks[0]
            slot_map = winning_slots(masks, len(clip.frames)).cpu().numpy().astype(np.int16)
        boxes, present = segment_boxes(slot_map, len(masks), clip.info.frame_size)
        found = Localization(
            boxes=boxes,
            present=present,
            # No names: the two metrics don't look at them.
            probabilities=np.zeros((len(masks), len(dataset.vocabulary.classes) + 1), np.float32),
            slot_map=slot_map,
            segment_of_slot=np.arange(len(masks), dtype=np.int16),
            input_size=(clip.frames.shape[1], clip.frames.shape[2]),
        )
        for metric in metrics.values():
            metric.update(found, clip.info)
    numbers = {name: value.value for name, metric in metrics.items() for value in metric.compute().values()}
    return numbers | ({"unreadable_clips": float(unreadable)} if unreadable else {})


def slots_used(masks: Tensor) -> Tensor:
    """Count the slots that win at least one patch.

    Args:
        masks: (B, K, S, h, w).

    Returns:
        (B,) int64 in [1, K].
    """
    winners = F.one_hot(masks.argmax(dim=1).flatten(1), masks.shape[1])
    return winners.any(dim=1).sum(dim=1)


def slot_entropy(masks: Tensor) -> Tensor:
    """Mean over patches of the entropy of their masks: how undecided they are between slots.

    Args:
        masks: (B, K, S, h, w), sums to 1 over K.

    Returns:
        (B,) float32 in nats: 0 where every patch belongs to one slot, log K where all slots share every
        patch alike.
    """
    entropy: Tensor = torch.special.entr(masks.float()).sum(dim=1)
    return entropy.flatten(1).mean(dim=1)
