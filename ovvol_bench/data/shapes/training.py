"""Videos of the `shapes` world to train on, and captioned pictures cut from them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ovvol_bench.data.base import TrainingImage, TrainingImages, TrainingVideos
from ovvol_bench.data.shapes.storage import RenderedWorld
from ovvol_bench.data.shapes.world import (
    FRAMES,
    HEIGHT,
    SPLITS,
    WIDTH,
    shapes_vocabulary,
    video_id,
)
from ovvol_bench.errors import DataError, SettingError

CROP = 64  # side of a picture, unless another is asked for; pixels

_IMAGES = 1  # a stream of draws beside the scenes', which have the same first numbers
_MIN_PIXELS = 250  # of an object in a picture of it
_MIN_SHARE = 0.8  # of the object's visible pixels that a picture of it shows
_OTHERS_SHARE = 0.25  # of other objects' pixels in a picture, relative to its own object's
_MAX_STRAY_PIXELS = 60  # of objects in a picture of the background
_MOST_DRAWS = 10_000

SOURCES = 3  # windows that one blended background is made of
_ZOOM = (0.4, 2.5)  # of a source, times or over up to _STRETCH along each of its axes
_STRETCH = 2.0
_EDGE = (2.0, 20.0)  # how sharply one source gives way to another, for one unit of brightness
_FOLDED = 0.3  # share of blends whose brightness runs up and down again
_FOLDS = (1.0, 3.0)
_CONTRAST = (0.5, 1.6)

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
        return video_id(self._rendered.world.split, index)

    def length(self, index: int) -> int:
        return FRAMES

    def frames(self, index: int, positions: Sequence[int]) -> npt.NDArray[np.uint8]:
        return np.asarray(self._rendered.frames[index])[list(positions)]

    def fingerprint(self) -> str:
        """Hash of the renderer's version and arguments: they decide every pixel."""
        return hashlib.sha256(self._rendered.world.key.encode()).hexdigest()


@dataclass(frozen=True)
class _Draw:
    """Place to look for a picture.

    Attributes:
        video, time: of the frame.
        track: 1 + track id of the object to show; 0: none.
    """

    video: int
    time: int
    track: int


@dataclass(frozen=True)
class PictureSettings:
    """Content of pictures and of their captions.

    Attributes:
        empty: share of pictures that show no object, in [0, 1].
        name_backgrounds: say what is behind an object, too.
        blended: share of pictures whose background is blended from those of ``SOURCES`` other pictures, in
            [0, 1]; it is of no kind, so that captions call it "background" alone. The objects stay.
        side: of a picture, pixels; at most a frame's height, 96.
        crowded: other objects may be beside the one that a picture is of; captions name them as well.

    Raises:
        SettingError: if a number is out of range.
    """

    empty: float = 0.4
    name_backgrounds: bool = False
    blended: float = 0.0
    side: int = CROP
    crowded: bool = False

    def __post_init__(self) -> None:
        for name, share in (("empty_images", self.empty), ("blended_backgrounds", self.blended)):
            if not 0 <= share <= 1:
                raise SettingError(f"dataset.{name}={share}: expected a share between 0 and 1.")
        if not CROP <= self.side <= HEIGHT:
            raise SettingError(f"dataset.image_side={self.side}: expected {CROP} to {HEIGHT} pixels.")


DEFAULT_PICTURES = PictureSettings()


