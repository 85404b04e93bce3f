"""What a JPEG file says of itself, without decoding it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ovvol_bench.data.transforms import Size
from ovvol_bench.errors import DecodeError

_END_OF_IMAGE = b"\xff\xd9"
_TAIL = 1024  # bytes; some cameras and tools pad the file after its end marker


@dataclass(frozen=True)
class JpegHeader:
    """Beginning and end of a file.

    Attributes:
        size: (height, width), pixels.
        complete: whether the end marker is there; decoders fill what is missing with grey, unasked.
    """

    size: Size
    complete: bool


def read_header(path: Path) -> JpegHeader:
    """Read size and end of a JPEG file.

    Raises:
        DecodeError: if it is missing or no image.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with path.open("rb") as file:
            with Image.open(file) as image:
                width, height = image.size
            file.seek(max(os.fstat(file.fileno()).st_size - _TAIL, 0))
            return JpegHeader((height, width), _END_OF_IMAGE in file.read())
    except FileNotFoundError as error:
        raise DecodeError(f"Frame {path} does not exist. Extract it again.") from error
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        raise DecodeError(f"Frame {path} is not a readable image. Extract it again.") from error
