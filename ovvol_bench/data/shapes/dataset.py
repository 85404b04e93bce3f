"""The `shapes` dataset, rendered in memory as it is read."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from threading import Lock
from typing import overload
from weakref import WeakValueDictionary
from zlib import compress, decompress

import numpy as np

from ovvol_bench.benchmark import Dataset
from ovvol_bench.data.cache import cache_folder
from ovvol_bench.data.shapes.render import Video, render
from ovvol_bench.data.shapes.rendered import RenderedWorld, World, render_world
from ovvol_bench.data.shapes.training import PictureSettings, ShapesImages, ShapesVideos
from ovvol_bench.data.shapes.world import (
    FRAMES,
    HEIGHT,
    WIDTH,
    WORLD_VERSION,
    Split,
    draw_scene,
    shapes_vocabulary,
    video_id,
)
from ovvol_bench.errors import SettingError
from ovvol_bench.naming.vocabulary import Vocabulary
from ovvol_bench.types import Clip, ClipInfo, FrameTruth

_VIDEOS_KEPT = 8
_IMAGES_A_VIDEO = 20


@dataclass(frozen=True)
class ShapesTraining:
    """What is trained on.

    Attributes:
        cache: folder that keeps rendered videos; None: the user's cache folder.
        images: pictures in a pass; None: 20 a video.
        pictures: what they show.

    Raises:
        SettingError: if a number is out of range.
    """

    cache: str | None = None
    images: int | None = None
    pictures: PictureSettings = field(default_factory=PictureSettings)

    def __post_init__(self) -> None:
        if self.images is not None and self.images < 1:
            raise SettingError(f"dataset.images={self.images}: expected at least 1.")


class VideoTruth:
    """Truth of all frames of a video, which is rendered for it unless it has been for its pixels.

    A run keeps the truth of every clip to score it, so it is packed: masks are a hundred times as large.

    Args:
        render: the video.
    """

    def __init__(self, render: Callable[[], Video]) -> None:
        self._render = render
        self._packed: bytes | None = None

    def keep(self, frames: Iterable[FrameTruth]) -> None:
        """Take in what was rendered."""
        self._packed = compress(pickle.dumps(tuple(frames)), level=4)

    @property
    def frames(self) -> tuple[FrameTruth, ...]:
        """One entry a frame."""
        if self._packed is None:
            self.keep(self._render().truth)
        assert self._packed is not None
        return _unpacked(self._packed)


@lru_cache(_VIDEOS_KEPT)
def _unpacked(packed: bytes) -> tuple[FrameTruth, ...]:
    frames: tuple[FrameTruth, ...] = pickle.loads(decompress(packed))  # noqa: S301 - packed above, in this process
    return frames


class ClipTruth(Sequence[FrameTruth]):
    """Some frames of a video's truth: a run lists all clips before its first, and renders them after.

    Args:
        video: whose truth.
        places: of the frames in the video.
    """

    def __init__(self, video: VideoTruth, places: tuple[int, ...]) -> None:
        self._video, self._places = video, places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> FrameTruth: ...
    @overload
    def __getitem__(self, index: slice) -> ClipTruth: ...
    def __getitem__(self, index: int | slice) -> FrameTruth | ClipTruth:
        """A frame's truth, or a part of the frames."""
        if isinstance(index, slice):
            return ClipTruth(self._video, self._places[index])
        return self._video.frames[self._places[index]]

    def __reduce__(self) -> tuple[type, tuple[tuple[FrameTruth, ...]]]:
        """Other processes get the frames."""
        return tuple, (tuple(self),)


class Shapes(Dataset):
    """Clips of the rendered world: 96 x 128 pixels, 24 frames a video, 1 to 4 objects.

    Args:
        split: ``train``, ``val`` or ``test``; the splits share no seed, hue, period or angle.
        videos: number of videos, at least 1.
        seed: another seed is another world of the same kind.
        frames_per_clip: T, a divisor of 24.
        training: what is trained on; None: the defaults.

    Raises:
        SettingError: if a number is out of range.
    """

    def __init__(
        self,
        split: Split,
        videos: int,
        seed: int = 0,
        frames_per_clip: int = 8,
        training: ShapesTraining | None = None,
    ) -> None:
        if videos < 1:
            raise SettingError(f"dataset.videos={videos}: expected at least 1.")
        if seed < 0:
            raise SettingError(f"dataset.seed={seed}: expected at least 0.")
        if frames_per_clip < 1 or FRAMES % frames_per_clip:
            raise SettingError(
                f"dataset.frames_per_clip={frames_per_clip}: expected a divisor of {FRAMES}, the frames of a"
                " shapes video."
            )
        self.vocabulary: Vocabulary = shapes_vocabulary()
        self.skipped: Mapping[str, int] = {}
        self._split: Split = split
        self._videos, self._seed, self._frames = videos, seed, frames_per_clip
        self._training = training or ShapesTraining()
        self._kept = lru_cache(_VIDEOS_KEPT)(self._render)  # clips of a video are read one after the other
        self._rendering = Lock()
        # Who looked at a clip before its video was rendered has its truth afterwards.
        self._truths: WeakValueDictionary[int, VideoTruth] = WeakValueDictionary()

    def __len__(self) -> int:
        return self._videos * (FRAMES // self._frames)

    def info(self, index: int) -> ClipInfo:
        """Identity and truth, masks included; the truth is rendered when it is looked at."""
        video, frames = self._locate(index)
        name = video_id(self._split, video)
        return ClipInfo(
            id=f"{name}/{frames[0]:06d}",
            video=name,
            frame_indices=frames,
            frame_size=(HEIGHT, WIDTH),
            truth=ClipTruth(self._truth(video), frames),
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

    def training_videos(self) -> ShapesVideos:
        """The videos, rendered into the cache with the first use.

        Raises:
            DataError: if the cache can't be written to, or what is there is damaged.
        """
        return ShapesVideos(self._rendered)

    def training_images(self) -> ShapesImages:
        """Pictures cut from the videos, see ``training_videos``."""
        training = self._training
        count = training.images or _IMAGES_A_VIDEO * self._videos
        return ShapesImages(self._rendered, count, training.pictures)

    @cached_property
    def _rendered(self) -> RenderedWorld:
        world = World(self._split, self._videos, self._seed)
        return render_world(world, cache_folder(self._training.cache))

    def _locate(self, index: int) -> tuple[int, tuple[int, ...]]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        video, clip = divmod(index, FRAMES // self._frames)
        return video, tuple(range(clip * self._frames, (clip + 1) * self._frames))

    def _truth(self, video: int) -> VideoTruth:
        return self._truths.setdefault(video, VideoTruth(partial(self._video, video)))

    def _video(self, video: int) -> Video:
        with self._rendering:  # threads that read clips of one video render it once
            return self._kept(video)

    def _render(self, video: int) -> Video:
        rendered = render(draw_scene(self._split, video, self._seed))
        self._truth(video).keep(rendered.truth)
        return rendered
