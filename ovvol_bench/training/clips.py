"""Clips of videos to learn from, drawn anew in every pass, or fixed so that their features can be cached."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ovvol_bench.data.base import TrainingVideos
from ovvol_bench.data.transforms import Augmentation, Size, resize_clip, target_size
from ovvol_bench.errors import SettingError
from ovvol_bench.training.features import CachedFeatures, FixedClips
from ovvol_bench.training.recipe import Batch, Draws, Examples

NATIVE = "native"
"""Among sizes: each video at its own."""

Draw = Callable[[Draws], Batch]
"""Further tensors of an example, such as the noise that slots start from."""

_WHOLE = Augmentation(scales=(1.0,), flip=False)


@dataclass(frozen=True)
class NativeSize:
    """Frames keep the shape of their video, up to the rounding of the long side, see `target_size`.

    Attributes:
        short_side: of the frames, pixels.
        multiple: what the long side is a multiple of, pixels.

    Raises:
        SettingError: if the short side is no multiple.
    """

    short_side: int
    multiple: int

    def __post_init__(self) -> None:
        if self.short_side < 1 or self.short_side % self.multiple:
            raise SettingError(
                f"recipe.short_side={self.short_side}: expected a multiple of the encoder's patch of "
                f"{self.multiple} pixels."
            )


@dataclass(frozen=True)
class Sampling:
    """Numbers by which clips are cut from videos.

    Attributes:
        frames: T, of a clip.
        strides: every n-th frame is taken; n is drawn from these that the video is long enough for.
        sizes: (height, width) of the frames, pixels, a step has one of them; or that of each video.
        clips_per_video: of a pass over the data.
        same_video: a step draws videos and takes ``clips_per_video`` clips after each other from each;
            false: clips of all videos are mixed.
    """

    frames: int
    strides: tuple[int, ...]
    sizes: tuple[Size, ...] | NativeSize
    clips_per_video: int = 1
    same_video: bool = False

    def __post_init__(self) -> None:
        if not self.strides or min(self.strides) < 1:
            raise SettingError(f"recipe.strides={_listed(self.strides)}: expected whole numbers from 1.")
        if self.clips_per_video < 1:
            raise SettingError(f"recipe.clips_per_video={self.clips_per_video}: expected at least 1.")
        if isinstance(self.sizes, NativeSize) and not self.same_video:
            raise SettingError(
                f"recipe.sizes={NATIVE}: clips that are computed together need one size, that of one video. "
                "Set recipe.same_video_batch=true."
            )

    @property
    def alike(self) -> int | None:
        """Clips after each other in a step that have one size; None: all."""
        return self.clips_per_video if isinstance(self.sizes, NativeSize) else None

    def positions(self, length: int, rng: np.random.Generator) -> list[int]:
        """Draw (T,) frames of a video; where it is shorter than a clip, its last frame is repeated."""
        fitting = [stride for stride in self.strides if (self.frames - 1) * stride < length]
        stride = int(rng.choice(fitting or [1]))
        start = int(rng.integers(max(1, length - (self.frames - 1) * stride)))
        return [min(start + stride * step, length - 1) for step in range(self.frames)]


@dataclass(frozen=True)
class ClipNames:
    """Videos and names of clips by index, several of each video.

    Attributes:
        videos: that clips are cut from.
        per_video: clips of each.
    """

    videos: TrainingVideos
    per_video: int

    def __len__(self) -> int:
        return len(self.videos) * self.per_video

    def video(self, index: int) -> int:
        """Return the clip's video."""
        return index % len(self.videos)

    def name(self, index: int) -> str:
        """Return the clip's name, unique and stable over runs."""
        return f"{self.videos.name(self.video(index))} clip {index // len(self.videos)}"


class VideoClips(Examples):
    """Clips drawn anew in every pass.

    Args:
        videos: to draw from.
        sampling: how clips are cut.
        draw: what else an example has.
    """

    def __init__(self, videos: TrainingVideos, sampling: Sampling, draw: Draw) -> None:
        self.videos, self.sampling, self.draw = videos, sampling, draw
        self._names = ClipNames(videos, sampling.clips_per_video)

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        return self._names.name(index)

    def example(self, index: int, draws: Draws) -> Batch:
        """Read ``video`` (T, H, W, 3) uint8, and draw the rest."""
        sampling, video = self.sampling, self._names.video(index)
        sizes = sampling.sizes
        size = sizes if isinstance(sizes, NativeSize) else sizes[draws.shared.integers(len(sizes))]
        if sampling.same_video:
            # The step's own draws: which videos it has follows from nothing but the place in the step.
            before = draws.place // sampling.clips_per_video
            video = int(draws.shared.spawn(1)[0].integers(len(self.videos), size=before + 1)[-1])
        positions = sampling.positions(self.videos.length(video), draws.numpy)
        frames = read_clip(self.videos, video, positions, size, draws.numpy)
        return {"video": torch.from_numpy(frames), **self.draw(draws)}


