"""Videos on disk to train on: files that are decoded elsewhere, and folders of frames.

Both are read from the processes of a training that read ahead: they are small to send, and what is
open belongs to one process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ovvol_bench.benchmark import TrainingVideos
from ovvol_bench.data.cache import sample
from ovvol_bench.data.helper_process import HelperProcess
from ovvol_bench.data.video import Probe, VideoFile

_BLOCK, _BLOCKS = 1 << 14, 8  # bytes, and how many beside the first go into a fingerprint


@dataclass(frozen=True)
class ProbedFile:
    """A video file that can be read.

    Attributes:
        name: unique in its dataset.
        path: of the file.
        probe: what it holds.
    """

    name: str
    path: Path
    probe: Probe


def content_of(files: Sequence[ProbedFile]) -> str:
    """Hash of names, frame counts, frame sizes, file sizes and samples of the content."""
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        size, probe = file.path.stat().st_size, file.probe
        digest.update(repr((file.name, size, probe.frame_count, probe.frame_size)).encode())
        with file.path.open("rb", 0) as content:
            digest.update(content.read(_BLOCK))
            digest.update(sample(content, _BLOCKS, _BLOCK))
    return digest.hexdigest()


class FileVideos(TrainingVideos):
    """Video files, decoded in a helper process each reading process has its own of.

    A file that hangs or crashes the decoder is a ``DecodeError`` within the worker's time limit.

    Args:
        files: in order.
        worker: where to decode, from ``decoding_worker``.
    """

    def __init__(self, files: Sequence[ProbedFile], worker: HelperProcess) -> None:
        self._files = tuple(files)
        self._worker = worker

    def __len__(self) -> int:
        return len(self._files)

    def name(self, index: int) -> str:
        """See ``TrainingVideos.name``."""
        return self._files[index].name

    def length(self, index: int) -> int:
        """See ``TrainingVideos.length``."""
        return self._files[index].probe.frame_count

    def frames(self, index: int, positions: Sequence[int]) -> npt.NDArray[np.uint8]:
        """See ``TrainingVideos.frames``."""
        file = self._files[index]
        return VideoFile(file.path, file.probe, self._worker).images(positions)

    def fingerprint(self) -> str:
        """Hash of names, frame counts, frame sizes and content."""
        return content_of(self._files)
