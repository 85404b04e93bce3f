"""The `shapes` dataset, rendered in memory as it is read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from ovvol_bench.benchmark import Dataset
from ovvol_bench.data.shapes.render import Video, render
from ovvol_bench.data.shapes.world import (
    FRAMES,
    HEIGHT,
    WIDTH,
    Split,
    draw_scene,
    shapes_vocabulary,
    video_id,
)
from ovvol_bench.errors import SettingError
from ovvol_bench.naming.vocabulary import Vocabulary
from ovvol_bench.types import Clip, ClipInfo

# Part of the fingerprint: raise it whenever a change moves a pixel or a box.
WORLD_VERSION = 1

_VIDEOS_KEPT = 8


class Shapes(Dataset):
    """Clips of the rendered world: 96 x 128 pixels, 24 frames a video, 1 to 4 objects.

    Args:
        split: ``train``, ``val`` or ``test``; the splits share no seed, hue, period or angle.
        videos: number of videos, at least 1.
        seed: another seed is another world of the same kind.
        frames_per_clip: T, a divisor of 24.

    Raises:
        SettingError: if a number is out of range.
    """

    def __init__(self, split: Split, videos: int, seed: int = 0, frames_per_clip: int = 8) -> None:
        if videos < 1:
            raise SettingError(f"dataset.videos={videos}: expected at least 1.")
        if frames_per_clip < 1 or FRAMES % frames_per_clip:
            raise SettingError(
                f"dataset.frames_per_clip={frames_per_clip}: expected a divisor of {FRAMES}, the frames of a"
                " shapes video."
            )
        self.vocabulary: Vocabulary = shapes_vocabulary()
        self.skipped: Mapping[str, int] = {}
        self._split: Split = split
        self._videos, self._seed, self._frames = videos, seed, frames_per_clip
        # Clips of a video are read one after the other, first for pixels, later for truth.
        self._video = lru_cache(_VIDEOS_KEPT)(self._render)

    def __len__(self) -> int:
        return self._videos * (FRAMES // self._frames)

    def info(self, index: int) -> ClipInfo:
        """Identity and truth; masks included."""
        video, frames = self._locate(index)
        name = video_id(self._split, video)
        return ClipInfo(
            id=f"{name}/{frames[0]:06d}",
            video=name,
            frame_indices=frames,
            frame_size=(HEIGHT, WIDTH),
            truth=tuple(self._video(video).truth[t] for t in frames),
        )

    def clip(self, index: int) -> Clip:
        """Pixels as they would read back from JPEG files."""
        video, frames = self._locate(index)
        pixels = self._video(video).frames[frames[0] : frames[-1] + 1]
        return Clip(self.info(index), np.asarray(pixels / np.float32(255), np.float32))

    def fingerprint(self) -> str:
        """Hash of the arguments and of the renderer's version: they decide every pixel."""
        what = f"shapes {WORLD_VERSION} {self._split} {self._videos} {self._seed} {self._frames}"
        return hashlib.sha256(what.encode()).hexdigest()

    def _locate(self, index: int) -> tuple[int, tuple[int, ...]]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        video, clip = divmod(index, FRAMES // self._frames)
        return video, tuple(range(clip * self._frames, (clip + 1) * self._frames))

    def _render(self, video: int) -> Video:
        return render(draw_scene(self._split, video, self._seed))
