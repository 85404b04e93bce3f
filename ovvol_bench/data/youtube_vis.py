"""Dataset ``youtube-vis``: the JSON files of YouTube-VIS 2019 and 2021, and others of their format."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ovvol_bench.arrays import Ints, offsets_of
from ovvol_bench.benchmark import OutOfFrame
from ovvol_bench.data.json_files import FLAG, LIST, WHOLE, JsonFile, Section, box_problem
from ovvol_bench.data.json_videos import (
    Annotations,
    Categories,
    JsonVideos,
    Objects,
    index_of_objects,
    load_annotations,
    where_dense,
)
from ovvol_bench.data.sampling import ClipSettings
from ovvol_bench.data.truth_index import VideoFrames
from ovvol_bench.data.video_splits import Recipe, split_rows
from ovvol_bench.data.vocabularies import OBJECT, choose_vocabulary
from ovvol_bench.errors import DataError, SettingError
from ovvol_bench.masks import RleMasks, covered

CLASSLESS = "videocutler"
HELD_OUT = 300  # videos at the end of the training file that VideoSAUR and SlotContrast validate on

SPLITS: Mapping[str, Recipe] = {
    "videosaur-train": lambda count: range(count - HELD_OUT),
    "videosaur-val": lambda count: range(count - HELD_OUT, count) if count > HELD_OUT else (),
    CLASSLESS: range,
}
"""Parts of the training file that published methods use in place of the unpublished validation truth."""

_ANNOTATIONS = ("train/instances.json", "train.json", "instances.json")  # as the archives of the years unpack
_FRAMES = "JPEGImages"
_TRAILING_NUMBER = re.compile(r"(\d+)$")


@dataclass(frozen=True)
class YoutubeVisSource:
    """Where everything lies.

    Attributes:
        path: the JSON file, or a folder that holds it as the archives do.
        cache: folder of the cache.
        frames: folder that the file's names start from; None: ``JPEGImages`` near the file.
        masks: whether to read masks; else boxes only.
        out_of_frame: what becomes of boxes that reach out of their frame.
    """

    path: Path
    cache: Path
    frames: Path | None = None
    masks: bool = True
    out_of_frame: OutOfFrame = "keep"


def open_youtube_vis(
    source: YoutubeVisSource, split: str, vocabulary: str | None, clips: ClipSettings
) -> JsonVideos:
    """Open a split.

    Args:
        source: where everything lies.
        split: see ``SPLITS`` and ``video_splits``.
        vocabulary: see ``choose_vocabulary``; ``videocutler`` is of one class ``object``.
        clips: how clips are cut and resized.

    Raises:
        DataError: if the file is missing or malformed; names the entry.
        SettingError: if there is no such split, or it has no classes and a vocabulary is given.
    """
    if split == CLASSLESS and vocabulary not in (None, OBJECT):
        raise SettingError(
            f"dataset.split={split} is without classes: leave dataset.vocabulary out, or choose split=all."
        )
    path = find_annotations(source.path)
    parse = partial(parse_youtube_vis, masks=source.masks, out_of_frame=source.out_of_frame)
    form = f"youtube-vis masks={source.masks} out_of_frame={source.out_of_frame}"
    everything = load_annotations(path, source.cache, parse, form)
    rows = split_rows(split, everything.index.videos.tolist(), SPLITS, path)
    names = everything.category_names.tolist()
    words, class_of = choose_vocabulary(OBJECT if split == CLASSLESS else vocabulary, names, path.name)
    frames = source.frames or find_frame_folder(path)
    return JsonVideos(everything.of_videos(rows), frames, words, class_of, clips, source.out_of_frame)


def find_annotations(path: Path) -> Path:
    """The JSON file at a path, or in a folder.

    Raises:
        DataError: if a folder holds none.
    """
    if not path.is_dir():
        return path
    found = next((path / name for name in _ANNOTATIONS if (path / name).is_file()), None)
    if found is None:
        raise DataError(f"{path} holds none of {', '.join(_ANNOTATIONS)}: set dataset.path to the JSON file.")
    return found


def find_frame_folder(annotations: Path) -> Path:
    """``JPEGImages`` beside the file, in a folder of its name or in its folder's parent; else beside it."""
    beside = annotations.parent / _FRAMES
    candidates = (beside, annotations.with_suffix("") / _FRAMES, annotations.parent.parent / _FRAMES)
    return next((folder for folder in candidates if folder.is_dir()), beside)


@dataclass(frozen=True)
class _Videos:
    """The ``videos`` of a file that have frames."""

    section: Section
    ids: list[int]
    files: list[list[str]]
    sizes: list[tuple[int, int]]

    @classmethod
    def of(cls, file: JsonFile) -> _Videos:
        section = file.section("videos")
        listed = section.column("file_names", LIST)
        lengths = section.column("length", WHOLE, None)
        sizes = list(zip(section.column("height", WHOLE), section.column("width", WHOLE), strict=True))
        files = [section.paths(row, names) for row, names in enumerate(listed)]
        for row, (names, length, size) in enumerate(zip(files, lengths, sizes, strict=True)):
            if not names:
                section.refuse(row, "file_names is empty; expected at least one")
            if length not in (None, len(names)):
                section.refuse(row, f"length is {length}, but file_names has {len(names)} names")
            section.check_size(row, size)
            if len(set(names)) < len(names):
                section.refuse(row, "file_names has a name twice; expected every frame once")
        return cls(section, section.ids(), files, sizes)

    @property
    def names(self) -> list[str]:
        """Folders of the frames; the videos' numbers if those are not one a video."""
        folders = [str(PurePosixPath(names[0]).parent) for names in self.files]
        return folders if len({*folders, "."}) > len(folders) else [str(number) for number in self.ids]

    @cached_property
    def row_of(self) -> dict[int, int]:
        """Position of every id."""
        return {number: row for row, number in enumerate(self.ids)}


