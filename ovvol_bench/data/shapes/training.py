"""What the `shapes` world offers to train on: its videos, and captioned pictures cut from them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ovvol_bench.benchmark import TrainingImage, TrainingImages, TrainingVideos
from ovvol_bench.data.shapes.blending import SOURCES, blend
from ovvol_bench.data.shapes.rendered import RenderedWorld
from ovvol_bench.data.shapes.world import (
    FRAMES,
    HEIGHT,
    SPLITS,
    WIDTH,
    shapes_vocabulary,
    video_id,
)
from ovvol_bench.errors import DataError

CROP = 64

_IMAGES = 1  # a stream of draws beside the scenes', which have the same first numbers
_MIN_PIXELS = 250  # of an object in a picture of it
_MIN_SHARE = 0.8  # of the object's visible pixels that a picture of it shows
_OTHERS_SHARE = 0.25  # of other objects' pixels in a picture, relative to its own object's
_MAX_STRAY_PIXELS = 60  # of objects in a picture of the background
_MOST_DRAWS = 10_000

_Window = tuple[slice, slice]


class ShapesVideos(TrainingVideos):
    """Rendered videos of 24 frames, 96 x 128 pixels.

    Args:
        rendered: from ``render_world``.
    """

    def __init__(self, rendered: RenderedWorld) -> None:
        self._rendered = rendered

    def __len__(self) -> int:
        return self._rendered.world.videos

    def name(self, index: int) -> str:
        """See ``TrainingVideos.name``."""
        return video_id(self._rendered.world.split, index)

    def length(self, index: int) -> int:
        """See ``TrainingVideos.length``: 24."""
        return FRAMES

    def frames(self, index: int, positions: Sequence[int]) -> npt.NDArray[np.uint8]:
        """See ``TrainingVideos.frames``."""
        return np.asarray(self._rendered.frames[index])[list(positions)]

    def fingerprint(self) -> str:
        """Hash of the renderer's version and arguments: they decide every pixel."""
        return hashlib.sha256(self._rendered.world.key.encode()).hexdigest()


@dataclass(frozen=True)
class _Draw:
    """A place to look for a picture.

    Attributes:
        video, time: of the frame.
        track: 1 + track id of the object to show; 0: none.
    """

    video: int
    time: int
    track: int


