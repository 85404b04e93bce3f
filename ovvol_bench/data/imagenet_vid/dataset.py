"""Dataset ``imagenet-vid``: frames and truth in the ILSVRC-VID layout (ImageNet-VID, and ``shapes``)."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Ints
from ovvol_bench.data.base import TrainingVideos
from ovvol_bench.data.cache import cache_folder, content_digest, load_columns, store_columns
from ovvol_bench.data.imagenet_vid.tree import (
    ANNOTATION_SUFFIX,
    ListedVideo,
    VideoList,
    VidTree,
    find_tree,
    read_names,
    read_videos,
    tree_at,
)
from ovvol_bench.data.indexed import IndexedVideos
from ovvol_bench.data.motion import read_motion_iou
from ovvol_bench.data.readers import FrameFolder, FrameReader, label_runs, read_header, read_labels
from ovvol_bench.data.sampling import ClipSettings, Sampling
from ovvol_bench.data.truth_index import UNKNOWN_CLASS, RawAnnotations, TruthIndex, VideoFrames, build_index
from ovvol_bench.data.vid_annotations import class_ids, read_annotations
from ovvol_bench.data.video_lists import prepared_videos
from ovvol_bench.data.videos import Videos
from ovvol_bench.errors import DataError, DecodeError, SettingError, nearest
from ovvol_bench.files import require_utf8
from ovvol_bench.naming.vocabulary import Vocabulary, load_vocabulary
from ovvol_bench.progress import with_progress
from ovvol_bench.registry import ClipLength, FromSize, Located

_LOG = logging.getLogger(__name__)


class ImageNetVid(IndexedVideos):
    """Clips of an ILSVRC-VID tree with truth, which is read with its first use: training needs none.

    Args:
        tree: from ``find_tree``.
        vocabulary: classes with the names in the annotations as codes.
        clips: how clips are cut and resized.
        cache: folder of the cache.
        list_file: videos or frames to read, see ``tree``; None takes the split's own list, or all.
        motion: MATLAB file of motion IoUs; None computes them from the tracks.
    """

    def __init__(
        self,
        tree: VidTree,
        vocabulary: Vocabulary,
        clips: ClipSettings,
        cache: Path,
        list_file: Path | None = None,
        motion: Path | None = None,
    ) -> None:
        super().__init__(vocabulary, clips)
        self._tree, self._cache, self._list_file, self._motion = tree, cache, list_file, motion

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
        found = read_videos(self._tree, self._list_file)
        require_utf8((video.name for video in found.videos), self._tree.frames)
        return found

    @cached_property
    def index(self) -> TruthIndex:  # type: ignore[override]  # read by others, set by nobody
        """Truth of all videos, from the cache or from the annotations.

        Raises:
            DataError: if the list, frames or annotations are missing or malformed.
        """
        videos = find_frames(self._tree, self.listed.videos)
        index = load_index(self._tree, videos, self.vocabulary, self._cache)
        if self._motion is None:
            return index
        return replace(index, motion_iou=read_motion_iou(self._motion, np.diff(index.object_offsets)))

    def frames(self, video: int, rows: Sequence[int]) -> FrameReader:
        name = str(self.index.videos[video])
        files = [self._tree.frame(name, number) for number in self.index.frame_numbers[list(rows)].tolist()]
        height, width = self.index.frame_sizes[video].tolist()
        return FrameFolder(files, (height, width))

    def frame_files(self) -> list[str]:
        tree, pieces = self._tree, zip(self.index.videos.tolist(), self.index.lengths.tolist(), strict=True)
        folders = (folder for video, length in pieces for folder in [f"{tree.frames}/{video}/"] * length)
        numbers = self.index.frame_numbers.tolist()
        return [f"{f}{n:0{tree.digits}d}{tree.suffix}" for f, n in zip(folders, numbers, strict=True)]

    def training_videos(self) -> FolderVideos:
        """All frames of the videos, see ``open_folder_videos``; annotations are not read."""
        return open_folder_videos(self._tree, self._list_file, self._cache)


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
        return str(self._names[index])

    def length(self, index: int) -> int:
        return int(self._offsets[index + 1] - self._offsets[index])

    def frames(self, index: int, positions: Sequence[int]) -> npt.NDArray[np.uint8]:
        """Read frames; one of another size than the first is an error too."""
        numbers = self._numbers[self._offsets[index] : self._offsets[index + 1]][list(positions)].tolist()
        files = [self._tree.frame(self.name(index), number) for number in numbers]
        return FrameFolder(files).stored(range(len(files)))

    def fingerprint(self) -> str:
        """Hash of names, frame numbers and frames."""

        def frame_path(row: int) -> str:
            video = int(np.searchsorted(self._offsets, row, side="right")) - 1
            return str(self._tree.frame(self.name(video), int(self._numbers[row])))

        digest = hashlib.sha256("\n".join(self._names.tolist()).encode())
        digest.update(content_digest(len(self._numbers), frame_path).encode())
        digest.update(self._offsets.tobytes())
        digest.update(self._numbers.tobytes())
        return digest.hexdigest()


def open_folder_videos(tree: VidTree, list_file: Path | None, cache: Path) -> FolderVideos:
    """Open the videos that a list names, or all of a split, with all frames that lie in their folders.

    Folders that are missing or without frames are left out with a warning that counts them.

    Args:
        tree: from ``find_tree``.
        list_file: see ``tree``; None takes the split's own, or all folders.
        cache: folder that keeps the frame numbers, for as long as the folders don't change.

    Raises:
        DataError: if the list can't be read or is empty, the name of a folder is not UTF-8, or no video has
            a frame.
    """
    # which frames of a video a list names, as VID_train_15frames.txt does, is of no matter
    names = read_names(tree, list_file)
    require_utf8(names, tree.frames)
    # a file that comes or goes changes the time of its folder
    folders = ((name, tree.frames / name) for name in names)
    stamps = [(name, folder.stat().st_mtime_ns if folder.is_dir() else 0) for name, folder in folders]
    source = (str(tree.frames.absolute()), stamps)
    key = f"frames-{hashlib.blake2b(repr(source).encode(), digest_size=16).hexdigest()}"
    columns = load_columns(cache, key)
    if columns is None:
        shown = with_progress(names, len(names), "listing frames", lambda _: 1)
        found = [sorted(tree.frame_numbers(name)) for name in shown]
        columns = {
            "lengths": np.array([len(part) for part in found], np.int64),
            "numbers": np.concatenate([np.array(part, np.int64) for part in found]),
        }
        store_columns(cache, key, columns)
    lengths = columns["lengths"]
    offsets = np.concatenate([[0], np.cumsum(lengths[lengths > 0])]).astype(np.int64)
    empty = [name for name, length in zip(names, lengths.tolist(), strict=True) if length == 0]
    if len(empty) == len(names):
        raise DataError(
            f"None of {len(names)} videos under {tree.frames / tree.split} has frames: expected folders of "
            f"numbered {tree.suffix} files. Extract the dataset again, or give another list."
        )
    if empty:
        _LOG.warning(
            "left out: %d of %d videos have no frames, first: %s",
            len(empty), len(names), tree.frames / empty[0],
        )  # fmt: skip
    return FolderVideos(tree, np.array(names)[lengths > 0], offsets, columns["numbers"])


def open_imagenet_vid(  # noqa: PLR0913 - settings
    *,
    path: Annotated[Path, Located],
    split: str = "val",
    list: Annotated[Path | None, Located] = None,
    vocabulary: str = "imagenet-vid",
    classes: tuple[str, ...] | None = None,
    frames_per_clip: Annotated[int, ClipLength] = 8,
    sampling: Sampling = "all",
    short_side: Annotated[int, FromSize("short_side")] = 224,
    multiple: Annotated[int, FromSize("multiple")] = 16,
    scale_at_decode: bool = False,
    motion_iou: str = "tracks",
    cache: Annotated[str | None, Located] = None,
) -> Videos | ImageNetVid:
    """Open frames and truth in the ILSVRC-VID layout, or mp4s that "data prepare" makes of it for training.

    Training takes all frames of every video and reads no annotations; without a tree at path, it takes the
    mp4s that the list names (./train/VIDEO.mp4 0, a label may follow). Those have no truth.

    Args:
        path: folder with Data, Annotations and ImageSets; or with SPLIT.csv and the mp4s that it names.
        split: folder in Data/VID; or the name before .csv.
        list: text file, one video or one frame a line (layout is detected); none: the split's own, or all.
        vocabulary: built-in name or a .yaml file, whose codes or names are those in the annotations' <name>.
        classes: names or codes to keep, separated by commas; none: all.
        frames_per_clip: frames in a clip.
        sampling: all covers every frame, reference drops the ends of videos as the paper's code does.
        short_side: of resized frames, pixels.
        multiple: what both sides are multiples of, pixels.
        scale_at_decode: let the decoder scale: quicker, but other pixels than the reference's.
        motion_iou: tracks, or a .mat file in FGFA's format.
        cache: folder for parsed annotations and frame counts; none: the user's cache folder.
    """
    words, folder = restrict(load_vocabulary(vocabulary), classes), cache_folder(cache)
    files = None if tree_at(path, split) else prepared_videos(path, split, list)
    if files is not None:
        return Videos(
            files,
            words,
            sampling=sampling,
            frames_per_clip=frames_per_clip,
            short_side=short_side,
            multiple=multiple,
            scale_at_decode=scale_at_decode,
            cache=cache,
        )
    clips = ClipSettings(frames_per_clip, sampling, 1, short_side, multiple, scale_at_decode)
    motion = None if motion_iou == "tracks" else Path(motion_iou)
    return ImageNetVid(find_tree(path, split), words, clips, folder, list, motion)


MASK_SUFFIX = ".png"
VERSION = "3"
"""Of the columns' content; part of the cache's key."""


def find_frames(tree: VidTree, listed: Sequence[ListedVideo]) -> tuple[VideoFrames, ...]:
    """Check that all listed frames are there, and fill in the numbers of whole folders.

    Raises:
        DataError: if frames are missing, or there is no frame at all; says how many and the first.
    """
    videos, missing = [], []
    for video in listed:
        there = set(tree.frame_numbers(video.name))
        numbers = tuple(sorted(there)) if video.numbers is None else video.numbers
        wanted = numbers if numbers else (0,)  # a listed folder without frames misses its first
        missing += [tree.frame(video.name, number) for number in wanted if number not in there]
        videos.append(VideoFrames(video.name, np.array(numbers, np.int64)))
    if missing or not videos:
        raise _missing("frames", missing, tree.frames / tree.split, tree.suffix)
    return tuple(videos)


def load_index(
    tree: VidTree,
    videos: Sequence[VideoFrames],
    vocabulary: Vocabulary,
    cache: Path,
    processes: int | None = None,
) -> TruthIndex:
    """Read the truth of videos: from the cache, or from the XML files and then into the cache.

    Args:
        tree: where the files lie.
        videos: from ``find_frames``.
        vocabulary: its codes or names are those in the files; other objects are left out and counted, with a
            warning where none is left.
        cache: folder of the cache.
        processes: that parse; None chooses.

    Raises:
        DataError: if annotations are missing or not valid, or the frame size changes within a video.
    """

    def stored_size(video: VideoFrames) -> tuple[int, int]:
        for number in video.numbers.tolist():  # the first that says its own
            with suppress(DecodeError):
                return read_header(tree.frame(video.name, number)).size
        folder = tree.frames / video.name
        raise DataError(f"{folder}: no frame says its size. Extract it again, or leave it out.")

    key = _key(tree, videos, vocabulary)
    columns = load_columns(cache, key)
    if columns:
        index = TruthIndex(**columns)
    else:
        jobs = [(tree.annotations / video.name, video.numbers.tolist()) for video in videos]
        raw = read_annotations(jobs, class_ids(vocabulary), processes, tree.digits)
        if tree.masks is not None:
            raw = replace(raw, masks=_read_masks(tree.masks, videos, raw))
        index = build_index(videos, raw, stored_size)
        store_columns(cache, key, asdict(index))
    unknown = index.skipped.get(UNKNOWN_CLASS, 0)
    if unknown and not len(index.boxes):
        _LOG.warning(
            "all %d %s under %s: nothing can be scored. Set dataset.vocabulary to one that has what their "
            "<name> says (now '%s').",
            unknown, UNKNOWN_CLASS, tree.annotations / tree.split, vocabulary.name,
        )  # fmt: skip
    return index


def _key(tree: VidTree, videos: Sequence[VideoFrames], vocabulary: Vocabulary) -> str:
    # of the videos and frames, the annotations' and masks' sizes and times of change, the vocabulary's codes
    # and names: whatever changes, the files are read again
    digest = hashlib.blake2b(repr((VERSION, class_ids(vocabulary))).encode(), digest_size=16)
    missing: list[Path] = []
    for video in videos:
        folder = tree.annotations / video.name
        stamps = _stamps(folder, ANNOTATION_SUFFIX)
        names = [f"{number:0{tree.digits}d}{ANNOTATION_SUFFIX}" for number in video.numbers.tolist()]
        missing += [folder / name for name in names if name not in stamps]
        own = np.array([stamps.get(name, (0, 0)) for name in names], np.int64)
        digest.update(video.name.encode() + video.numbers.tobytes() + own.tobytes())
        if tree.masks is not None:
            digest.update(repr(sorted(_stamps(tree.masks / video.name, MASK_SUFFIX).items())).encode())
    if missing:
        raise _missing("annotations", missing, tree.annotations / tree.split, tree.suffix)
    return f"vid-{digest.hexdigest()}"


def _stamps(folder: Path, suffix: str) -> dict[str, tuple[int, int]]:
    """Size and time of change of every file in a folder that ends in ``suffix``."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        return {
            entry.name: ((stat := entry.stat()).st_size, stat.st_mtime_ns)
            for entry in entries
            if entry.name.endswith(suffix)
        }


