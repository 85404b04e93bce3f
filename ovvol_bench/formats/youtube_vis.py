"""YouTube-VIS: truth of 2019 and 2021, and results as a JSON list of tracks.

A track has one class, and a mask or null a frame; in results one score, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import numpy as np

from ovvol_bench.arrays import Doubles, Ints, offsets_of
from ovvol_bench.data.truth_index import VideoFrames
from ovvol_bench.detections import Detections
from ovvol_bench.errors import SettingError
from ovvol_bench.files import no_collection
from ovvol_bench.formats.entries import Content, Entries, Faults, OnError, Report, Rows
from ovvol_bench.formats.json_objects import (
    FLAG,
    LIST,
    NUMBER,
    WHOLE,
    JsonFile,
    Section,
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
    where_dense,
)
from ovvol_bench.masks import SizedMasks, read_mask, written_mask

NAME = "youtube-vis"
EXPECTED = "an object with video_id, category_id, score and segmentations, a list of masks or null"
_TRACK = 1 << 32  # between the entry numbers of two tracks; more than a video has frames

Masks = list[tuple[bytes, tuple[int, int]] | None]
"""A track's masks as run lengths and (height, width), or None, a frame."""


def read_truth(file: JsonFile, reading: Reading) -> Annotations:
    """Read videos that have frames.

    A track is an annotation, its number the track id. Boxes have an exclusive end; one that is null where
    there is a mask is the mask's. Motion IoU is known where a video's frames follow each other; YouTube-VIS
    lists every fifth.

    Raises:
        DataError: if something is missing, unknown, repeated or of another length; names the entry.
    """
    videos, (categories, names) = file.section("videos"), read_categories(file)
    files = _files(videos)
    lengths = np.array([len(each) for each in files], np.int64)
    sizes = np.array(videos.sizes(), np.int64).reshape(-1, 2)
    section = file.section("annotations", optional=True)
    video_rows = np.array(section.rows("video_id", videos), np.int64)
    classes = np.array(section.rows("category_id", categories), np.int64) + 1
    objects, bare = _objects(section, video_rows, classes, lengths, sizes, reading.masks)
    folders = [str(PurePosixPath(each[0]).parent) for each in files]
    # Videos are called as their folders, if each has one of its own.
    if len({*folders, "."}) <= len(folders):
        folders = [str(number) for number in videos.ids]
    frames = [VideoFrames(name, np.arange(n)) for name, n in zip(folders, lengths.tolist(), strict=True)]
    index, crowds = objects.indices(frames, sizes.repeat(lengths, axis=0), reading.out_of_frame, False)
    return Annotations(
        index=where_dense(index, [_frame_numbers(each) for each in files]),
        crowds=crowds,
        files=np.array([name for each in files for name in each]),
        video_ids=np.array(videos.ids, np.int64),
        frame_ids=np.zeros(0, np.int64),
        category_ids=np.array(categories.ids, np.int64),
        category_names=np.array(names),
        bare=bare,
        counts=np.array([len(section) > 0, 0], np.int64),
    )


def _files(videos: Section) -> list[list[str]]:
    """Read the paths of every video's frames."""
    lengths = videos.column("length", WHOLE, None)
    files = [videos.paths(row, names) for row, names in enumerate(videos.column("file_names", LIST))]
    for row, (names, length) in enumerate(zip(files, lengths, strict=True)):
        if not names:
            videos.refuse(row, "file_names is empty; expected at least one")
        if length not in (None, len(names)):
            videos.refuse(row, f"length is {length}, but file_names has {len(names)} names")
        if len(set(names)) < len(names):
            videos.refuse(row, "file_names has a name twice; expected every frame once")
    return files


