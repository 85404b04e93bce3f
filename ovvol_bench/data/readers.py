"""Frames by index at a target size, and folders of images as frames.

These decode in the calling process; ``video_readers`` are those of video files.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Floats
from ovvol_bench.benchmark import IncompleteClipError
from ovvol_bench.data.jpeg import parse_header, read_header
from ovvol_bench.data.transforms import Size, resize_frames
from ovvol_bench.errors import DataError, DecodeError
from ovvol_bench.files import require_file
from ovvol_bench.types import Clip, ClipInfo

Image = npt.NDArray[np.uint8]

_JPEG_SUFFIXES = frozenset({".jpeg", ".jpg"})
IMAGE_SUFFIXES = _JPEG_SUFFIXES | {".png"}
_AS_STORED = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_REDUCED = {  # OpenCV's names speak of grey; the colour is that of _AS_STORED
    1: 0,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}


class FrameReader(ABC):
    """Frames by index at a target size.

    Attributes:
        frame_count: frames that can be decoded.
        frame_size: (height, width) of the frames as stored, pixels.
    """

    frame_count: int
    frame_size: Size

    @abstractmethod
    def images(self, indices: Sequence[int]) -> Iterable[Image]:
        """Decode frames at the stored size.

        Args:
            indices: T positions in [0, frame_count), ascending.

        Returns:
            T arrays of (H, W, 3) uint8 RGB.

        Raises:
            DecodeError: if a frame can't be read or has another size than the first.
        """

    def scaled(self, indices: Sequence[int], size: Size) -> Iterable[Image]:
        """Decode frames at the smallest size that the codec offers, but no smaller than ``size``."""
        return self.images(indices)

    def read(self, indices: Sequence[int], size: Size | None = None, scale_at_decode: bool = False) -> Floats:
        """Decode frames to a size.

        Args:
            indices: T positions in [0, frame_count), ascending.
            size: (height, width) to resize to; None keeps the stored size.
            scale_at_decode: let the decoder scale where it can, and OpenCV do the rest on bytes: quicker,
                but other pixels than the reference's, so not for numbers to publish.

        Returns:
            (T, height, width, 3) float32 RGB in [0, 1].

        Raises:
            DecodeError: if a frame can't be read or has another size than the first.
        """
        frames, unread = self.read_around(indices, size, scale_at_decode)
        if unread:
            raise DecodeError(next(iter(unread.values())))
        return frames

    def read_around(
        self, indices: Sequence[int], size: Size | None = None, scale_at_decode: bool = False
    ) -> tuple[Floats, dict[int, str]]:
        """Decode frames to a size, see ``read``; those that can't be read show the nearest one that can.

        Returns:
            The frames, and why some can't be read, by their place in ``indices``.

        Raises:
            DecodeError: if none can be read.
        """
        size = size or self.frame_size
        unread: dict[int, str] = {}
        frames = resize_frames(self._around(indices, size, scale_at_decode, unread), size, len(indices))
        readable = [place for place in range(len(indices)) if place not in unread]
        if indices and not readable:
            raise DecodeError(unread[0])
        for place in unread:
            frames[place] = frames[min(readable, key=lambda other: abs(other - place))]
        return frames, unread

    def _around(
        self, indices: Sequence[int], size: Size, scale_at_decode: bool, unread: dict[int, str]
    ) -> Iterator[Image]:
        """Decode frames; where one can't be read, note why in ``unread`` and yield a black one."""
        place = 0
        while place < len(indices):
            rest = indices[place:]
            try:
                images = self.scaled(rest, size) if scale_at_decode else self.images(rest)
                for image in images:
                    yield _resized(image, size) if scale_at_decode else image
                    place += 1
                return
            except DecodeError as error:
                unread[place] = str(error)
                yield np.zeros((*size, 3), np.uint8)
                place += 1

    def stored(self, indices: Sequence[int]) -> Image:
        """Decode frames, see ``images``; returns (T, H, W, 3) uint8 RGB."""
        frames = np.empty((len(indices), *self.frame_size, 3), np.uint8)
        for target, image in zip(frames, self.images(indices), strict=True):
            target[...] = image
        return frames


def read_clip(
    info: ClipInfo, reader: FrameReader, indices: Sequence[int], size: Size, scale_at_decode: bool = False
) -> Clip:
    """Read the frames of a clip.

    Args:
        info: of the clip.
        reader: that has the frames.
        indices: T positions of the clip's frames in the reader, ascending.
        size: see ``FrameReader.read``.
        scale_at_decode: see ``FrameReader.read``.

    Raises:
        IncompleteClipError: if some of its frames can't be read.
        DecodeError: if none of those can that aren't ``ClipInfo.context``.
    """
    frames, unread = reader.read_around(indices, size, scale_at_decode)
    if not unread:
        return Clip(info, frames)
    first = next(iter(unread.values()))
    if unread.keys() >= set(range(info.context, len(indices))):
        raise DecodeError(first)
    raise IncompleteClipError(first, Clip(replace(info, unread=unread), frames))


