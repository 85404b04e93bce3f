"""Dataset ``shapes``, rendered in memory as it is read."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import Annotated, overload
from weakref import WeakValueDictionary
from zlib import compress, decompress

import numpy as np

from ovvol_bench.data.base import Dataset
from ovvol_bench.data.cache import cache_folder
from ovvol_bench.data.shapes.storage import RenderedWorld, World, render_world
from ovvol_bench.data.shapes.training import DEFAULT_PICTURES, PictureSettings, ShapesImages, ShapesVideos
from ovvol_bench.data.shapes.world import (
    FRAMES,
    HEIGHT,
    WIDTH,
    WORLD_VERSION,
    Split,
    Video,
    draw_scene,
    render,
    shapes_vocabulary,
    video_id,
)
from ovvol_bench.errors import SettingError
from ovvol_bench.naming.vocabulary import Vocabulary
from ovvol_bench.registry import ClipLength, Located
from ovvol_bench.types import Clip, ClipInfo, FrameTruth

_VIDEOS_KEPT = 8
_IMAGES_A_VIDEO = 20


class VideoTruth:
    """Truth of all frames of a video, which is rendered for it unless it has been for its pixels.

    Args:
        render: the video.
    """

    def __init__(self, render: Callable[[], Video]) -> None:
        self._render = render
        self._packed: bytes | None = None

    def keep(self, frames: Iterable[FrameTruth]) -> None:
        """Take in what was rendered."""
        # A run keeps the truth of every clip to score it; packed masks take a hundredth.
        self._packed = compress(pickle.dumps(tuple(frames)), level=4)

    @property
    def frames(self) -> tuple[FrameTruth, ...]:
        """Truth of every frame."""
        if self._packed is None:
            self.keep(self._render().truth)
        assert self._packed is not None
        return _unpacked(self._packed)


@lru_cache(_VIDEOS_KEPT)
def _unpacked(packed: bytes) -> tuple[FrameTruth, ...]:
    frames: tuple[FrameTruth, ...] = pickle.loads(decompress(packed))  # noqa: S301 - packed above, in this process
    return frames


class ClipTruth(Sequence[FrameTruth]):
    """Some frames of a video's truth, rendered when they are looked at.

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
        cache: folder for videos rendered to train on; None: the user's cache folder.
        images: to train on, pictures in a pass; None: 20 a video.
        pictures: what these show.

    Raises:
        SettingError: if a number is out of range.
    """

    def __init__(  # noqa: PLR0913 - settings
        self,
        split: Split,
        videos: int,
        seed: int = 0,
        frames_per_clip: int = 8,
        *,
        cache: str | None = None,
        images: int | None = None,
        pictures: PictureSettings = DEFAULT_PICTURES,
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
        if images is not None and images < 1:
            raise SettingError(f"dataset.images={images}: expected at least 1.")
        self.vocabulary: Vocabulary = shapes_vocabulary()
        self.skipped: Mapping[str, int] = {}
        self._split: Split = split
        self._videos, self._seed, self._frames = videos, seed, frames_per_clip
        self._cache, self._images, self._pictures = cache, images or _IMAGES_A_VIDEO * videos, pictures
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
        return ShapesImages(self._rendered, self._images, self._pictures)

    @cached_property
    def _rendered(self) -> RenderedWorld:
        world = World(self._split, self._videos, self._seed)
        return render_world(world, cache_folder(self._cache))

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


def open_shapes(  # noqa: PLR0913 - settings
    *,
    path: Annotated[Path | None, Located] = None,
    split: Split = "test",
    videos: int = 50,
    seed: int = 0,
    frames_per_clip: Annotated[int, ClipLength] = 8,
    images: int | None = None,
    empty_images: float = 0.4,
    name_backgrounds: bool = False,
    blended_backgrounds: float = 0.0,
    image_side: int = 64,
    crowded_images: bool = False,
    cache: Annotated[str | None, Located] = None,
) -> Dataset:
    """The built-in world of textured, moving objects: 96 x 128 pixels, 24 frames a video, 16 names.

    Args:
        path: folder that "ovvol-bench data make shapes" wrote; none: rendered in memory.
        split: train, val or test; only test shows the names that are held out of training.
        videos: how many to render; a folder is read whole.
        seed: another seed is another world of the same kind; of no effect for a folder.
        frames_per_clip: frames in a clip; in memory a divisor of 24.
        images: to train on, captioned pictures in a pass; none: 20 a video.
        empty_images: to train on, share of the pictures that show the background only.
        name_backgrounds: to train on, captions of pictures of objects speak of their backgrounds, too.
        blended_backgrounds: to train on, share of the pictures whose background is blended from those of
            several others, and called "background" alone, so that it isn't known by the few kinds there are.
        image_side: to train on, side of the square pictures, 64 to 96 pixels.
        crowded_images: to train on, pictures may show several objects, and captions name each of them.
        cache: folder for videos rendered to train on, 1.2 MB each; none: the user's cache folder.
    """
    if path is None:
        pictures = PictureSettings(
            empty_images, name_backgrounds, blended_backgrounds, image_side, crowded_images
        )
        return Shapes(split, videos, seed, frames_per_clip, cache=cache, images=images, pictures=pictures)
    # a tree on disk takes decoders that rendering does without
    from ovvol_bench.data.imagenet_vid.dataset import ImageNetVid
    from ovvol_bench.data.imagenet_vid.tree import find_tree
    from ovvol_bench.data.sampling import ClipSettings

    clips = ClipSettings(frames_per_clip, "all", 1, HEIGHT, multiple=16)
    return ImageNetVid(find_tree(path, split), shapes_vocabulary(), clips, cache_folder(cache))