class FixedVideoClips(FixedClips):
    """Clips drawn once, from the seed, the video and a running number.

    Args:
        videos: to draw from.
        sampling: how; of its sizes the one given counts.
        size: (height, width) of the frames, pixels.
        seed: of the draws.
    """

    def __init__(self, videos: TrainingVideos, sampling: Sampling, size: Size, seed: int) -> None:
        self.names = ClipNames(videos, sampling.clips_per_video)
        self.frame_count, self.size = sampling.frames, size
        self._sampling, self._seed = sampling, seed

    def __len__(self) -> int:
        return len(self.names)

    def frames(self, index: int) -> npt.NDArray[np.uint8]:
        positions, rng = self._drawn(index)
        return read_clip(self.names.videos, self.names.video(index), positions, self.size, rng)

    def fingerprint(self) -> str:
        clips = [(self.names.name(index), self._drawn(index)[0]) for index in range(len(self))]
        what = (self.names.videos.fingerprint(), self.size, self._seed, clips)
        return hashlib.sha256(repr(what).encode()).hexdigest()

    def _drawn(self, index: int) -> tuple[list[int], np.random.Generator]:
        rng = Draws(f"{self._seed}\0fixed\0{self.names.name(index)}", "").numpy
        return self._sampling.positions(self.names.videos.length(self.names.video(index)), rng), rng


class CachedClips(Examples):
    """Features of fixed clips.

    Args:
        names: of the clips.
        features: of all of them, once for every size.
        draw: what else an example has.
    """

    def __init__(self, names: ClipNames, features: Sequence[CachedFeatures], draw: Draw) -> None:
        self._names, self._features, self.draw = names, features, draw

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        return self._names.name(index)

    def example(self, index: int, draws: Draws) -> Batch:
        """Read ``features`` (S, h, w, D) float16, and draw the rest."""
        features = self._features[int(draws.shared.integers(len(self._features)))]
        return {"features": features[index], **self.draw(draws)}


def read_clip(
    videos: TrainingVideos,
    video: int,
    positions: list[int],
    size: Size | NativeSize,
    rng: np.random.Generator,
) -> npt.NDArray[np.uint8]:
    """Read frames (T, H, W, 3): the largest window of the shape of ``size``, at a random place, resized.

    Whole frames are resized where the size is the video's own.
    """
    wanted, places = np.unique(positions, return_inverse=True)
    frames = videos.frames(video, wanted.tolist())[places]
    if isinstance(size, NativeSize):
        stored = (frames.shape[1], frames.shape[2])
        return resize_clip(frames, target_size(stored, size.short_side, size.multiple))
    return np.ascontiguousarray(_WHOLE.apply(frames, size, rng))


def read_sizes(sizes: tuple[str, ...], patch_size: int, short_side: int) -> tuple[Size, ...] | NativeSize:
    """Read sizes as they are typed, HEIGHTxWIDTH, or ``native``.

    Args:
        sizes: for example ("224x224", "224x400").
        patch_size: what the sides must be multiples of.
        short_side: of native ones, pixels.

    Returns:
        (height, width) of each; or the native one, each video's own.

    Raises:
        SettingError: if there is none, or one is not of that form or no multiple.
    """
    if sizes == (NATIVE,):
        return NativeSize(short_side, patch_size)
    found, wrong = [], []
    for text in sizes:
        height, _, width = text.lower().partition("x")
        size = (int(height), int(width)) if height.isdecimal() and width.isdecimal() else (0, 0)
        found.append(size)
        if min(size) < 1 or any(side % patch_size for side in size):
            wrong.append(text)
    if wrong or not found:
        raise SettingError(
            f"recipe.sizes={_listed(wrong or sizes)}: expected HEIGHTxWIDTH, such as 224x400, one or "
            f"several, in multiples of the encoder's patch of {patch_size} pixels; or {NATIVE} alone."
        )
    return tuple(found)


def _listed(values: Iterable[object]) -> str:
    return ",".join(map(str, values)) or "none"
