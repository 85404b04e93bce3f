"""Frames by index at a target size, and the images that are decoded here: JPEG, PNG, arrays in memory.

``decoders`` decodes video files, and ``video`` opens either by its path.
"""

from __future__ import annotations

import os
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Floats, Ints
from ovvol_bench.data.base import IncompleteClipError
from ovvol_bench.data.transforms import Size, resize_frames
from ovvol_bench.errors import DataError, DecodeError
from ovvol_bench.files import require_file
from ovvol_bench.masks import RleMasks
from ovvol_bench.types import Clip, ClipInfo

Image = npt.NDArray[np.uint8]

_JPEG_SUFFIXES = frozenset({".jpeg", ".jpg"})
IMAGE_SUFFIXES = _JPEG_SUFFIXES | {".png"}
# A camera's note on orientation (EXIF) is ignored: annotations refer to the pixels as stored.
_AS_STORED = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_REDUCED = {  # OpenCV's names speak of grey; the colour is that of _AS_STORED
    1: 0,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}

MOST_PIXELS = 1 << 27
"""Of an image, 11,585 x 11,585: a file of a few bytes can state more than memory holds."""

# Decoders fill what is missing of a file that was cut off with grey, unasked: its end marker tells.
_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}
_MASK_ADVICE = "Make the masks again, or take their folder away."
_TAIL = 1024  # bytes; some cameras and tools pad the file after its end marker


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
            scale_at_decode: let the decoder scale where it can: quicker, but other pixels than the
                reference's, so not for numbers to publish.

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
                    # what the decoder scaled is small: OpenCV does the rest on bytes, bilinear
                    yield np.asarray(cv2.resize(image, size[::-1]), np.uint8) if scale_at_decode else image
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
    # what only an earlier clip reports is no use to this one
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
        self.frame_size = frame_size or read_header(files[0]).size

    @classmethod
    def of(cls, folder: Path) -> FrameFolder:
        """Take all JPEG and PNG files of a folder by name, numbers by value: 2.png comes before 10.png.

        Raises:
            DataError: if there are none.
        """
        images = (file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
        # hidden ones are left aside: macOS writes a ._2.png beside 2.png
        files = [file for file in images if not file.name.startswith(".")]
        if not files:
            raise DataError(f"{folder} has no JPEG or PNG files: expected one image a frame.")
        return cls(sorted(files, key=lambda file: numbers_as_numbers(file.name)))

    def images(self, indices: Sequence[int]) -> Iterator[Image]:
        return (read_image(self._files[index], self.frame_size) for index in indices)

    def scaled(self, indices: Sequence[int], size: Size) -> Iterator[Image]:
        """Decode frames, JPEGs at 1/2, 1/4 or 1/8 of their sides."""
        factor = max(  # the largest that leaves frames no smaller than the size
            factor
            for factor in _REDUCED
            if factor == 1 or all(-(-a // factor) >= b for a, b in zip(self.frame_size, size, strict=True))
        )
        return (read_image(self._files[index], self.frame_size, factor) for index in indices)


class ArrayFrames(FrameReader):
    """Frames in memory, or mapped to it.

    Args:
        frames: (T, H, W, 3) uint8 RGB.

    Raises:
        DataError: if it has another shape or type.
    """

    def __init__(self, frames: Image) -> None:
        found = np.asarray(frames)
        if found.ndim != 4 or found.shape[3] != 3 or found.dtype != np.uint8 or not found.size:
            raise DataError(
                f"video: got an array of shape {found.shape} and type {found.dtype}; expected frames "
                "(T, H, W, 3) of uint8, RGB"
            )
        self._frames = found
        self.frame_count = len(found)
        self.frame_size: Size = (found.shape[1], found.shape[2])

    def images(self, indices: Sequence[int]) -> Image:
        images: Image = self._frames[list(indices)]
        return images


def read_image(file: Path, expected: Size | None = None, reduction: int = 1) -> Image:
    """Read an image as stored; transparent parts are white, as on a page.

    Args:
        file: of the image.
        expected: (height, width) that it must have, pixels.
        reduction: 2, 4 or 8 decodes a JPEG to that part of its sides, rounded up; other images stay whole.

    Returns:
        (H, W, 3) uint8 RGB.

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
    if header.transparent:  # OpenCV would show the colours that lie below
        from PIL import Image as Pillow

        try:
            with Pillow.open(BytesIO(content)) as picture:
                page = Pillow.new("RGBA", picture.size, "white")
                return np.asarray(Pillow.alpha_composite(page, picture.convert("RGBA")).convert("RGB"))
        except (OSError, ValueError, SyntaxError) as error:
            raise DecodeError(f"Image {file} is not a readable image ({error}). Extract it again.") from error
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


def numbers_as_numbers(name: str) -> list[tuple[int, str]]:
    """Key to sort names by so that numbers in them go by value.

    >>> sorted(["a10", "a9", "a09b"], key=numbers_as_numbers)
    ['a09b', 'a9', 'a10']
    """
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), part) if part[:1] in "0123456789" and part else (-1, part) for part in parts]


@dataclass(frozen=True)
class ImageHeader:
    """Content of an image file's beginning and end.

    Attributes:
        size: (height, width), pixels.
        complete: the end marker is there.
        transparent: some pixels are, more or less.
    """

    size: Size
    complete: bool
    transparent: bool


def read_header(path: Path) -> ImageHeader:
    """Read size and end of an image file.

    Raises:
        DecodeError: if it is missing, no image, or of more than ``MOST_PIXELS``.
    """
    try:
        with require_file(path).open("rb") as file:
            return parse_header(file, path)
    except FileNotFoundError as error:
        raise DecodeError(f"Image {path} does not exist. Extract it again.") from error
    except (OSError, ValueError) as error:
        raise DecodeError(f"Image {path} is not a readable image ({error}). Extract it again.") from error


def parse_header(file: IO[bytes], path: Path) -> ImageHeader:
    """Parse the header of an open image file, see ``read_header``.

    Args:
        file: its content, from the first byte.
        path: for messages.
    """
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    # Pillow warns from a lower limit on; the one here is MOST_PIXELS
    warnings.filterwarnings("ignore", category=Pillow.DecompressionBombWarning)
    try:
        with Pillow.open(file) as image:
            width, height = image.size
            transparent = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
            end = _ENDS.get(image.format or "", b"")
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Pillow.DecompressionBombError) as error:
        raise DecodeError(f"Image {path} is not a readable image. Extract it again.") from error
    if not 0 < width * height <= MOST_PIXELS:
        raise DecodeError(
            f"Image {path} states a size of {height} x {width} pixels (height x width): expected at most "
            f"{MOST_PIXELS:,} pixels in all. Make it smaller, or leave it out."
        )
    file.seek(0, os.SEEK_END)
    file.seek(max(file.tell() - _TAIL, 0))
    return ImageHeader((height, width), end in file.read(), transparent)


def read_labels(file: Path) -> npt.NDArray[np.uint8]:
    """(H, W) uint8 pixel values of a PNG of one channel; of one with a palette, as DAVIS's, the indices.

    Raises:
        DataError: if the file is missing, no image, or has more than one channel of 8 bits.
    """
    from PIL import Image as Pillow

    try:
        content = require_file(file).read_bytes()
        header = parse_header(BytesIO(content), file)
        with Pillow.open(BytesIO(content)) as image:  # OpenCV would give the palette's colours
            labels = np.asarray(image) if image.mode == "P" else None
        if labels is None:
            labels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except FileNotFoundError as error:
        raise DataError(f"Mask {file} does not exist. {_MASK_ADVICE}") from error
    except (OSError, ValueError, SyntaxError, DecodeError, cv2.error):
        labels = None
    if labels is None or not header.complete:
        raise DataError(f"Mask {file} is not a readable image. {_MASK_ADVICE}")
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise DataError(
            f"Mask {file} has pixels of {labels.dtype} {labels.shape[2:]}: expected one channel of 8 bits, 0 "
            "for the background, else a number an object."
        )
    return np.asarray(labels, np.uint8)


def label_runs(labels: npt.NDArray[np.uint8], numbers: Ints) -> tuple[bytes, ...]:
    """Run lengths of the masks of some pixel values of a label image (H, W)."""
    return RleMasks.of(labels[None] == numbers[:, None, None]).counts if len(numbers) else ()