class ShapesImages(TrainingImages):
    """Square windows around one object each, or on the background, with all that is true of them.

    Of a striped star that is "striped star", "star" and "striped thing", of clouds "clouds" and
    "background", each in the vocabulary's template; of a star before clouds all of them, if asked for. A
    picture depends on the world, the settings and its index alone.

    Args:
        rendered: from ``render_world``.
        count: number of pictures.
        settings: what they show.
    """

    def __init__(self, rendered: RenderedWorld, count: int, settings: PictureSettings) -> None:
        self._rendered = rendered
        self._count, self._settings = count, settings
        vocabulary = shapes_vocabulary()
        self._names, self._template = vocabulary.names, vocabulary.templates[0]

    def __len__(self) -> int:
        return self._count

    def name(self, index: int) -> str:
        return f"shapes_{self._rendered.world.split}_image_{index:08d}"

    def image(self, index: int) -> TrainingImage:
        """Cut a picture from a frame.

        Raises:
            DataError: if the videos are so few that none of them shows such a picture.
        """
        if not 0 <= index < self._count:
            raise IndexError(index)
        world = self._rendered.world
        rng = np.random.default_rng([world.seed, SPLITS.index(world.split), index, _IMAGES])
        is_empty = bool(rng.uniform() < self._settings.empty)
        draw, window = self._found(rng, is_empty, index, self._settings.side)
        mirrored = bool(rng.uniform() < 0.5)
        pixels = self._pixels(draw, window)
        is_blended = bool(rng.uniform() < self._settings.blended)
        if is_blended:
            sources = [self._pixels(*self._found(rng, True, index, CROP, stray=0)) for _ in range(SOURCES)]
            objects = self._mask(draw)[window][..., None] > 0
            pixels = np.where(objects, pixels, blend(sources, rng, self._settings.side))
        pixels = np.ascontiguousarray(pixels[:, ::-1] if mirrored else pixels)
        phrases = self._phrases(draw, window, named_kind=not is_blended)
        return TrainingImage(pixels, tuple(self._template % words for words in phrases))

    def fingerprint(self) -> str:
        """Hash of everything that decides the pictures."""
        what = f"{self._rendered.world.key} {self._count} {self._settings}"
        return hashlib.sha256(what.encode()).hexdigest()

    def _found(
        self, rng: np.random.Generator, empty: bool, index: int, side: int, stray: int = _MAX_STRAY_PIXELS
    ) -> tuple[_Draw, _Window]:
        """Draw until something makes a picture; return it with the part of the frame to show."""
        for _ in range(_MOST_DRAWS):
            video = int(rng.integers(self._rendered.world.videos))
            objects = int(np.count_nonzero(self._rendered.classes[video]))
            draw = _Draw(video, int(rng.integers(FRAMES)), 0 if empty else int(rng.integers(1, objects + 1)))
            window = self._window(draw, rng, side, stray)
            if window is not None:
                return draw, window
        raise DataError(
            f"{self.name(index)}: {self._rendered.world.videos} videos show no such picture. Raise "
            "dataset.videos, or set dataset.empty_images to 0 or 1."
        )

    def _window(self, draw: _Draw, rng: np.random.Generator, side: int, stray: int) -> _Window | None:
        """Draw a window that shows what is asked for and not more; None if this draw has none."""
        mask = self._mask(draw)
        if draw.track == 0:
            window = _window_around((rng.uniform(0, HEIGHT), rng.uniform(0, WIDTH)), rng, side)
            return window if np.count_nonzero(mask[window]) <= stray else None
        rows, columns = np.nonzero(mask == draw.track)
        if len(rows) < _MIN_PIXELS:
            return None
        window = _window_around((float(rows.mean()), float(columns.mean())), rng, side)
        own = np.count_nonzero(mask[window] == draw.track)
        others = np.count_nonzero(mask[window]) - own
        is_alone = self._settings.crowded or others <= _OTHERS_SHARE * own
        return window if own > _MIN_SHARE * len(rows) and is_alone else None

    def _mask(self, draw: _Draw) -> npt.NDArray[np.uint8]:
        return np.asarray(self._rendered.masks[draw.video, draw.time])

    def _pixels(self, draw: _Draw, window: _Window) -> npt.NDArray[np.uint8]:
        return np.asarray(self._rendered.frames[draw.video, draw.time][window])

    def _phrases(self, draw: _Draw, window: _Window, named_kind: bool) -> tuple[str, ...]:
        """Words for what the picture shows, the most telling first."""
        kind = (str(self._rendered.backgrounds[draw.video]),) if named_kind else ()
        background = (*kind, "background")
        if draw.track == 0:
            return background
        tracks = [draw.track]
        if self._settings.crowded:  # those large enough to be told, the picture's own first
            found, pixels = np.unique(self._mask(draw)[window], return_counts=True)
            large = [int(t) for t, count in zip(found, pixels, strict=True) if t and count >= _MIN_PIXELS]
            tracks = sorted({draw.track, *large}, key=lambda track: track != draw.track)
        names = [self._names[int(self._rendered.classes[draw.video, track])] for track in tracks]
        words = [name.split() for name in names]
        phrases = (*names, *(form for _, form in words), *(f"{texture} thing" for texture, _ in words))
        return tuple(dict.fromkeys((*phrases, *(background if self._settings.name_backgrounds else ()))))


