"""Truth of an ILSVRC-VID split as columns: parsed once, then read from a cache.

Masks, where a tree has them, are a PNG a frame: 0 where no object is, else 1 + track id.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np

from ovvol_bench.data.cache import load_columns, store_columns
from ovvol_bench.data.imagenet_vid.tree import ANNOTATION_SUFFIX, ListedVideo, VidTree
from ovvol_bench.data.readers import label_runs, read_header, read_labels
from ovvol_bench.data.truth_index import UNKNOWN_CLASS, RawAnnotations, TruthIndex, VideoFrames, build_index
from ovvol_bench.data.vid_annotations import class_ids, read_annotations
from ovvol_bench.errors import DataError, DecodeError
from ovvol_bench.naming.vocabulary import Vocabulary
from ovvol_bench.progress import with_progress

_LOG = logging.getLogger(__name__)

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

    The cache's key hashes the videos and frames, the annotations' and masks' sizes and times of change, the
    vocabulary's codes and names, and ``VERSION``: whatever changes, the files are read again.

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
    key = _key(tree, videos, vocabulary)
    columns = load_columns(cache, key)
    if columns:
        index = TruthIndex(**columns)
    else:
        jobs = [(tree.annotations / video.name, video.numbers.tolist()) for video in videos]
        raw = read_annotations(jobs, class_ids(vocabulary), processes, tree.digits)
        if tree.masks is not None:
            raw = replace(raw, masks=read_masks(tree.masks, videos, raw))
        index = build_index(videos, raw, partial(_stored_size, tree))
        store_columns(cache, key, asdict(index))
    unknown = index.skipped.get(UNKNOWN_CLASS, 0)
    if unknown and not len(index.boxes):
        _LOG.warning(
            "all %d %s under %s: nothing can be scored. Set dataset.vocabulary to one that has what their "
            "<name> says (now '%s').",
            unknown, UNKNOWN_CLASS, tree.annotations / tree.split, vocabulary.name,
        )  # fmt: skip
    return index


def _stored_size(tree: VidTree, video: VideoFrames) -> tuple[int, int]:
    """Read (height, width) of the first frame of a video that says its own."""
    for number in video.numbers.tolist():
        try:
            return read_header(tree.frame(video.name, number)).size
        except DecodeError:
            continue
    raise DataError(f"{tree.frames / video.name}: no frame says its size. Extract it again, or leave it out.")


def _key(tree: VidTree, videos: Sequence[VideoFrames], vocabulary: Vocabulary) -> str:
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


def read_masks(root: Path, videos: Sequence[VideoFrames], raw: RawAnnotations) -> list[bytes]:
    """Read the run lengths of the masks of all objects.

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
