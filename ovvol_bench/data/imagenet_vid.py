"""Dataset ``imagenet-vid``: frames and truth in the ILSVRC-VID layout (ImageNet-VID, and ``shapes``)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ovvol_bench.data.indexed import IndexedVideos
from ovvol_bench.data.motion import read_motion_iou
from ovvol_bench.data.readers import FrameFolder, FrameReader
from ovvol_bench.data.sampling import ClipSettings
from ovvol_bench.data.training import FolderVideos
from ovvol_bench.data.truth_index import TruthIndex
from ovvol_bench.data.vid_frames import open_folder_videos
from ovvol_bench.data.vid_index import find_frames, load_index
from ovvol_bench.data.vid_tree import VideoList, VidTree, read_videos
from ovvol_bench.errors import SettingError, nearest
from ovvol_bench.files import require_utf8
from ovvol_bench.naming.vocabulary import Vocabulary


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


class ImageNetVid(IndexedVideos):
    """Clips of an ILSVRC-VID tree with truth, which is read with its first use: training needs none.

    Args:
        source: where everything lies.
        vocabulary: classes with the names in the annotations as codes.
        clips: how clips are cut and resized.
    """

    def __init__(self, source: VidSource, vocabulary: Vocabulary, clips: ClipSettings) -> None:
        super().__init__(vocabulary, clips)
        self._source = source
        self._tree = source.tree

    @property
    def split(self) -> str:
        """Name of the folder of videos."""
        return self._tree.split

    @cached_property
    def listed(self) -> VideoList:
        """Videos and frames to read, from the list or from the folders.

        Raises:
            DataError: if the list is malformed, or the name of a folder is not UTF-8.
        """
        found = read_videos(self._tree, self._source.list_file)
        require_utf8((video.name for video in found.videos), self._tree.frames)
        return found

    @cached_property
    def index(self) -> TruthIndex:  # type: ignore[override]  # read by others, set by nobody
        """Truth of all videos, from the cache or from the annotations.

        Raises:
            DataError: if the list, frames or annotations are missing or malformed.
        """
        source = self._source
        videos = find_frames(source.tree, self.listed.videos)
        index = load_index(source.tree, videos, self.vocabulary, source.cache)
        if source.motion is None:
            return index
        return replace(index, motion_iou=read_motion_iou(source.motion, np.diff(index.object_offsets)))

    def frames(self, video: int, rows: Sequence[int]) -> FrameReader:
        """See ``IndexedVideos.frames``."""
        name = str(self.index.videos[video])
        files = [self._tree.frame(name, number) for number in self.index.frame_numbers[list(rows)].tolist()]
        height, width = self.index.frame_sizes[video].tolist()
        return FrameFolder(files, (height, width))

    def frame_files(self) -> list[str]:
        """See ``IndexedVideos.frame_files``."""
        tree, pieces = self._tree, zip(self.index.videos.tolist(), self.index.lengths.tolist(), strict=True)
        folders = (folder for video, length in pieces for folder in [f"{tree.frames}/{video}/"] * length)
        numbers = self.index.frame_numbers.tolist()
        return [f"{f}{n:0{tree.digits}d}{tree.suffix}" for f, n in zip(folders, numbers, strict=True)]

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