def _objects(
    section: Section, video_rows: Ints, classes: Ints, lengths: Ints, sizes: Ints, masks: bool
) -> tuple[Objects, Ints]:
    """Read the objects of annotations, one for each frame with a box or mask.

    Returns:
        The objects; and (V,) annotations of each video that have neither box nor mask in any frame.
    """
    section.column("iscrowd", FLAG, 0)
    track_ids, bare = np.array(section.ids, np.int64), np.zeros(len(lengths), np.int64)
    found: list[tuple[int, int, Any, Any, Any]] = []
    for entry, video in enumerate(video_rows.tolist()):
        if not masks and "bboxes" not in section.entries[entry]:
            section.refuse(entry, "bboxes is missing; expected boxes where masks are not read")
        fields = ("bboxes", "segmentations" if masks else None, "areas")
        lists = [_per_frame(section, entry, field, int(lengths[video])) for field in fields]
        shown = [
            (entry, t, box, mask, area)
            for t, (box, mask, area) in enumerate(zip(*lists, strict=True))
            if box is not None or mask
        ]
        bare[video] += not shown
        found += shown
    entries, places, boxes, segmentations, areas = zip(*found, strict=True) if found else ((),) * 5
    rows, t = np.array(entries, np.int64), np.array(places, np.int64)

    def refuse(row: int, problem: str, field: str = "segmentations") -> NoReturn:
        section.refuse(entries[row], f"{field}[{places[row]}] {problem}")

    read = read_masks(segmentations, sizes[video_rows[rows]], refuse)
    given = [row for row, box in enumerate(boxes) if box is not None]
    corners = np.zeros((len(rows), 4))
    if len(given) < len(rows):
        corners = np.maximum(read.boxes(), 0)  # an object with an empty mask stays, in the first pixel
    corners[given] = read_boxes(
        [boxes[row] for row in given], lambda row, problem: refuse(given[row], problem, "bboxes")
    )
    no = np.zeros(len(rows), np.bool_)
    objects = Objects(
        section=section,
        entries=rows,
        frames=offsets_of(lengths)[video_rows[rows]] + t,
        class_ids=classes[rows],
        boxes=corners,
        track_ids=track_ids[rows],
        masks=read,
        areas=areas,
        occluded=no,
        generated=no,
    )
    return objects, bare


def _per_frame(section: Section, entry: int, name: str | None, length: int) -> list[Any]:
    """Return a list with one item a frame; all null where the annotation has none."""
    values = None if name is None else section.entries[entry].get(name)
    if values is None:
        return [None] * length
    if not isinstance(values, list) or len(values) != length:
        got = len(values) if isinstance(values, list) else "no list"
        section.refuse(entry, f"{name} has {got} items; expected {length}, one a frame of its video")
    return values


def _frame_numbers(names: Sequence[str]) -> Ints:
    """Return the numbers that frames' names end in; none if one has none."""
    found = [re.search(r"(\d+)$", PurePosixPath(name).stem) for name in names]
    return np.array([int(match[1]) for match in found if match] if all(found) else [], np.int64)


@no_collection()
def read(path: Path, content: Content, on_error: OnError = "fail") -> tuple[Detections, Report]:
    """Read ``[{video_id, category_id, segmentations: [run lengths, polygons or null], score}]``.

    Boxes are the outermost pixels of the masks; a mask without pixels is read as null. Tracks are numbered
    as in the file.

    Raises:
        DataError: naming the first entry with a fault, see ``Entries.detections``; a track with fewer masks
            than its video has frames is one.
    """

    def where(at: int) -> str:
        track, index = divmod(at, _TRACK)
        return f"{path}, entry {track}" + (f", segmentation {index - 1}" if index else "")

    entries, faults = load_list(path, "tracks"), Faults(where, on_error)
    (numbers, classes, scores, masks), at = columns_of(entries, partial(_tracks, content), faults, EXPECTED)
    tracks = Rows(at * _TRACK, faults)
    videos, class_ids = tracks.videos(content, numbers), tracks.classes(content, classes)
    lengths = np.array([len(each) for each in masks], np.int64)
    frames = content.video_lengths[videos] if len(content.frames) else lengths
    tracks.refuse(
        lengths < frames,
        "too few masks",
        lambda row: (
            f"{lengths[row]} segmentations; expected one for each of the video's {frames[row]} frames"
        ),
    )
    owner, index, shown = _shown(content, videos, masks, np.flatnonzero(tracks.good))
    boxes = shown.boxes()
    rows = Rows(at[owner] * _TRACK + index + 1, faults)
    shows = shown.broken | (boxes[:, 2] >= boxes[:, 0])
    anywhere = np.bincount(owner[shows], minlength=len(at)) > 0
    first = np.diff(owner, prepend=-1) > 0
    # A mask without pixels is as good as null; but of a track that shows nothing one stays, as it counts
    # as a false one.
    rows.good &= shows | (first & ~anywhere[owner])
    frame = rows.positions(content, videos[owner], index)
    columns = (class_ids[owner], boxes, scores[owner], at[owner], shown)
    return Entries(rows, frame, *columns).detections(content, NAME, len(entries))


