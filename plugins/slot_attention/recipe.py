"""How slot attention is trained: group the features of a frozen encoder, predict them from the slots."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovvol_bench.components import Encoder
from ovvol_bench.errors import SettingError
from ovvol_bench.nn.grids import sincos_table
from ovvol_bench.training import Batch, Examples, Losses, Optimization, Recipe, TrainingTask
from ovvol_bench.training.features import CachePlan, FrozenEncoder, cached_features
from ovvol_bench.training.localization import localization_quality
from ovvol_bench.training.optimization import Factor, warmup_cosine
from ovvol_bench.weights import save_state

from .clips import (
    CachedClips,
    NativeSize,
    Sampling,
    SlotDraws,
    VideoClips,
    VideoFixedClips,
)
from .model import SlotAttentionGrouper
from .pictures import slot_picture

_UNIFORM = 0.995  # of log K: entropy that counts as no grouping
_PATIENCE = 100  # steps that it may last


@dataclass(frozen=True)
class RateNumbers:
    """The learning rate over time, as a factor of its peak.

    Attributes:
        schedule: ``exponential``, as published, see `learning_rate_factor`; or half a ``cosine`` to 0.
        warmup_steps: of the rise.
        decay_rate: factor gained every ``decay_steps`` steps, of ``exponential``.
        decay_steps: see above.

    Raises:
        SettingError: if a number is out of range.
    """

    schedule: Literal["exponential", "cosine"]
    warmup_steps: int
    decay_rate: float
    decay_steps: int

    def __post_init__(self) -> None:
        if self.warmup_steps < 0:
            raise SettingError(f"recipe.warmup_steps={self.warmup_steps}: expected 0 or more.")
        if not 0 < self.decay_rate <= 1:
            raise SettingError(f"recipe.decay_rate={self.decay_rate:g}: expected above 0 and at most 1.")
        if self.decay_steps < 1:
            raise SettingError(f"recipe.decay_steps={self.decay_steps}: expected at least 1.")

    def factor(self) -> Factor:
        """By optimizer step."""
        if self.schedule == "cosine":
            return partial(warmup_cosine, warmup=self.warmup_steps)
        return self._exponential

    def _exponential(self, step: int, total: int) -> float:
        return learning_rate_factor(step, self.warmup_steps, self.decay_rate, self.decay_steps)


@dataclass(frozen=True)
class CacheNumbers:
    """What is kept of the encoder's features.

    Attributes:
        clips_per_video: fixed clips that are cached of each video; None: nothing is cached.
        limit_gb: space that all caches may take, 10^9 bytes.

    Raises:
        SettingError: if a number is out of range.
    """

    clips_per_video: int | None
    limit_gb: float

    def __post_init__(self) -> None:
        if self.clips_per_video is not None and self.clips_per_video < 1:
            raise SettingError(f"recipe.cached_clips_per_video={self.clips_per_video}: expected at least 1.")


class ReconstructionLoss(nn.Module):
    """The grouper with its loss.

    Args:
        grouper: to be trained.
    """

    def __init__(self, grouper: SlotAttentionGrouper) -> None:
        super().__init__()
        self.grouper = grouper

    def forward(self, batch: Batch) -> Losses:
        """``loss``, ``slots_used`` and ``slot_entropy`` of a batch, see `reconstruction_loss`.

        Args:
            batch: ``features`` (B, S, h, w, D) float32; ``noise`` (B, K, slot_dim); where only some time
                steps are decoded, ``steps`` (B, s), the same in every row.
        """
        steps = batch["steps"][0] if "steps" in batch else None
        loss, numbers = reconstruction_loss(self.grouper, batch["features"], batch["noise"], steps)
        return {"loss": loss, **numbers}


class GroupingRecipe(Recipe):
    """Slot attention on the features of a frozen encoder.

    Args:
        task: with a slot attention grouper and the encoder; datasets offer videos.
        sampling: how clips are cut.
        decoded_frames: time steps that a training step decodes; None: all.
        cache: what is kept of the features.
        optimization: the numbers.
        evaluate_clips: validation clips that CorLoc and DetRate are taken on; 0: none.

    Raises:
        SettingError: if grouper, encoder and numbers don't fit together, or a dataset offers no videos.
    """

    _grouper: SlotAttentionGrouper

    def __init__(
        self,
        task: TrainingTask,
        sampling: Sampling,
        decoded_frames: int | None,
        cache: CacheNumbers,
        optimization: Optimization,
        evaluate_clips: int,
    ) -> None:
        if evaluate_clips < 0:
            raise SettingError(f"recipe.evaluate_clips={evaluate_clips}: expected 0 or more.")
        super().__init__()
        grouper, encoder = fitting_parts(task)
        settings = grouper.settings
        self.optimization, self._evaluate_clips = optimization, evaluate_clips
        self._seed, self._validation_data = task.seed, task.validation
        self._encoder = FrozenEncoder(encoder)
        self.hold(_grouper=grouper)
        self.module = ReconstructionLoss(grouper)
        self._rate, self._uniform_steps = 0.0, 0
        draws = SlotDraws((settings.num_slots, settings.slot_dim), grouper.steps, decoded_frames)
        self.alike = sampling.alike
        self.examples = self._examples(task, sampling, draws, cache)
        if task.validation is not None:
            plain = sampling
            if self.alike is None:
                plain = replace(sampling, clips_per_video=1, same_video=False)
            videos = task.validation.training_videos()
            self.validation = VideoClips(videos, plain, replace(draws, decoded=None))

    def forward(self, batch: Batch) -> Losses:
        """Losses of a prepared batch."""
        losses: Losses = self.module(batch)
        return losses

    def prepare(self, batch: Batch) -> Batch:
        """Add ``features`` (B, S, h, w, D) float32: from the cache, or of ``video`` (B, T, H, W, 3) uint8."""
        cached = batch.get("features")
        features = self._encoder.features(batch["video"]) if cached is None else cached.float()
        return {**batch, "features": features}

    def evaluate(self) -> Mapping[str, float]:
        """CorLoc and DetRate of slots, see `localization_quality`; nothing where there is no truth."""
        data = self._validation_data
        if data is None or not self._evaluate_clips or data.info(0).truth is None:
            return {}
        encoder = self._encoder.encoder.to(self._grouper.decoder.pos_embed.device)
        return localization_quality(encoder, self._grouper, data, self._evaluate_clips, self._seed)

    def remark(self, numbers: Mapping[str, float]) -> str | None:
        """Says when slots share every patch alike for a hundred steps after the warm-up."""
        warm = numbers["learning_rate"] < self._rate
        self._rate = max(self._rate, numbers["learning_rate"])
        slots = self._grouper.settings.num_slots
        uniform = numbers["slot_entropy"] > _UNIFORM * math.log(slots)
        self._uniform_steps = self._uniform_steps + 1 if warm and uniform else 0
        if self._uniform_steps != _PATIENCE:
            return None
        return (
            f"slots share every patch alike (slot_entropy {numbers['slot_entropy']:.3f}, log {slots} is "
            f"{math.log(slots):.3f}): nothing is grouped. Are the encoder's weights those of a finished "
            "training, and its features on a scale near 1? recipe.position_init=sincos may help."
        )

    def pictures(self, batch: Batch) -> Mapping[str, npt.NDArray[np.uint8]]:
        """``slots``: frames of some clips, and which slot wins where."""
        with torch.no_grad():
            masks = self._grouper.masks(batch["features"], batch["noise"])
        return {"slots": slot_picture(masks, batch.get("video"))}

    def save_weights(self, path: Path, about: Mapping[str, str]) -> None:
        """The grouper; the frozen encoder has a file of its own."""
        save_state(self._grouper, path, about)

    def _examples(
        self, task: TrainingTask, sampling: Sampling, draws: SlotDraws, cache: CacheNumbers
    ) -> Examples:
        videos = task.dataset.training_videos()
        if cache.clips_per_video is None:
            return VideoClips(videos, sampling, draws)
        sizes = sampling.sizes
        if sampling.same_video or isinstance(sizes, NativeSize):  # the second implies the first
            raise SettingError("recipe.same_video_batch draws clips anew: set recipe.cache_features=false.")
        sampling = replace(sampling, clips_per_video=cache.clips_per_video)
        plan = CachePlan(task.cache / "features", cache.limit_gb, task.workers)
        fixed = [VideoFixedClips(videos, sampling, size, task.seed) for size in sizes]
        features = [cached_features(self._encoder, clips, plan) for clips in fixed]
        return CachedClips(fixed[0].names, features, draws)


def start_from_sincos(grouper: SlotAttentionGrouper) -> None:
    """Let the decoder's positions start from a sine-cosine table, unless weights were loaded.

    Random ones of the usual size, 0.02, take thousands of steps to matter beside the slots, which
    collapse to two or three meanwhile.
    """
    if grouper.has_weights:
        return
    settings, table = grouper.settings, grouper.decoder.pos_embed
    start = sincos_table(settings.frames, settings.position_grid, settings.slot_dim).flatten(1, 2)
    with torch.no_grad():
        table.copy_(start)


def fitting_parts(task: TrainingTask) -> tuple[SlotAttentionGrouper, Encoder]:
    """The grouper to train and the encoder of its features.

    Raises:
        SettingError: if there is no encoder, or one whose features the grouper doesn't take.
    """
    grouper, encoder = task.component, task.encoder
    if not isinstance(grouper, SlotAttentionGrouper):
        raise SettingError(
            f"the recipe trains groupers made of slot attention; it was given a {type(grouper).__name__}."
        )
    if encoder is None:
        raise SettingError("slot attention learns from the features of an encoder. Give one with --encoder.")
    if encoder.dim != grouper.settings.feature_dim:
        raise SettingError(
            f"the encoder's features have {encoder.dim} channels, grouper.feature_dim="
            f"{grouper.settings.feature_dim}. Set -o grouper.feature_dim={encoder.dim}."
        )
    frames = grouper.steps * encoder.tubelet_size
    if encoder.max_frames is not None and frames > encoder.max_frames:
        raise SettingError(
            f"grouper.frames={grouper.steps} needs clips of {frames} frames; the encoder takes at "
            f"most {encoder.max_frames}. Set -o grouper.frames={encoder.max_frames // encoder.tubelet_size} "
            "or less."
        )
    return grouper, encoder


def reconstruction_loss(
    grouper: SlotAttentionGrouper, grid: Tensor, noise: Tensor, steps: Tensor | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean squared error between decoded and encoder features, over all elements.

    The target of Seitzer et al., ICLR 2023, on the features of a whole clip.

    Args:
        grouper: in training.
        grid: (B, S, h, w, D) features of the frozen encoder.
        noise: (B, K, slot_dim) standard normal draws; see `SlotAttentionGrouper.noise`.
        steps: (s,) indices of the time steps to decode and compare; all if None. Slots are always found
            from the whole clip, but decoding costs most: a random part gives the same gradient on
            average for a fraction of the time.

    Returns:
        Scalar float32 loss, and numbers to log by name, means over clips that tell of slots collapsing:
        `slots_used` and `slot_entropy`.
    """
    decoded = grouper.reconstruct(grid, noise, steps)
    target = grid if steps is None else grid[:, steps]
    loss = F.mse_loss(decoded.features.float(), target.float())
    masks = decoded.masks.detach()
    return loss, {"slots_used": slots_used(masks).float().mean(), "slot_entropy": slot_entropy(masks).mean()}


