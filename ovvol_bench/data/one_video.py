"""Clips of one video that is open already, be it a file, a folder of frames or an array."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ovvol_bench.benchmark import Dataset
from ovvol_bench.data.readers import FrameReader
from ovvol_bench.data.sampling import ClipSettings, plan_clips
from ovvol_bench.data.transforms import Size
from ovvol_bench.errors import DataError
from ovvol_bench.naming.vocabulary import Vocabulary
from ovvol_bench.types import Clip, ClipInfo

Image = npt.NDArray[np.uint8]


class ArrayFrames(FrameReader):
    """Frames in memory.

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


class OneVideo(Dataset):
    """Clips of one video, without truth, which cover every frame that the stride meets.

    Args:
        name: of the video.
        reader: of its frames.
        vocabulary: names to look for.
        clips: how clips are cut and resized.
    """

    def __init__(self, name: str, reader: FrameReader, vocabulary: Vocabulary, clips: ClipSettings) -> None:
        self.name = name
        self.reader = reader
        self.vocabulary = vocabulary
        self.skipped: dict[str, int] = {}
        self.clips = clips
        self._starts = plan_clips([reader.frame_count], clips).clips

    def __len__(self) -> int:
        return max(1, len(self._starts))

    def info(self, index: int) -> ClipInfo:
        if self._starts:
            _, clip = self._starts[index]
            positions, context = tuple(self.clips.positions(clip)), clip.context
        else:  # Too short for a clip: its first frame is repeated in front, and reported once.
            own = range(0, self.reader.frame_count, self.clips.stride)
            context = self.clips.frames - len(own)
            positions = (0,) * context + tuple(own)
        return ClipInfo(
            id=f"{self.name}/{positions[context]:06d}",
            video=self.name,
            frame_indices=positions,
            frame_size=self.reader.frame_size,
            context=context,
        )

    def input_size(self, frame_size: Size) -> Size:
        return self.clips.input_size(frame_size)

    def clip(self, index: int) -> Clip:
        info = self.info(index)
        size = self.input_size(info.frame_size)
        return Clip(info, self.reader.read(info.frame_indices, size, self.clips.scale_at_decode))

    def fingerprint(self) -> str:
        """Hash of name, length, size and cut: runs on it are not kept."""
        told = (self.name, self.reader.frame_count, self.reader.frame_size, self._starts)
        return hashlib.sha256(repr(told).encode(errors="surrogateescape")).hexdigest()