def parse_youtube_vis(file: JsonFile, masks: bool = True, out_of_frame: OutOfFrame = "keep") -> Annotations:
    """Columns of a file.

    A track is an annotation, its number the track id. Boxes are ``x, y, width, height`` with an exclusive
    end; one that is null where there is a mask is the mask's. Motion IoU is known where a video's frames
    follow each other; YouTube-VIS lists every fifth.

    Args:
        file: to read.
        masks: whether to read masks.
        out_of_frame: what becomes of boxes that reach out of their frame.

    Raises:
        DataError: if something is missing, unknown, repeated or of another length; names the entry.
    """
    videos, categories = _Videos.of(file), Categories.of(file)
    lengths = np.array([len(names) for names in videos.files], np.int64)
    objects = Objects(file.section("annotations", optional=True))
    bare = _gather(objects, videos, categories, masks)
    index, crowds = index_of_objects(
        [VideoFrames(name, np.arange(n)) for name, n in zip(videos.names, lengths.tolist(), strict=True)],
        np.repeat(np.array(videos.sizes, np.int64).reshape(-1, 2), lengths, axis=0),
        objects,
        out_of_frame,
    )
    return Annotations(
        index=where_dense(index, [_numbers(names) for names in videos.files]),
        crowds=crowds,
        files=np.array([name for names in videos.files for name in names]),
        video_ids=np.array(videos.ids, np.int64),
        frame_ids=np.zeros(0, np.int64),
        category_ids=np.array(categories.ids, np.int64),
        category_names=np.array(categories.names),
        bare=bare,
        counts=np.array([len(objects.section) > 0, 0], np.int64),
    )


def _gather(objects: Objects, videos: _Videos, categories: Categories, masks: bool) -> Ints:
    """Add all objects; (V,) annotations of each video that have neither box nor mask in any frame."""
    bare = np.zeros(len(videos.ids), np.int64)
    section = objects.section
    tracks = section.ids()
    video_rows = section.rows("video_id", videos.section, videos.row_of)
    class_rows = section.rows("category_id", categories.section, categories.row_of)
    section.column("iscrowd", FLAG, 0)
    starts = offsets_of(np.array([len(names) for names in videos.files], np.int64)).tolist()
    for entry, (video, class_row) in enumerate(zip(video_rows, class_rows, strict=True)):
        size, length = videos.sizes[video], len(videos.files[video])
        segmentations = _per_frame(section, entry, "segmentations", length) if masks else [None] * length
        boxes = _per_frame(section, entry, "bboxes", length)
        if not masks and "bboxes" not in section.entries[entry]:
            section.refuse(entry, "bboxes is missing; expected boxes where masks are not read")
        runs = [
            objects.mask(entry, each, size, f"segmentations[{t}]") for t, each in enumerate(segmentations)
        ]
        areas = _per_frame(section, entry, "areas", length)
        found = _corners(section, entry, boxes, runs, size)
        bare[video] += all(corners is None for corners in found)
        for t, corners in enumerate(found):
            if corners is not None:
                row = (class_row + 1, *corners, tracks[entry], 0, 0)
                objects.add(entry, starts[video] + t, row, runs[t], areas[t])
    return bare


def _per_frame(section: Section, entry: int, name: str, length: int) -> list[Any]:
    """A list with one item a frame; all null where the annotation has none."""
    values = section.entries[entry].get(name)
    if values is None:
        return [None] * length
    if not isinstance(values, list) or len(values) != length:
        got = len(values) if isinstance(values, list) else "no list"
        section.refuse(entry, f"{name} has {got} items; expected {length}, one a frame of its video")
    return values


def _corners(
    section: Section, entry: int, boxes: Sequence[Any], runs: Sequence[bytes], size: tuple[int, int]
) -> list[tuple[float, ...] | None]:
    """x1, y1, x2, y2 with inclusive ends in every frame; None where the object is absent."""
    lacking = [t for t, box in enumerate(boxes) if box is None and runs[t]]
    corners: list[tuple[float, ...] | None] = [None] * len(boxes)
    if lacking:
        if (covered([runs[t] for t in lacking]) != size[0] * size[1]).any():
            section.refuse(entry, "a mask's run lengths don't add up to the pixels of its frame")
        of_masks = RleMasks(size, tuple(runs[t] for t in lacking)).boxes().tolist()
        for t, box in zip(lacking, of_masks, strict=True):
            corners[t] = tuple(box)
    for t, box in enumerate(boxes):
        if box is not None:
            if problem := box_problem(box):
                section.refuse(entry, f"bboxes[{t}] {problem}")
            corners[t] = (box[0], box[1], box[0] + box[2] - 1, box[1] + box[3] - 1)
    return corners


def _numbers(names: Sequence[str]) -> Ints:
    """Numbers that the frames' names end in; none if one has none."""
    found = [_TRAILING_NUMBER.search(PurePosixPath(name).stem) for name in names]
    numbers = [int(match[1]) for match in found if match]
    return np.array(numbers if len(numbers) == len(names) else [], np.int64)