def slots_used(masks: Tensor) -> Tensor:
    """How many slots win at least one patch.

    Args:
        masks: (B, K, S, h, w).

    Returns:
        (B,) int64 in [1, K].
    """
    winners = F.one_hot(masks.argmax(dim=1).flatten(1), masks.shape[1])
    return winners.any(dim=1).sum(dim=1)


def slot_entropy(masks: Tensor) -> Tensor:
    """How undecided the patches are between slots: mean over patches of the masks' entropy.

    Args:
        masks: (B, K, S, h, w), sums to 1 over K.

    Returns:
        (B,) float32 in nats: 0 where every patch belongs to one slot, log K where all slots share every
        patch alike.
    """
    entropy: Tensor = torch.special.entr(masks.float()).sum(dim=1)
    return entropy.flatten(1).mean(dim=1)


def learning_rate_factor(
    step: int, warmup_steps: int = 5000, decay_rate: float = 0.5, decay_steps: int = 50000
) -> float:
    """What to multiply the base learning rate with.

    Linear warm-up times exponential decay, which already runs during the warm-up; the very first step
    has factor 0, as in the reference.

    Args:
        step: optimizer steps done, from 0.
        warmup_steps: steps until the warm-up ends.
        decay_rate: factor gained every ``decay_steps`` steps.
        decay_steps: see above.

    Returns:
        Factor in [0, 1].
    """
    warmup = min(1.0, step / warmup_steps) if warmup_steps else 1.0
    return warmup * math.pow(decay_rate, step / decay_steps)