def _window_around(center: tuple[float, float], rng: np.random.Generator, side: int) -> _Window:
    """Draw a window inside the frame whose middle lies within 12 pixels of ``center`` where there is room."""
    top, left = (
        int(np.clip(c - side / 2 + rng.uniform(-12, 12), 0, limit - side))
        for c, limit in zip(center, (HEIGHT, WIDTH), strict=True)
    )
    return slice(top, top + side), slice(left, left + side)


def blend(
    windows: Sequence[npt.NDArray[np.uint8]], rng: np.random.Generator, side: int
) -> npt.NDArray[np.uint8]:
    """Make a background of no kind from those of several windows: turned, stretched and mixed.

    Args:
        windows: ``SOURCES`` of them, (H, W, 3) RGB, of backgrounds alone.
        rng: for all draws.
        side: of the new one, pixels.

    Returns:
        (side, side, 3).
    """
    first, second, third = (_turned(window, rng, side) for window in windows)
    match int(rng.integers(4)):
        case 0:
            share = np.float32(rng.uniform(0.3, 0.7))
            mixed = np.asarray(share * first + (1 - share) * second)
        case 1:
            mixed = np.minimum(first, second)
        case 2:
            mixed = np.maximum(first, second)
        case _:  # the first where the third is dark, the second where it is light
            brightness = third.mean(axis=2, keepdims=True)
            level = np.quantile(brightness, rng.uniform(0.25, 0.75))
            shares = np.clip(0.5 + rng.uniform(*_EDGE) * (brightness - level), 0, 1).astype(np.float32)
            mixed = np.asarray(first + shares * (second - first))
    if rng.uniform() < _FOLDED:
        mixed = np.abs((rng.uniform(*_FOLDS) * mixed + rng.uniform(0, 2)) % 2 - 1).astype(np.float32)
    mean = mixed.mean(axis=(0, 1))
    spread = mean + rng.uniform(*_CONTRAST) * (mixed - mean)
    return np.asarray(np.round(np.clip(spread, 0, 1) * 255), np.uint8)


def _turned(window: npt.NDArray[np.uint8], rng: np.random.Generator, side: int) -> npt.NDArray[np.float32]:
    """Turn a window about its middle, zoom and stretch it; beyond its edges it is mirrored.

    Returns:
        (side, side, 3) in [0, 1].
    """
    height, width = window.shape[:2]
    angle, stretch = rng.uniform(0, 2 * np.pi), np.exp(rng.uniform(-1, 1) * np.log(_STRETCH))
    zoom = np.exp(rng.uniform(*np.log(_ZOOM)))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = np.diag([zoom * stretch, zoom / stretch]) @ turn
    middle = np.array([width, height]) / 2
    matrix = np.column_stack([linear, np.full(2, side / 2) - linear @ middle])
    turned = cv2.warpAffine(window, matrix, (side, side), borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(turned, np.float32) / np.float32(255)
