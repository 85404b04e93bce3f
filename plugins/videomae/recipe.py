"""How VideoMAE is pre-trained: hide most of a clip, predict its pixels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ovvol_bench import SettingError
from ovvol_bench.components import Component
from ovvol_bench.training import Batch, Draws, Losses, Optimization, Recipe, TrainingTask
from ovvol_bench.training.optimization import Factor, warmup_cosine
from ovvol_bench.weights import State, save_state

from .checkpoint import header_of
from .clips import ClipNumbers, MaskedClips
from .model import LAYER_NORM_EPS, VideoMAE, VideoMAEPretraining
from .pictures import comparison
from .training import pretraining_loss

_CALIBRATED_AT_ONCE = 16  # clips


@dataclass(frozen=True)
class DecoderNumbers:
    """What predicts the pixels.

    Attributes:
        dim, depth, heads: of its transformer; ``dim`` is a multiple of ``heads``.
        norm_targets: predict pixels normalised within each patch and colour.

    Raises:
        SettingError: if the numbers do not fit together.
    """

    dim: int
    depth: int
    heads: int
    norm_targets: bool

    def __post_init__(self) -> None:
        for name in ("dim", "depth", "heads"):
            if getattr(self, name) < 1:
                raise SettingError(f"recipe.decoder_{name}={getattr(self, name)}: expected at least 1.")
        if self.dim % self.heads:
            raise SettingError(
                f"recipe.decoder_dim={self.dim}: expected a multiple of recipe.decoder_heads={self.heads}."
            )


@dataclass(frozen=True)
class RateNumbers:
    """The learning rate over time: a rise, then half a cosine.

    Attributes:
        peak: after the rise.
        final: at the end, in [0, peak].
        warmup_epochs: of the rise, below ``epochs``.
        epochs: in all.
        warmup_steps: of the rise, in place of ``warmup_epochs``; None: those count.

    Raises:
        SettingError: if a number is out of range.
    """

    peak: float
    final: float
    warmup_epochs: float
    epochs: float
    warmup_steps: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("learning_rate", self.peak), ("epochs", self.epochs)):
            if not value > 0:
                raise SettingError(f"recipe.{name}={value:g}: expected more than 0.")
        if not 0 <= self.final <= self.peak:
            raise SettingError(
                f"recipe.final_learning_rate={self.final:g}: expected 0 to "
                f"recipe.learning_rate={self.peak:g}."
            )
        if self.warmup_steps is not None and self.warmup_steps < 0:
            raise SettingError(f"recipe.warmup_steps={self.warmup_steps}: expected 0 or more, or none.")
        if not 0 <= self.warmup_epochs < self.epochs:
            raise SettingError(
                f"recipe.warmup_epochs={self.warmup_epochs:g}: expected 0 or more, and fewer than "
                f"recipe.epochs={self.epochs:g}."
            )

    def factor(self) -> Factor:
        """Of ``peak``, by optimizer step."""
        return self._factor

    def _factor(self, step: int, total: int) -> float:
        share = self.warmup_epochs / self.epochs
        warmup = round(share * total) if self.warmup_steps is None else self.warmup_steps
        return warmup_cosine(step, total, warmup, self.final / self.peak, from_zero=True)


class MaskedLoss(nn.Module):
    """The masked autoencoder with its loss.

    Args:
        model: to be trained.
    """

    def __init__(self, model: VideoMAEPretraining) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Losses:
        """The ``loss`` of a batch, see `pretraining_loss`.

        Args:
            batch: ``video`` (B, T, 3, H, W) float, normalised; ``mask`` (B, S*h*w) bool; where only a part
                is predicted, ``decoded`` (B, S*h*w) bool.
        """
        return {"loss": pretraining_loss(self.model, batch["video"], batch["mask"], batch.get("decoded"))}


class PretrainingRecipe(Recipe):
    """Masked pre-training of an encoder.

    Args:
        task: with a VideoMAE encoder, whose weights are where training starts, and datasets that offer
            videos.
        clips: what the encoder learns from. Validation clips are neither scaled nor mirrored.
        decoder: what it learns with.
        optimization: the numbers.
        calibrate_clips: training clips on which the final norm is set at the end; 0: it stays as trained.
        drop_path: of the encoder's last block, see `Block`; it rises evenly from 0 in the first.

    Raises:
        SettingError: if the numbers do not fit the encoder, or a dataset offers no videos.
        DataError: if no video is long enough.
    """

    _model: VideoMAEPretraining

    def __init__(
        self,
        task: TrainingTask,
        clips: ClipNumbers,
        decoder: DecoderNumbers,
        optimization: Optimization,
        calibrate_clips: int,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        component = _checked(task.component, calibrate_clips)
        self.optimization, self._seed, self._calibrate_clips = optimization, task.seed, calibrate_clips
        self.examples = MaskedClips(task.dataset.training_videos(), clips, component.settings)
        if task.validation is not None:
            plain = replace(clips, augmentation=replace(clips.augmentation, scales=(1.0,), flip=False))
            self.validation = MaskedClips(task.validation.training_videos(), plain, component.settings)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(task.seed)
            self.hold(_model=_pretraining(component, decoder))
        if not 0 <= drop_path < 1:
            raise SettingError(f"recipe.drop_path={drop_path:g}: expected a share from 0 and below 1.")
        blocks = self._model.encoder.blocks
        for number, block in enumerate(blocks):
            block.drop_path = drop_path * number / max(1, len(blocks) - 1)  # type: ignore[assignment]
        self.module = MaskedLoss(self._model)
        self._calibrated: State = {}

    def forward(self, batch: Batch) -> Losses:
        """Losses of a prepared batch."""
        losses: Losses = self.module(batch)
        return losses

    def prepare(self, batch: Batch) -> Batch:
        """Normalise ``video``, as late as that can be: (B, T, 3, H, W) uint8 to float32."""
        encoder = self._model.encoder
        pixels = batch["video"].float()
        mean, std = (255 * pixels.new_tensor(value).view(3, 1, 1) for value in (encoder.mean, encoder.std))
        return {**batch, "video": (pixels - mean) / std}

    def pictures(self, batch: Batch) -> Mapping[str, npt.NDArray[np.uint8]]:
        """``reconstruction``: some frames of some clips, each whole, masked and filled in."""
        return {"reconstruction": comparison(self._model, batch["video"], batch["mask"])}

    def finish(self) -> None:
        """Set the final norm for the weights to come, if asked to; the module stays as it is."""
        if self._calibrate_clips:
            encoder = _like(self._model.encoder).to(self._model.mask_token.device)
            self._calibrated = calibrated_norm(encoder, self._calibration_videos())

    def save_weights(self, path: Path, about: Mapping[str, str]) -> None:
        """The encoder, final norm included; it is for ``load_weights`` with and without it."""
        save_state(
            {**self._model.encoder.state_dict(), **self._calibrated},
            path,
            {**about, **header_of(self._model.encoder.settings)},
        )

    def _calibration_videos(self) -> Iterable[Tensor]:
        """Training clips, normalised, some at a time."""
        device = self._model.mask_token.device
        order = np.random.default_rng(self._seed).permutation(len(self.examples))
        wanted = [int(order[number % len(order)]) for number in range(self._calibrate_clips)]
        draws = [
            Draws(f"{self._seed}\0calibration {n}", f"{self._seed}\0calibration") for n in range(len(wanted))
        ]
        for first in range(0, len(wanted), _CALIBRATED_AT_ONCE):
            part = slice(first, first + _CALIBRATED_AT_ONCE)
            read = map(self.examples.example, wanted[part], draws[part])
            video = torch.stack([example["video"] for example in read]).to(device)
            yield self.prepare({"video": video})["video"]


def calibrated_norm(encoder: VideoMAE, videos: Iterable[Tensor]) -> State:
    """The final norm after which every feature channel has mean 0 and variance 1.

    The features of a small network are one large constant vector with a hundredth of variation on top,
    which a reconstruction loss on them would be spent on.

    Args:
        encoder: with its final norm; left as it is.
        videos: batches of (B, T, 3, H, W) float, normalised, at least one.

    Returns:
        ``norm.weight`` and ``norm.bias``. A channel that never varies stays without variation.
    """
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    with torch.no_grad():
        for video in videos:
            features = encoder.encode(video).grid.flatten(0, 3).double().cpu()
            count += len(features)
            total = total + features.sum(0)
            squares = squares + features.square().sum(0)
    mean = total / count
    deviation = (squares / count - mean.square()).clamp(min=0).sqrt().clamp(min=LAYER_NORM_EPS)
    weight, bias = (value.detach().double().cpu() for value in encoder.norm.parameters())
    return {"norm.weight": (weight / deviation).float(), "norm.bias": ((bias - mean) / deviation).float()}


def _checked(component: Component, calibrate_clips: int) -> VideoMAE:
    if not isinstance(component, VideoMAE):
        raise SettingError(
            f"the recipe videomae trains a videomae encoder; it was given a {type(component).__name__}."
        )
    if calibrate_clips < 0:
        raise SettingError(f"recipe.calibrate_clips={calibrate_clips}: expected 0 or more clips.")
    if calibrate_clips and not component.settings.final_norm:
        raise SettingError(
            f"recipe.calibrate_clips={calibrate_clips} sets the final norm, which this encoder does not "
            "apply. Set encoder.final_norm=true, or leave calibrate_clips at 0."
        )
    return component


def _pretraining(component: VideoMAE, decoder: DecoderNumbers) -> VideoMAEPretraining:
    """A masked autoencoder that starts from the component's weights, with a final norm in any case."""
    return VideoMAEPretraining(
        _like(component), decoder.dim, decoder.depth, decoder.heads, decoder.norm_targets
    )


def _like(component: VideoMAE) -> VideoMAE:
    """A float32 encoder with the same weights, and a final norm in any case."""
    encoder = VideoMAE(replace(component.settings, final_norm=True))
    encoder.load_state_dict({**encoder.state_dict(), **component.state_dict()})
    return encoder
