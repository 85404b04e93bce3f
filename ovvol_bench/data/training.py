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

from ovvol_bench.arrays import Ints
from ovvol_bench.benchmark import TrainingVideos
from ovvol_bench.data.cache import content_digest, sample
from ovvol_bench.data.helper_process import HelperProcess
from ovvol_bench.data.readers import FrameFolder
from ovvol_bench.data.vid_tree import VidTree
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


class FolderVideos(TrainingVideos):
    """Folders of frames of a tree; as columns, which many processes can share.

    Args:
        tree: where they lie.
        names: (V,) of the videos, in order.
        offsets: (V + 1,) where a video's frames begin in ``numbers``.
        numbers: (F,) of the frames, ascending in every video.
    """

    def __init__(self, tree: VidTree, names: npt.NDArray[np.str_], offsets: Ints, numbers: Ints) -> None:
        self._tree = tree
        self._names, self._offsets, self._numbers = names, offsets, numbers

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        """See ``TrainingVideos.name``."""
        return str(self._names[index])

    def length(self, index: int) -> int:
        """See ``TrainingVideos.length``."""
        return int(self._offsets[index + 1] - self._offsets[index])

    def frames(self, index: int, positions: Sequence[int]) -> npt.NDArray[np.uint8]:
        """See ``TrainingVideos.frames``; a frame of another size than the first is an error too."""
        numbers = self._numbers[self._offsets[index] : self._offsets[index + 1]][list(positions)].tolist()
        files = [self._tree.frame(self.name(index), number) for number in numbers]
        return FrameFolder(files).stored(range(len(files)))

    def fingerprint(self) -> str:
        """Hash of names, frame numbers and frames."""
        digest = hashlib.sha256("\n".join(self._names.tolist()).encode())
        digest.update(content_digest(len(self._numbers), self._frame_path).encode())
        digest.update(self._offsets.tobytes())
        digest.update(self._numbers.tobytes())
        return digest.hexdigest()

    def _frame_path(self, row: int) -> str:
        """Path of the frame at a position in ``numbers``."""
        video = int(np.searchsorted(self._offsets, row, side="right")) - 1
        return str(self._tree.frame(self.name(video), int(self._numbers[row])))
