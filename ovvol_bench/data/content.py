"""What files hold, as far as a start can look: enough to notice that they were replaced.

Times of change are no part of it, since a copy of a dataset on another machine has others. To compare every
byte there is ``ovvol-bench data check --content``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import IO

_SIZES = 200_000  # files of which the size counts; more, as in ImageNet-VID's train, would make starts slow
_SAMPLES = 5_000  # files of which bytes are read
_BLOCK = 1 << 10  # bytes


def content_digest(count: int, path_of: Callable[[int], str]) -> str:
    """Hash of the sizes of files, and of samples of their content.

    Of many files, sizes of 200,000 and samples of 5,000 are taken, evenly spread.

    Args:
        count: of files.
        path_of: gives the path of each, by its position in the dataset's order.

    Returns:
        32 hex digits; nothing where no file is there, as predictions can be scored without frames.
    """
    digest, there = hashlib.blake2b(digest_size=16), False
    for path in map(path_of, range(0, count, -(-count // _SIZES) or 1)):
        try:
            size = os.stat(path).st_size  # noqa: PTH116 - a Path a frame costs more than the look
        except OSError:
            size = -1
        there |= size >= 0
        digest.update(size.to_bytes(8, "little", signed=True))
    if not there:
        return ""
    for path in map(path_of, range(0, count, -(-count // _SAMPLES) or 1)):
        try:
            with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", 0) as file:  # noqa: PTH123 - no path
                digest.update(sample(file, 2))
        except OSError:
            digest.update(b"unreadable")
    return digest.hexdigest()


def sample(file: IO[bytes], blocks: int, length: int = _BLOCK) -> bytes:
    """Blocks of a file, the last one at its end, the others evenly spread before it; small files whole."""
    size = os.fstat(file.fileno()).st_size
    if size <= blocks * length:
        return file.read(blocks * length)
    parts = []
    for block in range(1, blocks + 1):
        file.seek(block * size // blocks - length)
        parts.append(file.read(length))
    return b"".join(parts)
