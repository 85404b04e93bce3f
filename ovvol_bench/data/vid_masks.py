"""Masks of an ILSVRC-VID tree that has them: one PNG a frame, 0 where no object is, else 1 + track id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Ints
from ovvol_bench.data.readers import parse_header
from ovvol_bench.data.truth_index import RawAnnotations, VideoFrames
from ovvol_bench.errors import DataError, DecodeError
from ovvol_bench.files import require_file
from ovvol_bench.masks import RleMasks
from ovvol_bench.progress import with_progress

MASK_SUFFIX = ".png"
_ADVICE = "Make the masks again, or take their folder away."


def read_masks(root: Path, videos: Sequence[VideoFrames], raw: RawAnnotations) -> list[bytes]:
    """Run lengths of the masks of all objects.

    Args:
        root: that the videos' names start from.
        videos: in the order of ``raw``.
        raw: objects of all frames, with track ids.

    Raises:
        DataError: if a file is missing, no label image or of another size than annotated, or an object has
            no track id; names the file.
    """
    files = [
        root / video.name / f"{number:06d}{MASK_SUFFIX}"
        for video in videos
        for number in video.numbers.tolist()
    ]
    shown = with_progress(files, len(files), "reading masks", lambda _: 1)
    return [runs for frame, file in enumerate(shown) for runs in _frame_masks(file, raw, frame)]


def _frame_masks(file: Path, raw: RawAnnotations, frame: int) -> Iterator[bytes]:
    start, end = raw.object_offsets[frame : frame + 2].tolist()
    tracks = raw.objects[start:end, 5].astype(np.int64)
    if (tracks < 0).any():
        raise DataError(
            f"Mask {file} has objects without a trackid: expected one a pixel value can stand for. Annotate "
            "tracks, or take the folder of masks away."
        )
    labels = read_labels(file)
    size = tuple(raw.sizes[frame].tolist())
    if any(size) and labels.shape != size:
        raise DataError(
            f"Mask {file} is {labels.shape[0]} x {labels.shape[1]} pixels (height x width); expected "
            f"{size[0]} x {size[1]}, as annotated. Make the masks again."
        )
    return iter(label_runs(labels, tracks + 1))


def read_labels(file: Path) -> npt.NDArray[np.uint8]:
    """(H, W) uint8 pixel values of a PNG of one channel; of one with a palette, as DAVIS's, the indices.

    Raises:
        DataError: if the file is missing, no image, or has more than one channel of 8 bits.
    """
    from PIL import Image

    try:
        content = require_file(file).read_bytes()
        header = parse_header(BytesIO(content), file)
        with Image.open(BytesIO(content)) as image:  # OpenCV would give the palette's colours
            labels = np.asarray(image) if image.mode == "P" else None
        if labels is None:
            labels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except FileNotFoundError as error:
        raise DataError(f"Mask {file} does not exist. {_ADVICE}") from error
    except (OSError, ValueError, SyntaxError, DecodeError, cv2.error):
        labels = None
    if labels is None or not header.complete:
        raise DataError(f"Mask {file} is not a readable image. {_ADVICE}")
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise DataError(
            f"Mask {file} has pixels of {labels.dtype} {labels.shape[2:]}: expected one channel of 8 bits, 0 "
            "for the background, else a number an object."
        )
    return np.asarray(labels, np.uint8)


def label_runs(labels: npt.NDArray[np.uint8], numbers: Ints) -> tuple[bytes, ...]:
    """Run lengths of the masks of some pixel values of (H, W)."""
    return RleMasks.of(labels[None] == numbers[:, None, None]).counts if len(numbers) else ()
