"""COCO-VID, COCO's format for videos as MMTracking extends it: truth, and results with scores.

A JSON object of videos, images and annotations. Results say what their numbers mean as truth does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ovvol_bench.arrays import Bools, Ints
from ovvol_bench.data.truth_index import VideoFrames
from ovvol_bench.detections import Detections
from ovvol_bench.errors import DataError
from ovvol_bench.files import no_collection, read_json
from ovvol_bench.formats.coco import EXPECTED, annotations_of, read_objects, written_entries
from ovvol_bench.formats.entries import (
    NO_CLASS,
    UNKNOWN,
    Content,
    Entries,
    Faults,
    OnError,
    Report,
    Rows,
    looked_up,
)
from ovvol_bench.formats.json_objects import (
    TEXT,
    WHOLE,
    JsonFile,
    columns_of,
    whole_numbers,
    write_lists,
)
from ovvol_bench.formats.json_truth import Annotations, Reading, where_dense
from ovvol_bench.naming.vocabulary import spoken

NAME = "coco-vid"
LISTS = ("videos", "images", "annotations")


def read_truth(file: JsonFile, reading: Reading) -> Annotations:
    """Read videos that have images, ImageNet-VID's as it was converted, too.

    A frame's position in its video is ``frame_id``, a track is ``instance_id`` or ``track_id`` (-1 or none:
    unknown). ``occluded`` and ``generated`` count where they are 1 or true.

    Raises:
        DataError: if something is missing, unknown or repeated; names the entry.
    """
    if file.content.get("videos") is None and file.content.get("images"):
        raise DataError(
            f"{file.path}: there are 'images' but no 'videos'. Images that are no frames of videos are read "
            "by the dataset 'coco'."
        )
    listed, images = file.section("videos"), file.section("images")
    names = listed.column("name", TEXT)
    listed.require_unique("name", names)
    rows, numbers = images.rows("video_id", listed), images.column("frame_id", WHOLE)
    order = sorted(range(len(rows)), key=lambda entry: (rows[entry], numbers[entry]))
    for before, entry in pairwise(order):
        if (rows[before], numbers[before]) == (rows[entry], numbers[entry]):
            images.refuse(entry, f"its video has another image of frame_id {numbers[entry]}")
    for entry, number in enumerate(numbers):
        if number < 0:
            images.refuse(entry, f"frame_id is {number}; expected 0 at least")
    # Videos without images are left out, and counted.
    there, starts = np.unique([rows[entry] for entry in order], return_index=True)
    parts = np.split(np.array([numbers[entry] for entry in order], np.int64), starts[1:])
    videos = [VideoFrames(names[row], part) for row, part in zip(there.tolist(), parts, strict=False)]
    found = annotations_of(file, images, order, videos, reading)
    return replace(
        found,
        index=where_dense(found.index, parts),
        video_ids=np.array([listed.ids[row] for row in there.tolist()], np.int64),
        counts=np.array([found.counts[0], len(names) - len(there)], np.int64),
    )


@no_collection()
def read(path: Path, content: Content, on_error: OnError = "fail") -> tuple[Detections, Report]:
    """Read an object of lists.

    - ``videos``: ``{id, name}``; a video is the dataset's of that name.
    - ``images``: ``{id, video_id, frame_id}``, frames counted from 0.
    - ``annotations``: ``{image_id, category_id, bbox: [x, y, width, height], score}``, perhaps with
      ``instance_id`` (or ``track_id``) and ``segmentation``.
    - ``categories``, if there: ``{id, name}``; a class is the dataset's of that name.

    Raises:
        DataError: naming the first entry with a fault, see ``Entries.detections``; an image that is there
            twice is one.
    """
    found, faults = read_json(path), Faults(lambda at: f"{path}, annotation {at}", on_error)
    lists: dict[str, list[Any]] = {"categories": [], **found} if isinstance(found, dict) else {}
    wrong = [name for name in (*LISTS, "categories") if not isinstance(lists.get(name), list)]
    if wrong:
        raise DataError(f"{path}: no list '{wrong[0]}'; expected a JSON object with {', '.join(LISTS)}")
    annotations = lists["annotations"]
    frame_of_image = _frames(path, lists, content, faults)
    # MMTracking calls a track instance_id, TAO and most trackers track_id.
    tracks = any(isinstance(entry, Mapping) and "instance_id" in entry for entry in annotations)
    look = partial(
        read_objects,
        sizes=lambda images: content.sizes(looked_up(frame_of_image, images)),
        track="instance_id" if tracks else "track_id",
    )
    (images, classes, columns), at = columns_of(annotations, look, faults, EXPECTED)
    rows = Rows(at, faults)
    frame = rows.known(looked_up(frame_of_image, images), "frame", lambda row: f"(image_id {images[row]})")
    categories = _named(path, "category", faults, lists["categories"])
    class_ids = _class_ids(rows, classes, categories, content)
    return Entries(rows, frame, class_ids, *columns).detections(content, NAME, len(annotations))


def _frames(path: Path, lists: Mapping[str, list[Any]], content: Content, faults: Faults) -> dict[int, int]:
    """Return the frame that each image number stands for."""

    def read_images(entries: Sequence[Mapping[str, Any]]) -> tuple[Ints, Ints, Ints]:
        numbers, videos = whole_numbers(entries, "id"), whole_numbers(entries, "video_id")
        return numbers, videos, whole_numbers(entries, "frame_id")

    images = faults.of(lambda at: f"{path}, image {at}")
    form = "an object with id, video_id and frame_id"
    (numbers, videos, indices), at = columns_of(lists["images"], read_images, images, form)
    # Videos go by their names: the file's numbers are its own.
    names = _named(path, "video", faults, lists["videos"])
    rows_of = {number: content.row_of_name.get(name, UNKNOWN) for number, name in names.items()}
    video = looked_up(rows_of, videos)
    frame = np.where(video < 0, video, content.position_rows(np.maximum(video, 0), indices))
    rows = Rows(at, images)
    rows.refuse(_repeated(numbers), "repeated image", lambda row: f"id {numbers[row]} is there already")
    rows.refuse(
        _repeated(frame) & (frame >= 0),
        "repeated frame",
        lambda row: f"{content.frames.name(int(frame[row]))} is there already; expected one image a frame",
    )
    return dict(zip(numbers[rows.good].tolist(), frame[rows.good].tolist(), strict=True))


def _named(path: Path, what: str, faults: Faults, entries: list[Any]) -> dict[int, str]:
    """Return names by number."""

    def read_names(entries: Sequence[Mapping[str, Any]]) -> dict[int, str]:
        names = [str(entry["name"]) for entry in entries]
        return dict(zip(whole_numbers(entries, "id").tolist(), names, strict=True))

    of_entry = faults.of(lambda at: f"{path}, {what} {at}")
    return columns_of(entries, read_names, of_entry, "an object with id and name")[0]


def _class_ids(rows: Rows, numbers: Ints, categories: Mapping[int, str], content: Content) -> Ints:
    """Return the (E,) class of each entry, by the file's name of its number; unknown ones are refused."""
    if not categories:
        return rows.classes(content, numbers)
    known = {spoken(name).lower(): row for row, name in enumerate(content.names)}
    table = {number: known.get(spoken(name).lower(), UNKNOWN) for number, name in categories.items()}
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


