"""COCO-VID with scores: a JSON object of videos, images and annotations, which says what its numbers mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ovvol_bench.arrays import Bools, Ints
from ovvol_bench.detections import Detections
from ovvol_bench.errors import DataError
from ovvol_bench.files import read_json
from ovvol_bench.formats.coco_objects import EXPECTED, read_objects, segmentation, written_boxes
from ovvol_bench.formats.content import IN_NO_CLIP, NO_CLASS, UNKNOWN, Content, looked_up
from ovvol_bench.formats.entries import (
    Entries,
    detections_from,
    known_classes,
    refuse_unknown,
)
from ovvol_bench.formats.faults import Faults, OnError, Report, Rows
from ovvol_bench.formats.json_files import columns_of, integers, write_lists
from ovvol_bench.naming.vocabulary import spoken

NAME = "coco-vid"
LISTS = ("videos", "images", "annotations")


def read(path: Path, content: Content, on_error: OnError = "fail") -> tuple[Detections, Report]:
    """Read an object of lists.

    - ``videos``: ``{id, name}``; a video is the dataset's of that name.
    - ``images``: ``{id, video_id, frame_id}``, frames counted from 0.
    - ``annotations``: ``{image_id, category_id, bbox: [x, y, width, height], score}``, perhaps with
      ``instance_id`` (or ``track_id``) and ``segmentation``.
    - ``categories``, if there: ``{id, name}``; a class is the dataset's of that name.

    Raises:
        DataError: naming the first entry with a fault, see ``entries.detections_from``; an image that is
            there twice is one.
    """
    lists, faults = _lists(path), Faults(lambda at: f"{path}, annotation {at}", on_error)
    annotations = lists["annotations"]
    frame_of_image = _frames(path, lists, content, faults)
    tracks = any(isinstance(entry, Mapping) and "instance_id" in entry for entry in annotations)
    look = partial(
        read_objects,
        sizes=partial(_sizes, content, frame_of_image),
        track="instance_id" if tracks else "track_id",
    )
    objects, at = columns_of(annotations, look, faults, EXPECTED)
    rows = Rows(at, faults)
    frame = looked_up(frame_of_image, objects.images)
    refuse_unknown(rows, frame, "frame", lambda row: f"(image_id {objects.images[row]})")
    categories = _named(path, "category", faults, lists["categories"])
    class_ids = _class_ids(rows, objects.classes, categories, content)
    columns = (objects.boxes, class_ids, objects.scores, objects.tracks, objects.masks)
    return detections_from(Entries(rows, frame, *columns), content, NAME, len(annotations))


def write(detections: Detections, content: Content, path: Path) -> None:
    """Write detections, with all frames of the dataset as images.

    Raises:
        DataError: if a video, frame or class has no number.
    """
    write_lists(
        path,
        {
            "videos": _videos(content),
            "images": _images(content),
            "annotations": _annotations(detections, content),
            "categories": (
                {"id": int(content.class_numbers[row]), "name": content.names[row]}
                for row in range(1, content.classes + 1)
            ),
        },
    )


def _videos(content: Content) -> Iterator[dict[str, Any]]:
    frames = content.frames
    columns = zip(content.video_numbers.tolist(), frames.videos, frames.sizes.tolist(), strict=True)
    for number, name, (height, width) in columns:
        yield {"id": number, "name": name, "width": width, "height": height}


def _images(content: Content) -> Iterator[dict[str, Any]]:
    frames = content.frames
    columns = zip(
        content.frame_numbers.tolist(),
        content.video_numbers[frames.video].tolist(),
        frames.index.tolist(),
        frames.sizes[frames.video].tolist(),
        strict=True,
    )
    for number, video, index, (height, width) in columns:
        yield {"id": number, "video_id": video, "frame_id": index, "width": width, "height": height}


def _annotations(detections: Detections, content: Content) -> Iterator[dict[str, Any]]:
    columns = zip(
        content.frame_numbers[detections.frame].tolist(),
        content.video_numbers[detections.video].tolist(),
        content.class_numbers[detections.class_ids].tolist(),
        detections.tracks.tolist(),
        written_boxes(detections),
        detections.scores.tolist(),
        strict=True,
    )
    for row, (image, video, category, track, box, score) in enumerate(columns):
        entry = {"id": row + 1, "image_id": image, "video_id": video, "category_id": category}
        tracked = {"instance_id": track} if track >= 0 else {}
        yield entry | tracked | {"bbox": box, "score": score} | segmentation(detections, row)


def _lists(path: Path) -> dict[str, list[Any]]:
    """The lists of the file; no ``categories`` count as an empty list.

    Raises:
        DataError: if one is missing or no list.
    """
    content = read_json(path)
    lists = {"categories": [], **content} if isinstance(content, dict) else {}
    wrong = [name for name in (*LISTS, "categories") if not isinstance(lists.get(name), list)]
    if wrong:
        raise DataError(f"{path}: no list '{wrong[0]}'; expected a JSON object with {', '.join(LISTS)}")
    return lists


def _frames(path: Path, lists: Mapping[str, list[Any]], content: Content, faults: Faults) -> dict[int, int]:
    """The frame that each image number stands for."""
    images = faults.of(lambda at: f"{path}, image {at}")
    form = "an object with id, video_id and frame_id"
    (numbers, videos, indices), at = columns_of(lists["images"], _image_columns, images, form)
    video = looked_up(_video_table(path, lists["videos"], content, faults), videos)
    frame = np.where(video < 0, video, content.position_rows(np.maximum(video, 0), indices))
    rows = Rows(at, images)
    rows.refuse(_repeated(numbers), "repeated image", lambda row: f"id {numbers[row]} is there already")
    rows.refuse(
        _repeated(frame) & (frame >= 0),
        "repeated frame",
        lambda row: f"{content.frames.name(int(frame[row]))} is there already; expected one image a frame",
    )
    return dict(zip(numbers[rows.good].tolist(), frame[rows.good].tolist(), strict=True))


def _image_columns(entries: Sequence[Mapping[str, Any]]) -> tuple[Ints, Ints, Ints]:
    return integers(entries, "id"), integers(entries, "video_id"), integers(entries, "frame_id")


def _video_table(path: Path, videos: list[Any], content: Content, faults: Faults) -> dict[int, int]:
    """The video that each video number stands for."""
    known = dict.fromkeys(content.ids.videos.values(), IN_NO_CLIP) | content.frames.video_row
    return {
        number: known.get(name, UNKNOWN) for number, name in _named(path, "video", faults, videos).items()
    }


def _named(path: Path, what: str, faults: Faults, entries: list[Any]) -> dict[int, str]:
    """Names by number."""

    def read(entries: Sequence[Mapping[str, Any]]) -> dict[int, str]:
        names = [str(entry["name"]) for entry in entries]
        return dict(zip(integers(entries, "id").tolist(), names, strict=True))

    of_entry = faults.of(lambda at: f"{path}, {what} {at}")
    return columns_of(entries, read, of_entry, "an object with id and name")[0]


def _class_ids(rows: Rows, numbers: Ints, categories: Mapping[int, str], content: Content) -> Ints:
    """(E,) class of each entry, by the name that the file has for its number; unknown ones are refused."""
    if not categories:
        return known_classes(rows, content, numbers)
    known = {_plain(name): row for row, name in enumerate(content.names)}
    table = {number: known.get(_plain(name), UNKNOWN) for number, name in categories.items()}
    class_ids = looked_up({**table, NO_CLASS: 0}, numbers)
    rows.refuse(
        class_ids < 0,
        "unknown class",
        lambda row: (
            f"unknown class {numbers[row]} ('{categories.get(int(numbers[row]), 'not in categories')}'); "
            f"the dataset has {', '.join(content.names[1:4])}, ..."
        ),
    )
    return class_ids


def _plain(name: str) -> str:
    return spoken(name).lower()


def _repeated(values: Ints) -> Bools:
    """(E,) whether a value was there before."""
    again = np.ones(len(values), np.bool_)
    again[np.unique(values, return_index=True)[1]] = False
    return again


def _sizes(content: Content, frame_of_image: Mapping[int, int], images: Ints) -> Ints:
    return content.sizes(looked_up(frame_of_image, images))
