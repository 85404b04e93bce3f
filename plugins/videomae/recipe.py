"""Masked pre-training of VideoMAE: hide most of a clip, predict its pixels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ovvol_bench import SettingError
from ovvol_bench.registry.annotations import Layers, Width
from ovvol_bench.training import Batch, Draws, EncoderRecipe, Losses, TrainingTask, component_of
from ovvol_bench.weights import State, save_state

from .checkpoint import header_of
from .model import VideoMAE
from .pretraining import VideoMAEPretraining, decoded_part, pretraining_loss, reconstruction, tube_mask
from .settings import LAYER_NORM_EPS

_CALIBRATED_AT_ONCE = 16  # clips
_SHOWN_CLIPS, _SHOWN_FRAMES = 4, 3


class VideoMAERecipe(EncoderRecipe):
    """Pre-train the encoder: hide most patches of a clip, predict their pixels.

    Each video gives one clip a pass. Where it is too short for the sampling rate, the largest rate that
    fits is taken; videos shorter than ``frames`` are left out and counted.

    Args:
        task: with a VideoMAE encoder, whose weights are where training starts; it is left as it is.
        mask_ratio: share of the patches of a frame that is hidden, the same ones in every frame.
        decoder_dim: width of the decoder, a multiple of ``decoder_heads``.
        decoder_depth: its blocks.
        decoder_heads: its attention heads.
        norm_targets: predict pixels normalised within each patch and colour; false: pixels in [0, 1].
        decoded_share: share of the hidden patches that is predicted; below 1 the decoder costs less.
        calibrate_clips: training clips on which, at the end, the final norm of the saved encoder is set so
            that every channel has mean 0 and variance 1; 0: it is saved as trained.
        drop_path: share of clips that pass the encoder's last block by; it rises evenly from 0 in the first.

    Raises:
        SettingError: if a number is out of range or does not fit the encoder.
        DataError: if no video is long enough.
    """

    encoder: VideoMAE

    def __init__(
        self,
        task: TrainingTask,
        *,
        mask_ratio: float = 0.9,
        decoder_dim: Width = 384,
        decoder_depth: Layers = 4,
        decoder_heads: Layers = 6,
        norm_targets: bool = True,
        decoded_share: float = 1.0,
        calibrate_clips: int = 0,
        drop_path: float = 0.0,
        **base: Any,
    ) -> None:
        component = component_of(task, VideoMAE)
        super().__init__(task, **base)
        self._mask_ratio, self._decoded_share = mask_ratio, decoded_share
        self._calibrate_clips, self._seed = calibrate_clips, task.seed
        self._calibrated: State = {}
        if decoder_dim % decoder_heads:
            raise SettingError(
                f"recipe.decoder_dim={decoder_dim}: expected a multiple of "
                f"recipe.decoder_heads={decoder_heads}."
            )
        if not 0 < decoded_share <= 1:
            raise SettingError(f"recipe.decoded_share={decoded_share:g}: expected a share above 0, up to 1.")
        if not 0 <= drop_path < 1:
            raise SettingError(f"recipe.drop_path={drop_path:g}: expected a share from 0 and below 1.")
        if calibrate_clips < 0:
            raise SettingError(f"recipe.calibrate_clips={calibrate_clips}: expected 0 or more clips.")
        if calibrate_clips and not component.settings.final_norm:
            raise SettingError(
                f"recipe.calibrate_clips={calibrate_clips} sets the final norm, which this encoder does not "
                "apply. Set encoder.final_norm=true, or leave calibrate_clips at 0."
            )
        tube_mask(self.grid, mask_ratio, torch.Generator())  # refuses what can't be drawn
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(task.seed)
            self.hold(encoder=with_final_norm(component))  # trained as a part of the model
            self.model = VideoMAEPretraining(
                self.encoder, decoder_dim, decoder_depth, decoder_heads, norm_targets
            )
        blocks = self.encoder.blocks
        for number, block in enumerate(blocks):
            block.drop_path = drop_path * number / max(1, len(blocks) - 1)  # type: ignore[assignment]

    def draw(self, draws: Draws) -> Batch:
        """Draw ``mask`` (S*h*w,) bool, true = hidden, and where a part is predicted ``decoded``, alike."""
        mask = tube_mask(self.grid, self._mask_ratio, draws.torch)[0]
        if self._decoded_share == 1:
            return {"mask": mask}
        return {"mask": mask, "decoded": decoded_part(mask, self._decoded_share, draws.torch)}

    def losses(self, video: Tensor, batch: Batch) -> Losses:
        return {"loss": pretraining_loss(self.model, video, batch["mask"], batch.get("decoded"))}

    def pictures(self, batch: Batch) -> Mapping[str, npt.NDArray[np.uint8]]:
        """Draw ``reconstruction``: a row a clip of some frames, each whole, masked and filled in."""
        some = slice(_SHOWN_CLIPS)
        kinds = torch.stack(reconstruction(self.model, batch["video"][some], batch["mask"][some]), dim=2)
        shown = np.linspace(0, kinds.shape[1] - 1, min(_SHOWN_FRAMES, kinds.shape[1])).round().astype(int)
        # clip, frame, kind, row, column, colour -> clip, row, frame, kind, column, colour
        strip = kinds[:, shown.tolist()].permute(0, 3, 1, 2, 4, 5).flatten(2, 4).flatten(0, 1)
        return {"reconstruction": (strip.clamp(0, 1) * 255).round().byte().cpu().numpy()}

    def finish(self) -> None:
        """Set the final norm for the weights to come, if asked to; the module stays as it is."""
        if self._calibrate_clips:
            # A copy: in float32 whatever the engine made of the module, and without dropped paths.
            encoder = with_final_norm(self.encoder).to(self.model.mask_token.device)
            self._calibrated = calibrated_norm(encoder, self._calibration_videos())

    def save_weights(self, path: Path, about: Mapping[str, str]) -> None:
        """Write the encoder with its final norm; ``load_weights`` reads it with and without."""
        state = {**self.encoder.state_dict(), **self._calibrated}
        save_state(state, path, {**about, **header_of(self.encoder.settings)})

    def _calibration_videos(self) -> Iterable[Tensor]:
        """Training clips, normalised, some at a time."""
        order = np.random.default_rng(self._seed).permutation(len(self.examples))
        numbers = range(self._calibrate_clips)
        for first in numbers[::_CALIBRATED_AT_ONCE]:
            clips = [
                self.examples.example(
                    int(order[number % len(order)]),
                    Draws(f"{self._seed}\0calibration {number}", f"{self._seed}\0calibration"),
                )["video"]
                for number in numbers[first : first + _CALIBRATED_AT_ONCE]
            ]
            video = torch.stack(clips).to(self.model.mask_token.device)
            yield self.prepare({"video": video})["video"]


def with_final_norm(component: VideoMAE) -> VideoMAE:
    """Make a float32 encoder with the same weights, and a final norm in any case."""
    encoder = VideoMAE(replace(component.settings, final_norm=True))
    encoder.load_state_dict({**encoder.state_dict(), **component.state_dict()})
    return encoder


def calibrated_norm(encoder: VideoMAE, videos: Iterable[Tensor]) -> State:
    """Compute the final norm after which every feature channel has mean 0 and variance 1.

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