def _tracks(
    content: Content, entries: Sequence[Mapping[str, Any]]
) -> tuple[Ints, Ints, Doubles, list[Masks]]:
    """Read N tracks as columns: (N,) numbers of videos and classes, (N,) scores, and the masks of each."""
    videos = whole_numbers(entries, "video_id")
    rows = content.video_rows(videos).tolist()
    sizes = [tuple(content.frames.sizes[row].tolist()) if row >= 0 else (1, 1) for row in rows]
    masks: list[Masks] = [
        [None if value is None else read_mask(value, size) for value in values]
        for values, size in zip(column(entries, "segmentations", LIST), sizes, strict=True)
    ]
    scores = np.array(column(entries, "score", NUMBER), np.float64)
    return videos, whole_numbers(entries, "category_id"), scores, masks


def _shown(
    content: Content, videos: Ints, tracks: Sequence[Masks], chosen: Ints
) -> tuple[Ints, Ints, SizedMasks]:
    """Return the E masks of some tracks: (E,) their tracks, (E,) their positions in the video, and all."""
    shown: list[tuple[int, int, tuple[bytes, tuple[int, int]]]] = []
    for row in chosen.tolist():
        masks = tracks[row]
        shown += [(row, index, mask) for index, mask in enumerate(masks) if mask is not None]
        if masks and not any(masks):  # a track that is nowhere is a false one all the same
            height, width = content.frames.sizes[videos[row]].tolist()
            empty = {"size": [height, width], "counts": [height * width]}
            shown.append((row, 0, read_mask(empty, (height, width))))
    owner, index = np.array([each[:2] for each in shown], np.int64).reshape(-1, 2).T
    sizes = np.array([size for _, _, (_, size) in shown], np.int64).reshape(-1, 2)
    return owner, index, SizedMasks([counts for _, _, (counts, _) in shown], sizes)


def write(detections: Detections, content: Content, path: Path) -> None:
    """Write tracks in the order of the videos; one with several classes becomes several.

    A track's score is the mean over its frames; a detection of no track is a track of its own.

    Raises:
        SettingError: if there are no masks, the only thing that says where.
        DataError: if a video or class has no number.
    """
    if detections.masks is None:
        raise SettingError(
            f"{NAME} says where by masks alone, and there are none. Add --masks, or choose coco-vid"
        )
    write_list(path, _entries(detections, content))


def _entries(detections: Detections, content: Content) -> Iterator[dict[str, Any]]:
    alone = np.arange(len(detections)) + 1 + detections.tracks.max(initial=0)
    track = np.where(detections.tracks < 0, alone, detections.tracks)
    order = np.lexsort((detections.frame, detections.class_ids, track, detections.video))
    keys = np.stack([detections.video, track, detections.class_ids])[:, order]
    starts = np.flatnonzero(np.diff(keys, axis=1, prepend=-1).any(axis=0))
    for rows in np.split(order, starts[1:]) if len(order) else []:
        video = int(detections.video[rows[0]])
        masks: list[dict[str, Any] | None] = [None] * int(content.video_lengths[video])
        size = detections.frames.sizes[video].tolist()
        indices = detections.frames.index[detections.frame[rows]].tolist()
        for index, row in zip(indices, rows.tolist(), strict=True):
            masks[index] = written_mask(detections.runs[row], size)
        scores = detections.scores[rows]
        yield {
            "video_id": int(content.video_numbers[video]),
            "category_id": int(content.class_numbers[detections.class_ids[rows[0]]]),
            "segmentations": masks,
            # Equal scores stay the same to the last bit.
            "score": float(scores[0] + (scores - scores[0]).mean()),
        }
