"""VideoMAE video encoder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ovvol_bench import Entry, Lazy, hookimpl
from ovvol_bench.registry.limits import BatchSize, Layers, Width

if TYPE_CHECKING:
    from ovvol_bench.training import Recipe, TrainingTask


build_videomae = Lazy("ovvol_plugins.videomae.checkpoint:build_videomae")


def videomae_recipe(
    task: TrainingTask,
    *,
    mask_ratio: float = 0.9,
    decoder_dim: Width = 384,
    decoder_depth: Layers = 4,
    decoder_heads: Layers = 6,
    norm_targets: bool = True,
    decoded_share: float = 1.0,
    frames: int = 16,
    sampling_rate: int | tuple[int, ...] = 2,
    size: int | tuple[int, int] = 224,
    crop_scales: float | tuple[float, ...] = (1.0, 0.875, 0.75, 0.66),
    flip: bool = False,
    batch_size: BatchSize = 512,
    learning_rate: float = 1.5e-4,
    scale_learning_rate: bool = True,
    final_learning_rate: float = 1e-5,
    warmup_epochs: float = 40,
    warmup_steps: int | None = None,
    epochs: float = 2401,
    weight_decay: float = 0.05,
    final_weight_decay: float | None = None,
    betas: tuple[float, float] = (0.9, 0.95),
    clip_gradients: float | None = None,
    calibrate_clips: int = 0,
    drop_path: float = 0.0,
) -> Recipe:
    """Pre-train the encoder: hide most patches of a clip, predict their pixels.

    Each video gives one clip a pass. Where it is too short for the sampling rate, the largest rate that
    fits is taken; videos shorter than ``frames`` are left out and counted.

    Args:
        task: what to train, and on what.
        mask_ratio: share of the patches of a frame that is hidden, the same ones in every frame.
        decoder_dim: width of the decoder, a multiple of ``decoder_heads``.
        decoder_depth: its blocks.
        decoder_heads: its attention heads.
        norm_targets: predict pixels normalised within each patch and colour; false: pixels in [0, 1].
        decoded_share: share of the hidden patches that is predicted; below 1 the decoder costs less.
        frames: T, of a clip; a multiple of the encoder's ``tubelet_size``.
        sampling_rate: every n-th frame makes a clip; one is drawn for each clip where several are given.
        size: of a clip in pixels, one number or height,width; multiples of the encoder's ``patch_size``.
        crop_scales: windows that are cut out, as shares of the largest one of the shape of ``size``; 1:
            that one.
        flip: mirror half of the clips.
        batch_size: clips an optimizer step, over all processes.
        learning_rate: for 256 clips a step, if ``scale_learning_rate``.
        scale_learning_rate: multiply both learning rates with batch_size / 256; false: take them as given.
        final_learning_rate: what the cosine ends at; scaled like ``learning_rate``.
        warmup_epochs: passes in which the learning rate rises, from 0.
        warmup_steps: optimizer steps of the rise, in place of ``warmup_epochs``.
        epochs: passes over the videos.
        weight_decay: of AdamW.
        final_weight_decay: what half a cosine takes the weight decay to; none: it stays.
        betas: of AdamW.
        clip_gradients: largest norm of all gradients together; none: not clipped.
        calibrate_clips: training clips on which, at the end, the final norm of the saved encoder is set so
            that every channel has mean 0 and variance 1; 0: it is saved as trained.
        drop_path: share of clips that pass the encoder's last block by; it rises evenly from 0 in the first.

    Raises:
        SettingError: if a number is out of range or does not fit the encoder.
        DataError: if no video is long enough.
    """
    from ovvol_bench.data.augment import Augmentation
    from ovvol_bench.training import Optimization

    from .clips import ClipNumbers
    from .recipe import DecoderNumbers, PretrainingRecipe, RateNumbers

    clips = ClipNumbers(
        frames=frames,
        sampling_rates=sampling_rate if isinstance(sampling_rate, tuple) else (sampling_rate,),
        size=size if isinstance(size, tuple) else (size, size),
        augmentation=Augmentation(crop_scales if isinstance(crop_scales, tuple) else (crop_scales,), flip),
        mask_ratio=mask_ratio,
        decoded_share=decoded_share,
    )
    decoder = DecoderNumbers(decoder_dim, decoder_depth, decoder_heads, norm_targets)
    rates = RateNumbers(learning_rate, final_learning_rate, warmup_epochs, epochs, warmup_steps)
    optimization = Optimization(
        "adamw",
        learning_rate=learning_rate * (batch_size / 256 if scale_learning_rate else 1),
        factor=rates.factor(),
        batch_size=batch_size,
        epochs=epochs,
        weight_decay=weight_decay,
        final_weight_decay=final_weight_decay,
        decay_vectors=False,
        betas=betas,
        clip_gradients=clip_gradients,
    )
    return PretrainingRecipe(task, clips, decoder, optimization, calibrate_clips, drop_path)


@hookimpl
def ovvol_encoders() -> Iterator[Entry]:
    """Register the encoder."""
    yield Entry(
        "videomae",
        build_videomae,
        "VideoMAE vision transformer, patch tokens of a clip",
        recipes={"videomae": videomae_recipe},
    )
