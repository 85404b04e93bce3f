"""Clips of videos with a part of their patches hidden: what masked pre-training learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ovvol_bench import DataError, SettingError
from ovvol_bench.benchmark import TrainingVideos
from ovvol_bench.data.augment import Augmentation
from ovvol_bench.training import Batch, Draws, Examples

from .model import VideoMAESettings
from .training import decoded_part, tube_mask

TOO_SHORT = "videos shorter than a clip"
_NAMED = 5  # videos that an error lists


@dataclass(frozen=True)
class ClipNumbers:
    """How clips are cut from videos and how much of them is hidden.

    Attributes:
        frames: T, of a clip.
        sampling_rates: steps from one frame of a clip to the next, one of which is drawn for each clip.
        size: (height, width) of a clip, pixels.
        augmentation: what happens to its frames.
        mask_ratio: share of the patches of a frame that is hidden, in (0, 1).
        decoded_share: share of the hidden patches that is predicted, in (0, 1].

    Raises:
        SettingError: if a number is out of range.
    """

    frames: int
    sampling_rates: tuple[int, ...]
    size: tuple[int, int]
    augmentation: Augmentation
    mask_ratio: float
    decoded_share: float

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise SettingError(f"recipe.frames={self.frames}: expected at least 1.")
        if not self.sampling_rates or min(self.sampling_rates) < 1:
            given = ",".join(map(str, self.sampling_rates)) or "none"
            raise SettingError(f"recipe.sampling_rate={given}: expected steps of at least 1 frame.")
        if not 0 < self.decoded_share <= 1:
            raise SettingError(
                f"recipe.decoded_share={self.decoded_share:g}: expected a share above 0, up to 1."
            )

    def grid(self, encoder: VideoMAESettings) -> tuple[int, int, int]:
        """(S, h, w) of a clip's tokens.

        Raises:
            SettingError: if the encoder does not take such clips.
        """
        side, tubelet = encoder.patch_size, encoder.tubelet_size
        if min(self.size) < 1 or self.size[0] % side or self.size[1] % side:
            near = [max(1, round(pixels / side)) * side for pixels in self.size]
            raise SettingError(
                f"recipe.size={self.size[0]},{self.size[1]} (height, width): expected multiples of "
                f"encoder.patch_size={side}, such as {near[0]},{near[1]}."
            )
        if self.frames % tubelet or self.frames > encoder.position_frames:
            raise SettingError(
                f"recipe.frames={self.frames}: expected a multiple of encoder.tubelet_size={tubelet}, up to "
                f"encoder.position_frames={encoder.position_frames}."
            )
        return self.frames // tubelet, self.size[0] // side, self.size[1] // side


def draw_positions(length: int, frames: int, rates: Sequence[int], rng: np.random.Generator) -> range:
    """Draw the frames of a clip: a sampling rate, then a start.

    Where the video is too short for the rate drawn, the largest that fits takes its place: no frame is
    shown twice.

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
        rate = min(rate, (length - 1) // (frames - 1))
    span = (frames - 1) * rate + 1
    start = int(rng.integers(length - span + 1))
    return range(start, start + span, rate)


class MaskedClips(Examples):
    """One clip of every video.

    An example has ``video`` (T, 3, H, W) uint8 and ``mask`` (S*h*w,) bool, true = hidden; with a
    ``decoded_share`` below 1 also ``decoded`` (S*h*w,) bool, true = to be predicted.

    Args:
        videos: to cut from. Those shorter than a clip are left out.
        numbers: of the clips.
        encoder: that the clips are for.

    Attributes:
        skipped: how many videos were left out, by reason.

    Raises:
        SettingError: if the encoder does not take such clips, or nothing or all of them is hidden.
        DataError: if no video is long enough.
    """

    def __init__(self, videos: TrainingVideos, numbers: ClipNumbers, encoder: VideoMAESettings) -> None:
        self._videos, self._numbers = videos, numbers
        self._grid = numbers.grid(encoder)
        tube_mask(self._grid, numbers.mask_ratio, torch.Generator())  # refuses what can't be drawn
        self._kept = [index for index in range(len(videos)) if videos.length(index) >= numbers.frames]
        if not self._kept:
            raise DataError(_too_short(videos, numbers.frames))
        self.skipped = {TOO_SHORT: len(videos) - len(self._kept)}

    def __len__(self) -> int:
        return len(self._kept)

    def name(self, index: int) -> str:
        """The video's name."""
        return self._videos.name(self._kept[index])

    def example(self, index: int, draws: Draws) -> Batch:
        """A clip and its masks."""
        numbers, video = self._numbers, self._kept[index]
        length = self._videos.length(video)
        positions = draw_positions(length, numbers.frames, numbers.sampling_rates, draws.numpy)
        frames = self._videos.frames(video, positions)
        clip = numbers.augmentation.apply(frames, numbers.size, draws.numpy)
        mask = tube_mask(self._grid, numbers.mask_ratio, draws.torch)[0]
        batch = {"video": torch.from_numpy(np.ascontiguousarray(clip.transpose(0, 3, 1, 2))), "mask": mask}
        if numbers.decoded_share < 1:
            batch["decoded"] = decoded_part(mask, numbers.decoded_share, draws.torch)
        return batch


def _too_short(videos: TrainingVideos, frames: int) -> str:
    some = ", ".join(
        f"{videos.name(index)} ({videos.length(index)})" for index in range(min(len(videos), _NAMED))
    )
    more = f" and {len(videos) - _NAMED} more" if len(videos) > _NAMED else ""
    return (
        f"none of {len(videos)} videos has the recipe.frames={frames} frames of a clip: {some}{more}. "
        "Lower recipe.frames or give longer videos."
    )
