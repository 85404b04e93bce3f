"""Recipes of encoders: whole clips of videos, cropped and mirrored, and a loss of one's own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ovvol_bench.components import Encoder
from ovvol_bench.data.base import TrainingVideos
from ovvol_bench.data.transforms import SCALES, Augmentation, Size
from ovvol_bench.errors import DataError, SettingError
from ovvol_bench.registry.annotations import BatchSize
from ovvol_bench.training.optimization import Optimization, check_final_rate, warmup_cosine
from ovvol_bench.training.pictures import feature_picture
from ovvol_bench.training.recipe import (
    Batch,
    Draws,
    Examples,
    Losses,
    Recipe,
    TrainingTask,
    component_of,
    normalised,
)
from ovvol_bench.weights import save_state

TOO_SHORT = "videos shorter than a clip"
_NAMED = 5  # videos that an error lists


class EncoderRecipe(Recipe):
    """Train an encoder on clips of videos.

    A recipe of one's own gives `losses`, and assigns what is trained beside the encoder, such as a decoder.
    Clips, validation, pictures and saving are here, and may be changed. Each video gives one clip a pass.
    Where it is too short for the sampling rate, the largest rate that fits is taken; videos shorter than
    ``frames`` are left out and counted. Validation clips are neither scaled nor mirrored.

    Args:
        task: what to train, and on what.
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

    Attributes:
        encoder: in training.
        grid: (S, h, w) of a clip's features.

    Raises:
        SettingError: if a number is out of range or does not fit the encoder.
        DataError: if no video is long enough.
    """

    encoder: Encoder

    def __init__(  # noqa: PLR0913 - keywords are the settings
        self,
        task: TrainingTask,
        *,
        frames: int = 16,
        sampling_rate: int | tuple[int, ...] = 2,
        size: int | tuple[int, int] = 224,
        crop_scales: float | tuple[float, ...] = SCALES,
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
    ) -> None:
        super().__init__()

        def factor(step: int, total: int) -> float:
            warmup = round(warmup_epochs / epochs * total) if warmup_steps is None else warmup_steps
            return warmup_cosine(step, total, warmup, final_learning_rate / learning_rate, from_zero=True)

        self.encoder = component_of(task, Encoder)
        self.optimization = Optimization(
            "adamw",
            learning_rate=learning_rate * (batch_size / 256 if scale_learning_rate else 1),
            factor=factor,
            batch_size=batch_size,
            epochs=epochs,
            weight_decay=weight_decay,
            final_weight_decay=final_weight_decay,
            decay_vectors=False,
            betas=betas,
            clip_gradients=clip_gradients,
        )
        check_final_rate(final_learning_rate, learning_rate)
        if warmup_steps is not None and warmup_steps < 0:
            raise SettingError(f"recipe.warmup_steps={warmup_steps}: expected 0 or more, or none.")
        if not 0 <= warmup_epochs < epochs:
            raise SettingError(
                f"recipe.warmup_epochs={warmup_epochs:g}: expected 0 or more, and fewer than "
                f"recipe.epochs={epochs:g}."
            )
        rates = sampling_rate if isinstance(sampling_rate, tuple) else (sampling_rate,)
        sides = size if isinstance(size, tuple) else (size, size)
        scales = crop_scales if isinstance(crop_scales, tuple) else (crop_scales,)
        self.grid = _grid_of(self.encoder, frames, sides)
        varied, plain = Augmentation(scales, flip), Augmentation((1.0,), flip=False)
        self.examples = AugmentedClips(
            task.dataset.training_videos(), (frames, rates), sides, varied, self.draw
        )
        if task.validation is not None:
            videos = task.validation.training_videos()
            self.validation = AugmentedClips(videos, (frames, rates), sides, plain, self.draw)

    @abstractmethod
    def losses(self, video: Tensor, batch: Batch) -> Losses:
        """Compute the losses of a batch of clips.

        Args:
            video: (B, T, 3, H, W) float32, normalised with the encoder's ``mean`` and ``std``.
            batch: ``video``, and what `draw` gives.

        Returns:
            ``loss``, which is minimised, and other scalars that are worth a curve.
        """

    def draw(self, draws: Draws) -> Batch:
        """Draw further tensors of an example, such as a mask of hidden patches; none by default."""
        return {}

    def forward(self, batch: Batch) -> Losses:
        return self.losses(batch["video"], batch)

    def prepare(self, batch: Batch) -> Batch:
        # As late as that can be: bytes take a quarter of the memory on the way to the device.
        return {**batch, "video": normalised(batch["video"], self.encoder.mean, self.encoder.std)}

    def pictures(self, batch: Batch) -> Mapping[str, npt.NDArray[np.uint8]]:
        """Draw ``features``: frames of some clips, and the principal components of their features."""
        video, encoder = batch["video"], self.encoder
        mean, std = (video.new_tensor(value).view(3, 1, 1) for value in (encoder.mean, encoder.std))
        frames = (255 * (video * std + mean)).round().byte().permute(0, 1, 3, 4, 2)
        return {"features": feature_picture(encoder.encode(video).grid, frames)}

    def save_weights(self, path: Path, about: Mapping[str, str]) -> None:
        save_state(self.encoder, path, about)


class AugmentedClips(Examples):
    """Clips as large as videos allow, one of every video a pass, varied alike in all frames.

    An example has ``video`` (T, 3, H, W) uint8.

    Args:
        videos: to cut from. Those shorter than a clip are left out.
        timing: T, the frames of a clip, and steps from one to the next, one of which is drawn for each clip.
        size: (height, width) of a clip, pixels.
        augmentation: of the frames.
        draw: what else an example has.

    Raises:
        SettingError: if a number is out of range.
        DataError: if no video is long enough.
    """

    def __init__(
        self,
        videos: TrainingVideos,
        timing: tuple[int, Sequence[int]],
        size: Size,
        augmentation: Augmentation,
        draw: Callable[[Draws], Batch],
    ) -> None:
        self._videos, self._size, self._augmentation, self._draw = videos, size, augmentation, draw
        self._frames, self._rates = frames, rates = timing
        if not rates or min(rates) < 1:
            given = ",".join(map(str, rates)) or "none"
            raise SettingError(f"recipe.sampling_rate={given}: expected steps of at least 1 frame.")
        self._kept = [index for index in range(len(videos)) if videos.length(index) >= frames]
        if not self._kept:
            some = ", ".join(
                f"{videos.name(index)} ({videos.length(index)})" for index in range(len(videos))[:_NAMED]
            )
            more = f" and {len(videos) - _NAMED} more" if len(videos) > _NAMED else ""
            raise DataError(
                f"none of {len(videos)} videos has the recipe.frames={frames} frames of a clip: "
                f"{some}{more}. Lower recipe.frames or give longer videos."
            )
        self.skipped = {TOO_SHORT: len(videos) - len(self._kept)}

    def __len__(self) -> int:
        return len(self._kept)

    def name(self, index: int) -> str:
        return self._videos.name(self._kept[index])

    def example(self, index: int, draws: Draws) -> Batch:
        video = self._kept[index]
        positions = draw_positions(self._videos.length(video), self._frames, self._rates, draws.numpy)
        clip = self._augmentation.apply(self._videos.frames(video, positions), self._size, draws.numpy)
        pixels = torch.from_numpy(np.ascontiguousarray(clip.transpose(0, 3, 1, 2)))
        return {"video": pixels, **self._draw(draws)}


def draw_positions(length: int, frames: int, rates: Sequence[int], rng: np.random.Generator) -> range:
    """Draw the frames of a clip: a sampling rate, then a start.

    Args:
        length: frames of the video, at least ``frames``.
        frames: T, of the clip.
        rates: to draw from.
        rng: what to draw from.

    Returns:
        T positions in [0, length).
    """
    rate = rates[int(rng.integers(len(rates)))]
    if frames > 1:
        rate = min(rate, (length - 1) // (frames - 1))  # no frame of a short video comes twice
    span = (frames - 1) * rate + 1
    start = int(rng.integers(length - span + 1))
    return range(start, start + span, rate)


def _grid_of(encoder: Encoder, frames: int, size: Size) -> tuple[int, int, int]:
    """(S, h, w) of a clip's features, if the encoder takes such clips."""
    side, tubelet, most = encoder.patch_size, encoder.tubelet_size, encoder.max_frames
    if min(size) < 1 or any(pixels % side for pixels in size):
        near = ",".join(str(max(1, round(pixels / side)) * side) for pixels in size)
        raise SettingError(
            f"recipe.size={size[0]},{size[1]} (height, width): expected multiples of "
            f"encoder.patch_size={side}, such as {near}."
        )
    if frames < 1 or frames % tubelet or frames > (most or frames):
        limit = f", up to the {most} that the encoder takes" if most else ""
        raise SettingError(
            f"recipe.frames={frames}: expected a multiple of encoder.tubelet_size={tubelet}{limit}."
        )
    return frames // tubelet, size[0] // side, size[1] // side
