"""COCO results: a JSON list of boxes, each with an image, a class and a score; TAO's track numbers too."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ovvol_bench.arrays import Ints
from ovvol_bench.detections import Detections
from ovvol_bench.formats.coco_objects import EXPECTED, read_objects, segmentation, written_boxes
from ovvol_bench.formats.content import Content
from ovvol_bench.formats.entries import Entries, detections_from, known_classes, known_frames
from ovvol_bench.formats.faults import Faults, OnError, Report, Rows
from ovvol_bench.formats.json_files import columns_of, load_list, write_list

NAME = "coco"


def read(path: Path, content: Content, on_error: OnError = "fail") -> tuple[Detections, Report]:
    """Read ``[{image_id, category_id, bbox: [x, y, width, height], score}]``.

    ``segmentation`` (run lengths or polygons) and ``track_id`` may be there, other fields are not looked at.

    Raises:
        DataError: naming the first entry with a fault, see ``entries.detections_from``.
    """
    entries = load_list(path, "detections")
    faults = Faults(lambda at: f"{path}, entry {at}", on_error)
    look = partial(read_objects, sizes=partial(_sizes, content), track="track_id")
    objects, at = columns_of(entries, look, faults, EXPECTED)
    rows = Rows(at, faults)
    frame = known_frames(rows, content, objects.images)
    class_ids = known_classes(rows, content, objects.classes)
    columns = (objects.boxes, class_ids, objects.scores, objects.tracks, objects.masks)
    return detections_from(Entries(rows, frame, *columns), content, NAME, len(entries))


def write(detections: Detections, content: Content, path: Path) -> None:
    """Write detections in the order of the frames.

    Raises:
        DataError: if a frame or class has no number.
    """
    write_list(path, _entries(detections, content))


def _entries(detections: Detections, content: Content) -> Iterator[dict[str, Any]]:
    columns = zip(
        content.frame_numbers[detections.frame].tolist(),
        content.class_numbers[detections.class_ids].tolist(),
        written_boxes(detections),
        detections.scores.tolist(),
        content.video_numbers[detections.video].tolist(),
        detections.tracks.tolist(),
        strict=True,
    )
    for row, (image, category, box, score, video, track) in enumerate(columns):
        entry = {"image_id": image, "category_id": category, "bbox": box, "score": score}
        tracked = {"video_id": video, "track_id": track} if track >= 0 else {}
        yield entry | tracked | segmentation(detections, row)


def _sizes(content: Content, images: Ints) -> Ints:
    return content.sizes(content.frame_rows(images))
