"""Slot attention grouper."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from ovvol_bench import Entry, hookimpl
from ovvol_bench.registry.limits import BatchSize

if TYPE_CHECKING:
    from ovvol_bench.training import Recipe, TrainingTask


def slot_attention_recipe(
    task: TrainingTask,
    *,
    sizes: tuple[str, ...] = ("224x224", "224x304", "224x400"),
    short_side: int = 224,
    strides: tuple[int, ...] = (1, 2, 4, 8),
    clips_per_video: int = 7,
    same_video_batch: bool = False,
    decoded_frames: int | None = None,
    position_init: Literal["random", "sincos"] = "random",
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
) -> Recipe:
    """Train the grouper: find slots in the features of a frozen encoder, and predict the features from them.

    Clips have as many frames as the grouper's ``frames`` ask for. Where a video is too short for a stride,
    one of the others is drawn; where it is shorter than a clip, its last frame is repeated.

    Args:
        task: what to train, and on what.
        sizes: HEIGHTxWIDTH of the frames in pixels, one or several; a step draws one of them. Frames of
            another shape lose what sticks out. ``native``, as published: each video has its own size, which
            needs ``same_video_batch``; then ``clips_per_video`` clips at most are computed at a time.
        short_side: of the frames at ``native`` sizes, pixels; the long side is the nearest multiple of the
            encoder's patch.
        strides: every n-th frame makes a clip; one is drawn for each clip.
        clips_per_video: of a pass over the data.
        same_video_batch: fill a step with ``clips_per_video`` clips of each of few videos, as published. They
            follow each other, so that a process with so many of them has those of one video.
        decoded_frames: random time steps that a step decodes, which costs most; none: all, as published.
        position_init: what the decoder's positions start from: ``random`` as published, or a sine-cosine
            table (``sincos``), with which slots don't collapse at first. Loaded weights stay.
        cache_features: encode fixed clips once and learn from these.
        cached_clips_per_video: of them.
        cache_limit_gb: space for all cached features, 10^9 bytes; the ones used longest ago make room.
        batch_size: clips an optimizer step, over all processes.
        epochs: passes over the videos.
        optimizer: by name.
        learning_rate: at the end of the warm-up.
        schedule: ``exponential`` decay, as published, or half a ``cosine`` down to 0.
        warmup_steps: optimizer steps in which the learning rate rises.
        decay_rate: of ``exponential``: factor gained every ``decay_steps`` steps.
        decay_steps: see ``decay_rate``.
        weight_decay: of the optimizer.
        clip_gradients: largest norm of all gradients together; none: not clipped.
        evaluate_clips: validation clips on which slots are held against true boxes; 0: none.

    Raises:
        SettingError: if a number is out of range, or grouper, encoder and numbers don't fit together.
        DecodeError: if frames can't be read for the cache.
    """
    from ovvol_bench.training import Optimization

    from .clips import Sampling, read_sizes
    from .recipe import (
        CacheNumbers,
        GroupingRecipe,
        RateNumbers,
        fitting_parts,
        start_from_sincos,
    )

    grouper, encoder = fitting_parts(task)
    sampling = Sampling(
        frames=grouper.steps * encoder.tubelet_size,
        strides=strides,
        sizes=read_sizes(sizes, encoder.patch_size, short_side),
        clips_per_video=clips_per_video,
        same_video=same_video_batch,
    )
    optimization = Optimization(
        optimizer,
        learning_rate,
        factor=RateNumbers(schedule, warmup_steps, decay_rate, decay_steps).factor(),
        batch_size=batch_size,
        epochs=epochs,
        weight_decay=weight_decay,
        clip_gradients=clip_gradients,
    )
    cache = CacheNumbers(cached_clips_per_video if cache_features else None, cache_limit_gb)
    if position_init == "sincos":
        start_from_sincos(grouper)
    return GroupingRecipe(task, sampling, decoded_frames, cache, optimization, evaluate_clips)


@hookimpl
def ovvol_groupers() -> Iterator[Entry]:
    """Register the grouper."""
    yield Entry(
        "slot_attention",
        "ovvol_plugins.slot_attention.model:SlotAttentionGrouper",
        "slot attention over all tokens of a clip",
        recipes={"slot_attention": slot_attention_recipe},
    )
