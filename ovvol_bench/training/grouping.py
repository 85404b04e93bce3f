"""Recipes of groupers: a frozen encoder's features of clips, cached if wanted, and a loss of one's own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch import Generator, Tensor

from ovvol_bench.components import Encoder, Grouper
from ovvol_bench.errors import SettingError
from ovvol_bench.pipeline import group
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
from ovvol_bench.training.slots import localization_quality
from ovvol_bench.types import Features
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
        self.grouper, encoder = _parts(task)
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


def _parts(task: TrainingTask) -> tuple[Grouper, Encoder]:
    """The grouper to train and the encoder of its features, if they are what they should be."""
    grouper, encoder = component_of(task, Grouper), task.encoder
    if encoder is None:
        raise SettingError("a grouper learns from the features of an encoder. Give one with --encoder.")
    if grouper.needs:
        raise SettingError(
            f"grouper {type(grouper).__name__} needs {', '.join(sorted(grouper.needs))} of the encoder; "
            "recipes of groupers are given its features alone."
        )
    return grouper, encoder
