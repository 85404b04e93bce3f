"""What slot attention learns from: clips of videos at several frame rates, or their cached features."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ovvol_bench.benchmark import TrainingVideos
from ovvol_bench.data.augment import Augmentation, resize_clip
from ovvol_bench.data.transforms import Size, target_size
from ovvol_bench.errors import SettingError
from ovvol_bench.training import Batch, Draws, Examples
from ovvol_bench.training.features import CachedFeatures, FixedClips

NATIVE = "native"
"""Among sizes: each video at its own."""

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
    """How clips are cut from videos.

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
class SlotDraws:
    """What an example needs besides the clip.

    Attributes:
        slots: (K, slot_dim) of the noise that slots start from.
        steps: S, time steps of the features.
        decoded: how many of them are decoded, the same ones in all examples of a step; None: all.
    """

    slots: tuple[int, int]
    steps: int
    decoded: int | None = None

    def __post_init__(self) -> None:
        if self.decoded is not None and not 1 <= self.decoded <= self.steps:
            raise SettingError(
                f"recipe.decoded_frames={self.decoded}: expected 1 to {self.steps}, the time steps of a "
                "clip's features, or none for all."
            )

    def draw(self, draws: Draws) -> Batch:
        """``noise`` (K, slot_dim), and where not all time steps are decoded, ``steps`` (s,)."""
        noise: Batch = {"noise": torch.randn(self.slots, generator=draws.torch)}
        if self.decoded is None:
            return noise
        chosen = draws.shared.permutation(self.steps)[: self.decoded]
        return {**noise, "steps": torch.from_numpy(np.sort(chosen))}


@dataclass(frozen=True)
class ClipNames:
    """Which clip of which video an index means.

    Attributes:
        videos: that clips are cut from.
        per_video: clips of each.
    """

    videos: TrainingVideos
    per_video: int

    def __len__(self) -> int:
        return len(self.videos) * self.per_video

    def video(self, index: int) -> int:
        """The clip's video."""
        return index % len(self.videos)

    def name(self, index: int) -> str:
        """What the clip is called, unique and stable over runs."""
        return f"{self.videos.name(self.video(index))} clip {index // len(self.videos)}"


class VideoClips(Examples):
    """Clips drawn anew in every pass.

    Args:
        videos: to draw from.
        sampling: how.
        slots: what else an example needs.
    """

    def __init__(self, videos: TrainingVideos, sampling: Sampling, slots: SlotDraws) -> None:
        self.videos, self.sampling, self.slots = videos, sampling, slots
        self._names = ClipNames(videos, sampling.clips_per_video)

    def __len__(self) -> int:
        """See `Examples`."""
        return len(self._names)

    def name(self, index: int) -> str:
        """See `Examples`."""
        return self._names.name(index)

    def example(self, index: int, draws: Draws) -> Batch:
        """``video`` (T, H, W, 3) uint8, and what `SlotDraws` draws."""
        sizes = self.sampling.sizes
        size = sizes if isinstance(sizes, NativeSize) else sizes[draws.shared.integers(len(sizes))]
        video = self._video(index, draws)
        positions = self.sampling.positions(self.videos.length(video), draws.numpy)
        frames = read_clip(self.videos, video, positions, size, draws.numpy)
        return {"video": torch.from_numpy(frames), **self.slots.draw(draws)}

    def _video(self, index: int, draws: Draws) -> int:
        if not self.sampling.same_video:
            return self._names.video(index)
        videos_before = draws.place // self.sampling.clips_per_video
        return int(draws.shared.spawn(1)[0].integers(len(self.videos), size=videos_before + 1)[-1])


class VideoFixedClips(FixedClips):
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
        """See `FixedClips`."""
        return len(self.names)

    def frames(self, index: int) -> npt.NDArray[np.uint8]:
        """See `FixedClips`."""
        positions, rng = self._drawn(index)
        return read_clip(self.names.videos, self.names.video(index), positions, self.size, rng)

    def fingerprint(self) -> str:
        """See `FixedClips`."""
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
        slots: what else an example needs.
    """

    def __init__(self, names: ClipNames, features: Sequence[CachedFeatures], slots: SlotDraws) -> None:
        self._names, self._features, self._slots = names, features, slots

    def __len__(self) -> int:
        """See `Examples`."""
        return len(self._names)

    def name(self, index: int) -> str:
        """See `Examples`."""
        return self._names.name(index)

    def example(self, index: int, draws: Draws) -> Batch:
        """``features`` (S, h, w, D) float16, and what `SlotDraws` draws."""
        features = self._features[int(draws.shared.integers(len(self._features)))]
        return {"features": features[index], **self._slots.draw(draws)}


def read_clip(
    videos: TrainingVideos,
    video: int,
    positions: list[int],
    size: Size | NativeSize,
    rng: np.random.Generator,
) -> npt.NDArray[np.uint8]:
    """(T, H, W, 3) frames: the largest window of the shape of ``size``, at a random place, resized.

    Whole frames are resized where the size is the video's own.
    """
    wanted, places = np.unique(positions, return_inverse=True)
    frames = videos.frames(video, wanted.tolist())[places]
    if isinstance(size, NativeSize):
        stored = (frames.shape[1], frames.shape[2])
        return resize_clip(frames, target_size(stored, size.short_side, size.multiple))
    return np.ascontiguousarray(_WHOLE.apply(frames, size, rng))


def read_sizes(sizes: tuple[str, ...], patch_size: int, short_side: int) -> tuple[Size, ...] | NativeSize:
    """Sizes as they are typed, HEIGHTxWIDTH, or ``native``.

    Args:
        sizes: for example ("224x224", "224x400").
        patch_size: what the sides must be multiples of.
        short_side: of native ones, pixels.

    Returns:
        (height, width) of each, or that each video has its own.

    Raises:
        SettingError: if there is none, or one is not of that form or no multiple.
    """
    if sizes == (NATIVE,):
        return NativeSize(short_side, patch_size)
    found = tuple(_size(text) for text in sizes)
    wrong = [text for text, size in zip(sizes, found, strict=True) if not _fits(size, patch_size)]
    if wrong or not found:
        raise SettingError(
            f"recipe.sizes={_listed(wrong or sizes)}: expected HEIGHTxWIDTH, such as 224x400, one or "
            f"several, in multiples of the encoder's patch of {patch_size} pixels; or {NATIVE} alone."
        )
    return found


def _size(text: str) -> Size:
    height, _, width = text.lower().partition("x")
    return (int(height), int(width)) if height.isdecimal() and width.isdecimal() else (0, 0)


def _fits(size: Size, patch_size: int) -> bool:
    return min(size) > 0 and all(side % patch_size == 0 for side in size)


def _listed(values: Iterable[object]) -> str:
    return ",".join(map(str, values)) or "none"