class FrameFolder(FrameReader):
    """Images as frames, decoded by OpenCV.

    Args:
        files: one image a frame, in order; at least one.
        frame_size: (height, width), pixels; read from the first image where None.
    """

    def __init__(self, files: Sequence[Path], frame_size: Size | None = None) -> None:
        self._files = files
        self.frame_count = len(files)
        self.frame_size = frame_size or image_size(files[0])

    @classmethod
    def of(cls, folder: Path) -> FrameFolder:
        """All JPEG and PNG files of a folder, by name, numbers in it by value: 2.png comes before 10.png.

        Hidden files are left aside, such as the ``._2.png`` that macOS writes beside ``2.png``.

        Raises:
            DataError: if there are none.
        """
        files = [
            file
            for file in folder.iterdir()
            if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
        ]
        if not files:
            raise DataError(f"{folder} has no JPEG or PNG files: expected one image a frame.")
        return cls(sorted(files, key=lambda file: numbers_as_numbers(file.name)))

    def images(self, indices: Sequence[int]) -> Iterator[Image]:
        """See ``FrameReader.images``."""
        return (read_image(self._files[index], self.frame_size) for index in indices)

    def scaled(self, indices: Sequence[int], size: Size) -> Iterator[Image]:
        """See ``FrameReader.scaled``: JPEGs shrink to 1/2, 1/4 or 1/8 as they are decoded."""
        factor = _largest_reduction(self.frame_size, size)
        return (read_image(self._files[index], self.frame_size, factor) for index in indices)


def read_image(file: Path, expected: Size | None = None, reduction: int = 1) -> Image:
    """(H, W, 3) uint8 RGB, as stored: a camera's note on orientation is ignored, transparent parts are white.

    Args:
        file: of the image.
        expected: (height, width) that it must have, pixels.
        reduction: 2, 4 or 8 decodes a JPEG to that part of its sides, rounded up; other images stay whole.

    Raises:
        DecodeError: if the file is missing, no image, cut off, or not of the ``expected`` (height, width).
    """
    try:
        content = require_file(file).read_bytes()
    except FileNotFoundError as error:
        raise DecodeError(
            f"Image {file} does not exist. Extract it again or leave its video out of the list."
        ) from error
    except (OSError, ValueError) as error:
        raise DecodeError(f"Image {file} can't be read ({error}). Extract it again.") from error
    header = parse_header(BytesIO(content), file)
    height, width = header.size
    if expected is not None and header.size != expected:
        raise DecodeError(
            f"Image {file} is {height} x {width} pixels (height x width); expected "
            f"{expected[0]} x {expected[1]}, as annotated or as the video's first frame. Extract it again."
        )
    if not header.complete:
        raise DecodeError(f"Image {file} is cut off: its end marker is missing. Extract it again.")
    if header.transparent:
        return _on_white(content, file)
    factor = reduction if file.suffix.lower() in _JPEG_SUFFIXES else 1
    try:
        pixels: Any = cv2.imdecode(np.frombuffer(content, np.uint8), _REDUCED[factor] | _AS_STORED)
    except cv2.error:  # for some damage OpenCV gives None, for other it raises
        pixels = None
    if pixels is None or pixels.shape != (-(-height // factor), -(-width // factor), 3):
        raise DecodeError(
            f"Image {file} is not a readable image. Extract it again or leave its video out of the list."
        )
    image: Image = pixels
    return image


def _on_white(content: bytes, file: Path) -> Image:
    """Pixels of an image with transparent parts, as a page shows it: what lies under them doesn't count."""
    from PIL import Image as Pillow

    try:
        with Pillow.open(BytesIO(content)) as image:
            page = Pillow.new("RGBA", image.size, "white")
            return np.asarray(Pillow.alpha_composite(page, image.convert("RGBA")).convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise DecodeError(f"Image {file} is not a readable image ({error}). Extract it again.") from error


def numbers_as_numbers(name: str) -> list[tuple[int, str]]:
    """What to sort names by so that numbers in them go by value.

    >>> sorted(["a10", "a9", "a09b"], key=numbers_as_numbers)
    ['a09b', 'a9', 'a10']
    """
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), part) if part[:1] in "0123456789" and part else (-1, part) for part in parts]


def _largest_reduction(stored: Size, size: Size) -> int:
    """The largest of 1, 2, 4 and 8 that leaves frames no smaller than ``size``."""
    return max(
        factor
        for factor in _REDUCED
        if factor == 1 or all(-(-old // factor) >= new for old, new in zip(stored, size, strict=True))
    )


def image_size(file: Path) -> Size:
    """(height, width) of an image, pixels, from its header.

    Raises:
        DecodeError: if the file is missing or no image.
    """
    return read_header(file).size


def _resized(pixels: Any, size: Size) -> Image:
    image: Image = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_LINEAR)
    return image
