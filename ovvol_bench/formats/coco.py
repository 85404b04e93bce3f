"""COCO: truth of images, and results as a JSON list of boxes, each with an image, a class and a score.

Boxes are ``[x, y, width, height]``: the sides of the area that the pixels cover, so that our inclusive ends
are ``x2 = x + width - 1``. Results may have TAO's track numbers, too. COCO-VID shares the objects of both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ovvol_bench.arrays import Doubles, Ints
from ovvol_bench.data.truth_index import VideoFrames
from ovvol_bench.detections import Detections
from ovvol_bench.files import no_collection
from ovvol_bench.formats.entries import Content, Entries, Faults, OnError, Report, Rows
from ovvol_bench.formats.json_objects import (
    FLAG,
    LIST,
    NUMBER,
    TEXT,
    WHOLE,
    JsonFile,
    Section,
    boxes_of,
    column,
    columns_of,
    load_list,
    whole_numbers,
    write_list,
)
from ovvol_bench.formats.json_truth import (
    Annotations,
    Objects,
    Reading,
    read_boxes,
    read_categories,
    read_masks,
)
from ovvol_bench.masks import SizedMasks, written_mask

NAME = "coco"
EXPECTED = "an object with image_id, category_id, bbox [x, y, width, height] or segmentation, and score"


def read_truth(file: JsonFile, reading: Reading) -> Annotations:
    """Read images, each a video of one frame, in the order of their ids, as pycocotools goes through them.

    An image is called as its file, or by its id where two have one file.

    Raises:
        DataError: if something is missing, unknown or repeated; names the entry.
    """
    images = file.section("images")
    order = sorted(range(len(images)), key=images.ids.__getitem__)
    names = files_of(images, order)
    if len(set(names)) < len(names):
        names = [str(images.ids[row]) for row in order]
    videos = [VideoFrames(name, np.zeros(1, np.int64)) for name in names]
    return annotations_of(file, images, order, videos, reading)


def annotations_of(
    file: JsonFile, images: Section, order: Sequence[int], videos: Sequence[VideoFrames], reading: Reading
) -> Annotations:
    """Read the annotations of images; a video's number is that of its first image.

    Args:
        file: to read.
        images: of the file.
        order: (F,) positions of the images, video by video.
        videos: that the images are frames of, in this order.
        reading: settings.

    Raises:
        DataError: if something is missing, unknown or repeated; names the entry.
    """
    categories, names = read_categories(file)
    section = file.section("annotations", optional=True)
    place = np.argsort(np.array(order, np.int64))
    frames = place[np.array(section.rows("image_id", images), np.int64)]
    classes = np.array(section.rows("category_id", categories), np.int64) + 1
    sizes = np.array(images.sizes(), np.int64).reshape(-1, 2)[np.array(order, np.int64)]
    objects = _objects(section, frames, classes, sizes, reading)
    index, crowds = objects.indices(videos, sizes, reading.out_of_frame, keep_empty=True)
    image_ids = np.array([images.ids[row] for row in order], np.int64)
    return Annotations(
        index=index,
        crowds=crowds,
        files=np.array(files_of(images, order)),
        video_ids=image_ids[index.frame_offsets[:-1]],
        frame_ids=image_ids,
        category_ids=np.array(categories.ids, np.int64),
        category_names=np.array(names),
        bare=np.zeros(len(videos), np.int64),  # every annotation must have a box
        counts=np.array([len(section) > 0, 0], np.int64),
    )


def _objects(section: Section, frames: Ints, classes: Ints, sizes: Ints, reading: Reading) -> Objects:
    """Read the objects of annotations, one each."""
    section.require_unique("id", section.ids)
    tracks = section.column("instance_id", WHOLE, None)
    others = section.column("track_id", WHOLE, -1)  # as TAO and trackers call it
    tracks = [other if track is None else track for track, other in zip(tracks, others, strict=True)]
    section.column("iscrowd", FLAG, 0)
    occluded, generated = (section.column(field, FLAG, 0) for field in ("occluded", "generated"))
    inclusive = reading.box_ends == "inclusive"
    if reading.box_ends == "auto":
        inclusive = any("generated" in entry for entry in section.entries)
    boxes, end = section.column("bbox", LIST), 0 if inclusive else 1
    segmentations = [entry.get("segmentation") if reading.masks else None for entry in section.entries]
    return Objects(
        section=section,
        entries=np.arange(len(section)),
        frames=frames,
        class_ids=classes,
        boxes=read_boxes(boxes, lambda row, problem: section.refuse(row, f"bbox {problem}"), end),
        track_ids=np.array(tracks, np.int64),
        masks=read_masks(
            segmentations,
            sizes[frames],
            lambda row, problem: section.refuse(row, f"segmentation {problem}"),
        ),
        areas=[entry.get("area") for entry in section.entries],
        occluded=np.array(occluded) == 1,
        generated=np.array(generated) == 1,
    )


def files_of(images: Section, order: Sequence[int]) -> list[str]:
    """Read the ``file_name`` of images, in an order.

    Raises:
        DataError: if an image lacks it or has something else there; names the entry.
    """
    names = images.column("file_name", TEXT)
    return [images.paths(row, [names[row]])[0] for row in order]


@no_collection()
def read(path: Path, content: Content, on_error: OnError = "fail") -> tuple[Detections, Report]:
    """Read ``[{image_id, category_id, bbox: [x, y, width, height], score}]``.

    ``segmentation`` (run lengths or polygons) and ``track_id`` may be there, other fields are not looked at.

    Raises:
        DataError: naming the first entry with a fault, see ``Entries.detections``.
    """
    entries = load_list(path, "detections")
    faults = Faults(lambda at: f"{path}, entry {at}", on_error)
    look = partial(
        read_objects, sizes=lambda images: content.sizes(content.frame_rows(images)), track="track_id"
    )
    (images, classes, columns), at = columns_of(entries, look, faults, EXPECTED)
    rows = Rows(at, faults)
    frame, class_ids = rows.frames(content, images), rows.classes(content, classes)
    return Entries(rows, frame, class_ids, *columns).detections(content, NAME, len(entries))


def read_objects(
    entries: Sequence[Mapping[str, Any]], sizes: Callable[[Ints], Ints], track: str
) -> tuple[Ints, Ints, tuple[Doubles, Doubles, Ints, SizedMasks | None]]:
    """Read E objects of results as columns.

    Args:
        entries: of a file.
        sizes: from (E,) image numbers to (E, 2) (height, width), for polygons; 1 x 1 where unknown.
        track: the field with the track's number.

    Returns:
        (E,) numbers of the images; (E,) numbers of the classes; and columns of `Entries`: boxes, from the
        mask where there is no ``bbox``, scores, tracks, and masks, None where no object has one.

    Raises:
        ValueError and the like: if one is not as ``EXPECTED``.
    """
    images, masks = whole_numbers(entries, "image_id"), None
    segmentations = [entry.get("segmentation") or None for entry in entries]  # no polygon is no mask
    if any(each is not None for each in segmentations):
        masks = SizedMasks.read(segmentations, map(tuple, sizes(images).tolist()))
    values = [entry.get("bbox") for entry in entries]
    boxes = boxes_of([value for value in values if value is not None])
    with np.errstate(over="ignore"):  # infinity is refused later, by its entry
        boxes[:, 2:] += boxes[:, :2] - 1
    if len(boxes) < len(values):
        own = np.array([value is not None for value in values], np.bool_)
        if masks is None or masks.missing[~own].any():
            raise ValueError("neither bbox nor segmentation")
        corners, boxes = boxes, masks.boxes()
        boxes[own] = corners
    scores = np.array(column(entries, "score", NUMBER), np.float64)
    classes, tracks = whole_numbers(entries, "category_id"), whole_numbers(entries, track, -1)
    return images, classes, (boxes, scores, tracks, masks)


def write(detections: Detections, content: Content, path: Path) -> None:
    """Write detections in the order of the frames.

    Raises:
        DataError: if a frame or class has no number.
    """
    write_list(path, written_entries(detections, content, "track_id"))


def written_entries(detections: Detections, content: Content, track: str) -> Iterator[dict[str, Any]]:
    """Make the objects of detections as files have them.

    Args:
        detections: in the order of the frames.
        content: of the dataset.
        track: the field for the track's number, left out with the video's where there is none.
    """
    images = content.frame_numbers[detections.frame].tolist()
    boxes = detections.boxes.astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2] - 1
    columns = zip(
        images,
        content.class_numbers[detections.class_ids].tolist(),
        boxes.tolist(),
        detections.scores.tolist(),
        content.video_numbers[detections.video].tolist(),
        detections.tracks.tolist(),
        strict=True,
    )
    sizes = detections.frames.sizes[detections.video].tolist() if detections.masks else []
    for row, (image, category, box, score, video, number) in enumerate(columns):
        entry = {"image_id": image, "category_id": category, "bbox": box, "score": score}
        if number >= 0:  # a track's number means something within its video alone
            entry |= {"video_id": video, track: number}
        if detections.masks is not None:
            entry["segmentation"] = written_mask(detections.masks[row], sizes[row])
        yield entry
