"""Dataset ``imagenet-vid``: frames and truth in the ILSVRC-VID layout (ImageNet-VID, and ``shapes``)."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np

from ovvol_bench.benchmark import Dataset
from ovvol_bench.data.motion import read_motion_iou
from ovvol_bench.data.readers import FrameFolder
from ovvol_bench.data.sampling import ClipSettings, plan_clips
from ovvol_bench.data.vid_index import VidIndex, find_frames, load_index
from ovvol_bench.data.vid_tree import VidTree, read_videos
from ovvol_bench.errors import SettingError, nearest
from ovvol_bench.naming.vocabulary import Vocabulary
from ovvol_bench.types import Clip, ClipInfo


class ImageNetVid(Dataset):
    """Clips of an ILSVRC-VID tree with truth.

    Args:
        tree: where the frames lie.
        index: truth of the videos.
        vocabulary: that the class ids of ``index`` refer to.
        clips: how clips are cut and resized.

    Attributes:
        index: as given.
    """

    def __init__(self, tree: VidTree, index: VidIndex, vocabulary: Vocabulary, clips: ClipSettings) -> None:
        self.vocabulary = vocabulary
        self.index = index
        self._tree = tree
        self._settings = clips
        plan = plan_clips(index.lengths.tolist(), clips)
        self._clips = plan.clips
        self.skipped = {**index.skipped, **plan.skipped}

    def __len__(self) -> int:
        return len(self._clips)

    def info(self, index: int) -> ClipInfo:
        """See ``Dataset.info``; a clip's id is ``VIDEO/FRAME`` with the number of its first frame."""
        video, clip = self._clips[index]
        rows = [self.index.frame_offsets[video] + position for position in self._settings.positions(clip)]
        numbers = self.index.frame_numbers[rows].tolist()
        height, width = self.index.frame_sizes[video].tolist()
        name = str(self.index.videos[video])
        return ClipInfo(
            id=f"{name}/{numbers[0]:06d}",
            video=name,
            frame_indices=tuple(numbers),
            frame_size=(height, width),
            truth=tuple(self.index.truth(row) for row in rows),
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
        for name, column in vars(self.index).items():
            if name != "videos":
                digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()


def open_imagenet_vid(
    tree: VidTree,
    vocabulary: Vocabulary,
    cache: Path,
    *,
    list_file: Path | None = None,
    clips: ClipSettings | None = None,
    motion: Path | None = None,
) -> ImageNetVid:
    """Open a tree, parsing its annotations if they are not in the cache.

    Args:
        tree: from ``find_tree``.
        vocabulary: classes with the names in the annotations as codes.
        cache: folder of the cache.
        list_file: videos or frames to read, see ``vid_tree``; None takes the split's own list, or all.
        clips: how clips are cut and resized.
        motion: MATLAB file of motion IoUs; None computes them from the tracks.

    Raises:
        DataError: if the list, frames or annotations are missing or malformed.
    """
    videos = find_frames(tree, read_videos(tree, list_file).videos)
    index = load_index(tree, videos, vocabulary, cache)
    if motion is not None:
        index = replace(index, motion_iou=read_motion_iou(motion, np.diff(index.object_offsets)))
    return ImageNetVid(tree, index, vocabulary, clips or ClipSettings())


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
