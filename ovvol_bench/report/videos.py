"""Writing mp4 files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2

from ovvol_bench.errors import OvvolError
from ovvol_bench.files import is_utf8, replacing
from ovvol_bench.report.drawing import Image


def write_video(path: Path, frames: Iterable[Image], rate: float) -> Path:
    """Write frames as MPEG-4 part 2, which every OpenCV build can write, atomically.

    Args:
        path: ends in ``.mp4``.
        frames: at least one; (height, width, 3) uint8 RGB of one size with even sides.
        rate: frames a second.

    Raises:
        OvvolError: if this OpenCV can't write mp4, or there are no frames.
        SettingError: if the folder can't be written to.
    """
    with replacing(path) as temporary:
        writer = None
        try:
            for frame in frames:
                writer = writer or _open(temporary, frame, rate)
                writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        finally:
            if writer is not None:
                writer.release()
        if writer is None:
            raise OvvolError(f"{path}: no frames to write")
    return path


def _open(path: Path, frame: Image, rate: float) -> cv2.VideoWriter:
    if not is_utf8(path):
        raise OvvolError(f"{path}: OpenCV can't write below a folder whose name is no UTF-8. Choose another.")
    height, width = frame.shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height))
    if not writer.isOpened():
        raise OvvolError(f"{path}: this OpenCV can't write mp4 videos. Leave them out with --no-video.")
    return writer