class ShapesImages(TrainingImages):
    """Windows of 64 x 64 pixels around one object each, or on the background, with all that is true of them.

    Of a striped star that is "striped star", "star" and "striped thing", of clouds "clouds" and
    "background", each in the vocabulary's template; of a star before clouds all of them, if asked for. A
    picture depends on the world and its index alone.

    Args:
        rendered: from ``render_world``.
        count: number of pictures.
        empty: share of pictures that show no object, in [0, 1].
        name_backgrounds: say what is behind an object, too.
        blended: share of pictures whose background is blended from those of ``SOURCES`` other pictures, in
            [0, 1]; it is of no kind, so that captions call it "background" alone. The objects stay.
    """

    def __init__(
        self,
        rendered: RenderedWorld,
        count: int,
        empty: float,
        name_backgrounds: bool = False,
        blended: float = 0.0,
    ) -> None:
        self._rendered = rendered
        self._count, self._empty, self._blended = count, empty, blended
        self._name_backgrounds = name_backgrounds
        vocabulary = shapes_vocabulary()
        self._names, self._template = vocabulary.names, vocabulary.templates[0]

    def __len__(self) -> int:
        return self._count

    def name(self, index: int) -> str:
        """See ``TrainingImages.name``."""
        return f"shapes_{self._rendered.world.split}_image_{index:08d}"

    def image(self, index: int) -> TrainingImage:
        """See ``TrainingImages.image``.

        Raises:
            DataError: if the videos are so few that none of them shows such a picture.
        """
        if not 0 <= index < self._count:
            raise IndexError(index)
        world = self._rendered.world
        rng = np.random.default_rng([world.seed, SPLITS.index(world.split), index, _IMAGES])
        draw, window = self._found(rng, bool(rng.uniform() < self._empty), index)
        mirrored = bool(rng.uniform() < 0.5)
        pixels = self._pixels(draw, window)
        is_blended = bool(rng.uniform() < self._blended)
        if is_blended:
            sources = [self._pixels(*self._found(rng, True, index, stray=0)) for _ in range(SOURCES)]
            objects = self._rendered.masks[draw.video, draw.time][window][..., None] > 0
            pixels = np.where(objects, pixels, blend(sources, rng))
        pixels = np.ascontiguousarray(pixels[:, ::-1] if mirrored else pixels)
        phrases = self._phrases(draw, named_kind=not is_blended)
        return TrainingImage(pixels, tuple(self._template % words for words in phrases))

    def fingerprint(self) -> str:
        """Hash of everything that decides the pictures."""
        what = f"{self._rendered.world.key} {self._count} {self._empty}" + " +" * self._name_backgrounds
        what += f" blended {self._blended}" * (self._blended > 0)
        return hashlib.sha256(what.encode()).hexdigest()

    def _found(
        self, rng: np.random.Generator, empty: bool, index: int, stray: int = _MAX_STRAY_PIXELS
    ) -> tuple[_Draw, _Window]:
        """A draw that makes a picture, and the part of the frame that it shows."""
        for _ in range(_MOST_DRAWS):
            draw = self._draw(rng, empty)
            window = self._window(draw, rng, stray)
            if window is not None:
                return draw, window
        raise DataError(
            f"{self.name(index)}: {self._rendered.world.videos} videos show no such picture. Raise "
            "dataset.videos, or set dataset.empty_images to 0 or 1."
        )

    def _draw(self, rng: np.random.Generator, empty: bool) -> _Draw:
        video = int(rng.integers(self._rendered.world.videos))
        objects = int(np.count_nonzero(self._rendered.classes[video]))
        return _Draw(video, int(rng.integers(FRAMES)), 0 if empty else int(rng.integers(1, objects + 1)))

    def _window(self, draw: _Draw, rng: np.random.Generator, stray: int) -> _Window | None:
        """A window that shows the object, or none, and little of any other; None if this draw has none."""
        mask = self._rendered.masks[draw.video, draw.time]
        if draw.track == 0:
            window = _window_around((rng.uniform(0, HEIGHT), rng.uniform(0, WIDTH)), rng)
            return window if np.count_nonzero(mask[window]) <= stray else None
        rows, columns = np.nonzero(mask == draw.track)
        if len(rows) < _MIN_PIXELS:
            return None
        window = _window_around((float(rows.mean()), float(columns.mean())), rng)
        own = np.count_nonzero(mask[window] == draw.track)
        others = np.count_nonzero(mask[window]) - own
        return window if own > _MIN_SHARE * len(rows) and others <= _OTHERS_SHARE * own else None

    def _pixels(self, draw: _Draw, window: _Window) -> npt.NDArray[np.uint8]:
        return np.asarray(self._rendered.frames[draw.video, draw.time][window])

    def _phrases(self, draw: _Draw, named_kind: bool) -> tuple[str, ...]:
        """What the picture shows, the most telling words first."""
        kind = (str(self._rendered.backgrounds[draw.video]),) if named_kind else ()
        background = (*kind, "background")
        if draw.track == 0:
            return background
        name = self._names[int(self._rendered.classes[draw.video, draw.track])]
        texture, form = name.split()
        return name, form, f"{texture} thing", *(background if self._name_backgrounds else ())


def _window_around(center: tuple[float, float], rng: np.random.Generator) -> _Window:
    """A window inside the frame whose middle lies within 12 pixels of ``center`` where there is room."""
    top, left = (
        int(np.clip(c - CROP / 2 + rng.uniform(-12, 12), 0, limit - CROP))
        for c, limit in zip(center, (HEIGHT, WIDTH), strict=True)
    )
    return slice(top, top + CROP), slice(left, left + CROP)