def _repeated(values: Ints) -> Bools:
    """Return (E,) values that were there before."""
    again = np.ones(len(values), np.bool_)
    again[np.unique(values, return_index=True)[1]] = False
    return again


def write(detections: Detections, content: Content, path: Path) -> None:
    """Write detections, with all frames of the dataset as images.

    Raises:
        DataError: if a video, frame or class has no number.
    """
    frames, names = content.frames, content.names
    videos = zip(content.video_numbers.tolist(), frames.videos, frames.sizes.tolist(), strict=True)
    images = zip(
        content.frame_numbers.tolist(),
        content.video_numbers[frames.video].tolist(),
        frames.index.tolist(),
        frames.sizes[frames.video].tolist(),
        strict=True,
    )
    annotations = zip(
        content.video_numbers[detections.video].tolist(),
        written_entries(detections, content, "instance_id"),
        strict=True,
    )
    classes = list(zip(content.class_numbers.tolist(), names, strict=True))[1:]
    write_lists(
        path,
        {
            "videos": (
                {"id": number, "name": name, "width": width, "height": height}
                for number, name, (height, width) in videos
            ),
            "images": (
                {"id": number, "video_id": video, "frame_id": index, "width": width, "height": height}
                for number, video, index, (height, width) in images
            ),
            "annotations": (
                {"id": row, "video_id": video} | entry for row, (video, entry) in enumerate(annotations, 1)
            ),
            "categories": ({"id": number, "name": name} for number, name in classes),
        },
    )
