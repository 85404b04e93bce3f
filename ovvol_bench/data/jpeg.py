"""Image files: what they say of themselves, checked before they are decoded."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ovvol_bench.data.transforms import Size
from ovvol_bench.errors import DecodeError
from ovvol_bench.files import require_file

MOST_PIXELS = 1 << 27
"""Of an image, 11,585 x 11,585: a file of a few bytes can state more than memory holds."""

_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}
_TAIL = 1024  # bytes; some cameras and tools pad the file after its end marker


@dataclass(frozen=True)
class ImageHeader:
    """Beginning and end of an image file.

    Attributes:
        size: (height, width), pixels.
        complete: whether the end marker is there; decoders fill what is missing with grey, unasked.
        transparent: whether there are pixels of which less than the whole is to be seen.
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
    from PIL import Image, UnidentifiedImageError

    warnings.filterwarnings(
        "ignore", category=Image.DecompressionBombWarning
    )  # the limit here is MOST_PIXELS
    try:
        with Image.open(file) as image:
            width, height = image.size
            transparent = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
            end = _ENDS.get(image.format or "", b"")
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DecodeError(f"Image {path} is not a readable image. Extract it again.") from error
    if not 0 < width * height <= MOST_PIXELS:
        raise DecodeError(
            f"Image {path} states a size of {height} x {width} pixels (height x width): expected at most "
            f"{MOST_PIXELS:,} pixels in all. Make it smaller, or leave it out."
        )
    file.seek(0, os.SEEK_END)
    file.seek(max(file.tell() - _TAIL, 0))
    return ImageHeader((height, width), end in file.read(), transparent)
