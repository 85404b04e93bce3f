"""Dataset ``imagenet-vid``: frames and truth in the ILSVRC-VID layout (ImageNet-VID, and ``shapes``)."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ovvol_bench.benchmark import Dataset
from ovvol_bench.data.motion import read_motion_iou
from ovvol_bench.data.readers import FrameFolder
from ovvol_bench.data.sampling import ClipPlan, ClipSettings, ClipStart, plan_clips
from ovvol_bench.data.training import FolderVideos
from ovvol_bench.data.vid_frames import open_folder_videos
from ovvol_bench.data.vid_index import VidIndex, find_frames, load_index
from ovvol_bench.data.vid_tree import VidTree, read_videos
from ovvol_bench.errors import SettingError, nearest
from ovvol_bench.naming.vocabulary import Vocabulary
from ovvol_bench.types import Clip, ClipInfo, FrameRows


@dataclass(frozen=True)
class VidSource:
    """Where videos, frames and truth come from.

    Attributes:
        tree: from ``find_tree``.
        cache: folder of the cache.
        list_file: videos or frames to read, see ``vid_tree``; None takes the split's own list, or all.
        motion: MATLAB file of motion IoUs; None computes them from the tracks.
    """

    tree: VidTree
    cache: Path
    list_file: Path | None = None
    motion: Path | None = None


class ImageNetVid(Dataset):
    """Clips of an ILSVRC-VID tree with truth, which is read with its first use: training needs none.

    Args:
        source: where everything lies.
        vocabulary: classes with the names in the annotations as codes.
        clips: how clips are cut and resized.
    """

    def __init__(self, source: VidSource, vocabulary: Vocabulary, clips: ClipSettings) -> None:
        self.vocabulary = vocabulary
        self._source = source
        self._tree = source.tree
        self._settings = clips

    @cached_property
    def index(self) -> VidIndex:
        """Truth of all videos, from the cache or from the annotations.

        Raises:
            DataError: if the list, frames or annotations are missing or malformed.
        """
        source = self._source
        videos = find_frames(source.tree, read_videos(source.tree, source.list_file).videos)
        index = load_index(source.tree, videos, self.vocabulary, source.cache)
        if source.motion is None:
            return index
        return replace(index, motion_iou=read_motion_iou(source.motion, np.diff(index.object_offsets)))

    @cached_property
    def skipped(self) -> Mapping[str, int]:  # type: ignore[override]  # read by others, set by nobody
        """See ``Dataset.skipped``."""
        return {**self.index.skipped, **self._plan.skipped}

    @cached_property
    def _plan(self) -> ClipPlan:
        return plan_clips(self.index.lengths.tolist(), self._settings)

    @property
    def _clips(self) -> tuple[tuple[int, ClipStart], ...]:
        return self._plan.clips

    def __len__(self) -> int:
        return len(self._clips)

    def info(self, index: int) -> ClipInfo:
        """See ``Dataset.info``; a clip's id is ``VIDEO/FRAME`` with the number of its first frame."""
        video, clip = self._clips[index]
        first, places = int(self.index.frame_offsets[video]), self._settings.positions(clip)
        rows = range(first + places.start, first + places.stop, places.step)
        numbers = self.index.frame_numbers[rows.start : rows.stop : rows.step].tolist()
        height, width = self.index.frame_sizes[video].tolist()
        name = str(self.index.videos[video])
        return ClipInfo(
            id=f"{name}/{numbers[0]:06d}",
            video=name,
            frame_indices=tuple(numbers),
            frame_size=(height, width),
            truth=FrameRows(self.index.truth, rows),
            context=clip.context,
        )

    def clip(self, index: int) -> Clip:
        """See ``Dataset.clip``."""
        info = self.info(index)
        files = [self._tree.frame(info.video, number) for number in info.frame_indices]
        reader = FrameFolder(files, info.frame_size)
        return Clip(info, reader.read(range(len(files)), self._settings.input_size(info.frame_size)))

    def fingerprint(self) -> str:
        """See ``Dataset.fingerprint``: 32 hex digits."""
        digest = hashlib.blake2b(repr((self.vocabulary.names, self._clips)).encode(), digest_size=16)
        digest.update("\n".join(self.index.videos).encode())
        for field in fields(VidIndex):
            if field.name != "videos":
                digest.update(np.ascontiguousarray(getattr(self.index, field.name)).tobytes())
        return digest.hexdigest()

    def training_videos(self) -> FolderVideos:
        """All frames of the videos, see ``vid_frames``; annotations are not read."""
        source = self._source
        return open_folder_videos(source.tree, source.list_file, source.cache)


def restrict(vocabulary: Vocabulary, classes: Collection[str] | None) -> Vocabulary:
    """Keep some classes of a vocabulary, in its own order.

    Args:
        vocabulary: to choose from.
        classes: names or codes; None keeps all.

    Raises:
        SettingError: if one is not in the vocabulary.
    """
    if classes is None:
        return vocabulary
    kept = tuple(item for item in vocabulary.classes if item.name in classes or item.code in classes)
    known = [name for item in vocabulary.classes for name in (item.name, item.code) if name]
    for name in sorted(set(classes) - set(known)):
        raise SettingError(
            f"dataset.classes: '{name}' is no class of '{vocabulary.name}'.{nearest(name, known)} "
            "Give names or WordNet ids, separated by commas."
        )
    return replace(vocabulary, name=f"{vocabulary.name} ({len(kept)} classes)", classes=kept)