def _missing(what: str, paths: Sequence[Path], folder: Path, suffix: str) -> DataError:
    if not paths:
        return DataError(f"{folder} has no videos: expected folders of numbered {suffix} files.")
    first = ", ".join(str(path) for path in paths[:3])
    return DataError(
        f"{len(paths)} {what} are missing under {folder}, first: {first}. "
        "Extract the dataset again, or give a list of what is there."
    )


def _read_masks(root: Path, videos: Sequence[VideoFrames], raw: RawAnnotations) -> list[bytes]:
    """Read the run lengths of the masks of all objects, in their order."""
    files = [
        root / video.name / f"{number:06d}{MASK_SUFFIX}"
        for video in videos
        for number in video.numbers.tolist()
    ]
    runs: list[bytes] = []
    for frame, file in enumerate(with_progress(files, len(files), "reading masks", lambda _: 1)):
        start, end = raw.object_offsets[frame : frame + 2].tolist()
        tracks = raw.objects[start:end, 5].astype(np.int64)
        if (tracks < 0).any():
            raise DataError(
                f"Mask {file} has objects without a trackid: expected one a pixel value can stand for. "
                "Annotate tracks, or take the folder of masks away."
            )
        labels = read_labels(file)
        size = tuple(raw.sizes[frame].tolist())
        if any(size) and labels.shape != size:
            raise DataError(
                f"Mask {file} is {labels.shape[0]} x {labels.shape[1]} pixels (height x width); expected "
                f"{size[0]} x {size[1]}, as annotated. Make the masks again."
            )
        runs += label_runs(labels, tracks + 1)
    return runs
