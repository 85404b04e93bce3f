"""Dataset ``coco-vid``: videos in COCO's format as MMTracking extends it, converted ImageNet-VID too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ovvol_bench.arrays import Ints
from ovvol_bench.benchmark import OutOfFrame
from ovvol_bench.data.json_files import FLAG, LIST, TEXT, WHOLE, JsonFile, Section, box_problem
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
from ovvol_bench.data.video_splits import split_rows
from ovvol_bench.data.vocabularies import choose_vocabulary
from ovvol_bench.errors import DataError

BoxEnds = Literal["auto", "exclusive", "inclusive"]


@dataclass(frozen=True)
class CocoVidSource:
    """Where everything lies, and how it is meant.

    Attributes:
        path: the JSON file.
        cache: folder of the cache.
        frames: folder that the file's names start from; None: the file's own.
        box_ends: whether ``x + width`` is the last column inside (``inclusive``, as where ImageNet-VID was
            converted with ``width = xmax - xmin``) or one past it (``exclusive``, as in COCO). ``auto``:
            inclusive where annotations have ``generated``, which only that conversion writes.
        masks: whether to read masks; else boxes only.
        out_of_frame: what becomes of boxes that reach out of their frame.
    """

    path: Path
    cache: Path
    frames: Path | None = None
    box_ends: BoxEnds = "auto"
    masks: bool = True
    out_of_frame: OutOfFrame = "keep"

    @property
    def form(self) -> str:
        """The settings that its columns depend on, for the cache."""
        return f"box_ends={self.box_ends} masks={self.masks} out_of_frame={self.out_of_frame}"


def open_coco_vid(
    source: CocoVidSource, split: str, vocabulary: str | None, clips: ClipSettings
) -> JsonVideos:
    """Open all videos of a file, or those that a list names.

    Args:
        source: where everything lies.
        split: ``all``, or a text file, see ``video_splits``.
        vocabulary: see ``choose_vocabulary``.
        clips: how clips are cut and resized.

    Raises:
        DataError: if the file is missing or malformed; names the entry.
    """
    form = f"coco-vid {source.form}"
    parse = partial(parse_coco_vid, source=source)
    everything = load_annotations(source.path, source.cache, parse, form)
    rows = split_rows(split, everything.index.videos.tolist(), {}, source.path)
    words, class_of = choose_vocabulary(vocabulary, everything.category_names.tolist(), source.path.name)
    frames = source.frames or source.path.parent
    return JsonVideos(everything.of_videos(rows), frames, words, class_of, clips, source.out_of_frame)


@dataclass(frozen=True)
class Images:
    """The ``images`` of a file: V videos that have any, F images in the videos' order.

    Attributes:
        section: of the file.
        order: (F,) entries, by video and then by ``frame_id``.
        videos: (F,) position of each image's video among all of the file, in ``order``.
        numbers: (F,) ``frame_id`` of each, in ``order``.
        sizes: (F, 2) height and width, in ``order``.
    """

    section: Section
    order: list[int]
    videos: Ints
    numbers: Ints
    sizes: Ints

    @classmethod
    def of(cls, file: JsonFile, videos: Section, video_row_of: dict[int, int]) -> Images:
        """Frames of videos, each of which has every ``frame_id`` once."""
        section = file.section("images")
        rows = section.rows("video_id", videos, video_row_of)
        numbers = section.column("frame_id", WHOLE)
        sizes = list(zip(section.column("height", WHOLE), section.column("width", WHOLE), strict=True))
        order = sorted(range(len(rows)), key=lambda entry: (rows[entry], numbers[entry]))
        for before, entry in pairwise(order):
            if rows[before] == rows[entry] and numbers[before] == numbers[entry]:
                section.refuse(entry, f"its video has another image of frame_id {numbers[entry]}")
        for entry, (number, size) in enumerate(zip(numbers, sizes, strict=True)):
            section.check_size(entry, size)
            if number < 0:
                section.refuse(entry, f"frame_id is {number}; expected 0 at least")
        return cls(
            section,
            order,
            np.array([rows[entry] for entry in order], np.int64),
            np.array([numbers[entry] for entry in order], np.int64),
            np.array([sizes[entry] for entry in order], np.int64).reshape(-1, 2),
        )

    @classmethod
    def alone(cls, file: JsonFile) -> Images:
        """Images that are no frames of videos: each is a video of its own, in the order of their ids."""
        section = file.section("images")
        ids = section.ids()
        order = sorted(range(len(ids)), key=lambda entry: ids[entry])
        sizes = list(zip(section.column("height", WHOLE), section.column("width", WHOLE), strict=True))
        for entry, size in enumerate(sizes):
            section.check_size(entry, size)
        return cls(
            section,
            order,
            np.arange(len(order)),
            np.zeros(len(order), np.int64),
            np.array([sizes[entry] for entry in order], np.int64).reshape(-1, 2),
        )

    def column(self, values: Sequence[Any]) -> list[Any]:
        """Values of all entries, in ``order``."""
        return [values[entry] for entry in self.order]


def parse_coco_vid(file: JsonFile, source: CocoVidSource) -> Annotations:
    """Columns of a file.

    A frame's position in its video is ``frame_id``, a track is ``instance_id`` or ``track_id`` (-1 or none:
    unknown). ``occluded`` and ``generated`` count where they are 1 or true.

    Args:
        file: to read.
        source: how it is meant.

    Raises:
        DataError: if something is missing, unknown or repeated; names the entry.
    """
    if file.content.get("videos") is None and file.content.get("images"):
        raise DataError(
            f"{file.path}: there are 'images' but no 'videos'. Images that are no frames of videos are read "
            "by the dataset 'coco'."
        )
    listed = file.section("videos")
    video_ids, names = listed.ids(), listed.column("name", TEXT)
    listed.require_unique("name", names)
    images = Images.of(file, listed, {number: row for row, number in enumerate(video_ids)})
    there, starts = np.unique(images.videos, return_index=True)
    parts = np.split(images.numbers, starts[1:]) if len(there) else []
    videos = [VideoFrames(names[row], part) for row, part in zip(there.tolist(), parts, strict=True)]
    found = annotations_of(file, images, videos, source)
    return replace(
        found,
        index=where_dense(found.index, parts),
        video_ids=np.array(video_ids, np.int64)[there],
        counts=np.array([found.counts[0], len(names) - len(there)], np.int64),
    )


def annotations_of(
    file: JsonFile, images: Images, videos: Sequence[VideoFrames], source: CocoVidSource
) -> Annotations:
    """Columns of the annotations of images; a video's number is that of its first image.

    Args:
        file: to read.
        images: of the file.
        videos: that the images are frames of, in their order.
        source: how it is meant.

    Raises:
        DataError: if something is missing, unknown or repeated; names the entry.
    """
    categories, objects = (
        Categories.of(file),
        Objects(file.section("annotations", optional=True), keep_empty=True),
    )
    image_ids = images.column(images.section.ids())
    _gather(objects, images, image_ids, categories, source)
    index, crowds = index_of_objects(videos, images.sizes, objects, source.out_of_frame)
    return Annotations(
        index=index,
        crowds=crowds,
        files=np.array(images.column(images.section.files())),
        video_ids=np.array(image_ids, np.int64)[index.frame_offsets[:-1]],
        frame_ids=np.array(image_ids, np.int64),
        category_ids=np.array(categories.ids, np.int64),
        category_names=np.array(categories.names),
        bare=np.zeros(len(videos), np.int64),  # every annotation must have a box
        counts=np.array([len(objects.section) > 0, 0], np.int64),
    )


def _gather(
    objects: Objects, images: Images, image_ids: list[int], categories: Categories, source: CocoVidSource
) -> None:
    section = objects.section
    section.ids()
    place_of = {number: place for place, number in enumerate(image_ids)}
    frames = section.rows("image_id", images.section, place_of)
    classes = section.rows("category_id", categories.section, categories.row_of)
    section.column("iscrowd", FLAG, 0)
    tracks = section.column("instance_id", WHOLE, None)
    others = section.column("track_id", WHOLE, -1)  # as TAO and trackers call it
    tracks = [other if track is None else track for track, other in zip(tracks, others, strict=True)]
    occluded, generated = (section.column(name, FLAG, 0) for name in ("occluded", "generated"))
    boxes = section.column("bbox", LIST)
    end = 0 if _inclusive(section, source.box_ends) else 1
    sizes = [(height, width) for height, width in images.sizes.tolist()]
    for entry, (frame, box) in enumerate(zip(frames, boxes, strict=True)):
        if problem := box_problem(box):
            section.refuse(entry, f"bbox {problem}")
        x, y, width, height = box
        corners = (x, y, x + width - end, y + height - end)
        flags = (occluded[entry] == 1, generated[entry] == 1)
        segmentation = section.entries[entry].get("segmentation") if source.masks else None
        mask = objects.mask(entry, segmentation, sizes[frame], "segmentation")
        row = (classes[entry] + 1, *corners, tracks[entry], *flags)
        objects.add(entry, frame, row, mask, section.entries[entry].get("area"))


def _inclusive(section: Section, box_ends: BoxEnds) -> bool:
    if box_ends == "auto":
        return any("generated" in entry for entry in section.entries)
    return box_ends == "inclusive"
