"""YouTube-VIS results: a JSON list of tracks, each with one class, one score and a mask or null a frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ovvol_bench.arrays import Doubles, Ints
from ovvol_bench.detections import Detections
from ovvol_bench.errors import SettingError
from ovvol_bench.formats.content import Content
from ovvol_bench.formats.entries import (
    Entries,
    detections_from,
    known_classes,
    known_positions,
    known_videos,
)
from ovvol_bench.formats.faults import Faults, OnError, Report, Rows
from ovvol_bench.formats.json_files import columns_of, integers, load_list, numbers, write_list
from ovvol_bench.masks import SizedMasks, read_mask, written_mask

NAME = "youtube-vis"
EXPECTED = "an object with video_id, category_id, score and segmentations, a list of masks or null"

Segmentation = tuple[bytes, tuple[int, int]]
"""Run lengths in compressed form, and (height, width)."""

_TRACK = 1 << 32
"""Between the entry numbers of two tracks; more than a video has frames."""


@dataclass(frozen=True)
class Tracks:
    """N tracks as their file has them.

    Attributes:
        videos: (N,) int64 numbers.
        classes: (N,) int64 numbers.
        scores: (N,) float64.
        masks: (N,) a mask or None a frame.
    """

    videos: Ints
    classes: Ints
    scores: Doubles
    masks: tuple[tuple[Segmentation | None, ...], ...]


def read(path: Path, content: Content, on_error: OnError = "fail") -> tuple[Detections, Report]:
    """Read ``[{video_id, category_id, segmentations: [run lengths, polygons or null], score}]``.

    Boxes are the outermost pixels of the masks; a mask without pixels is read as null. Tracks are numbered
    as in the file.

    Raises:
        DataError: naming the first entry with a fault, see ``entries.detections_from``; a track with fewer
            masks than its video has frames is one.
    """
    entries = load_list(path, "tracks")
    faults = Faults(partial(_place, path), on_error)
    tracks, at = columns_of(entries, partial(_tracks, content), faults, EXPECTED)
    known = _known(Rows(at * _TRACK, faults), tracks, content)
    owner, index, masks = _shown(content, known.videos, tracks, known.tracks)
    boxes = masks.boxes()
    rows = Rows(at[owner] * _TRACK + index + 1, faults)
    shows = masks.broken | (boxes[:, 2] >= boxes[:, 0])
    shown = np.bincount(owner[shows], minlength=len(at)) > 0
    first = np.diff(owner, prepend=-1) > 0
    # A mask without pixels is as good as null; but of a track that shows nothing one stays, as it counts
    # as a false one.
    rows.good &= shows | (first & ~shown[owner])
    frame = known_positions(rows, content, known.videos[owner], index)
    columns = (boxes, known.class_ids[owner], tracks.scores[owner], at[owner], masks)
    return detections_from(Entries(rows, frame, *columns), content, NAME, len(entries))


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


@dataclass(frozen=True)
class _Known:
    """Tracks looked up in the dataset: (N,) video and class, and the rows of those that are good."""

    videos: Ints
    class_ids: Ints
    tracks: Ints


def _known(rows: Rows, tracks: Tracks, content: Content) -> _Known:
    videos = known_videos(rows, content, tracks.videos)
    class_ids = known_classes(rows, content, tracks.classes)
    lengths = np.array([len(masks) for masks in tracks.masks], np.int64)
    frames = content.video_lengths[videos] if len(content.frames) else lengths
    rows.refuse(
        lengths < frames,
        "too few masks",
        lambda row: (
            f"{lengths[row]} segmentations; expected one for each of the video's {frames[row]} frames"
        ),
    )
    return _Known(videos, class_ids, np.flatnonzero(rows.good))


def _tracks(content: Content, entries: Sequence[Mapping[str, Any]]) -> Tracks:
    videos = integers(entries, "video_id")
    rows = content.video_rows(videos).tolist()
    sizes = [tuple(content.frames.sizes[row].tolist()) if row >= 0 else (1, 1) for row in rows]
    return Tracks(
        videos,
        integers(entries, "category_id"),
        numbers([entry["score"] for entry in entries]),
        tuple(_masks(entry["segmentations"], size) for entry, size in zip(entries, sizes, strict=True)),
    )


def _masks(values: Sequence[Any], size: tuple[int, int]) -> tuple[Segmentation | None, ...]:
    return tuple(None if value is None else read_mask(value, size) for value in values)


def _shown(content: Content, videos: Ints, tracks: Tracks, chosen: Ints) -> tuple[Ints, Ints, SizedMasks]:
    """The masks of some tracks: whose each is, (E,), its position in the video, (E,), and all of them."""
    shown: list[tuple[int, int, Segmentation]] = []
    for row in chosen.tolist():
        masks = tracks.masks[row]
        shown += [(row, index, mask) for index, mask in enumerate(masks) if mask is not None]
        if masks and not any(masks):  # a track that is nowhere is a false one all the same
            size = content.frames.sizes[videos[row]].tolist()
            shown.append((row, 0, read_mask({"size": size, "counts": [size[0] * size[1]]}, size)))
    owner, index = np.array([each[:2] for each in shown], np.int64).reshape(-1, 2).T
    sizes = np.array([mask[1] for _, _, mask in shown], np.int64).reshape(-1, 2)
    return owner, index, SizedMasks(tuple(mask[0] for _, _, mask in shown), sizes)


def _place(path: Path, at: int) -> str:
    track, index = divmod(at, _TRACK)
    return f"{path}, entry {track}" + (f", segmentation {index - 1}" if index else "")


def _entries(detections: Detections, content: Content) -> Iterator[dict[str, Any]]:
    alone = np.arange(len(detections)) + 1 + detections.tracks.max(initial=0)
    track = np.where(detections.tracks < 0, alone, detections.tracks)
    order = np.lexsort((detections.frame, detections.class_ids, track, detections.video))
    keys = np.stack([detections.video, track, detections.class_ids])[:, order]
    starts = np.flatnonzero(np.diff(keys, axis=1, prepend=-1).any(axis=0))
    for rows in np.split(order, starts[1:]) if len(order) else []:
        yield _entry(detections, content, rows)


def _entry(detections: Detections, content: Content, rows: Ints) -> dict[str, Any]:
    """One track of some detections."""
    video = int(detections.video[rows[0]])
    masks: list[dict[str, Any] | None] = [None] * int(content.video_lengths[video])
    indices = detections.frames.index[detections.frame[rows]].tolist()
    runs = detections.masks_of(rows, (0, 0)).counts
    for index, counts in zip(indices, runs, strict=True):
        masks[index] = written_mask(counts, detections.frames.sizes[video].tolist())
    return {
        "video_id": int(content.video_numbers[video]),
        "category_id": int(content.class_numbers[detections.class_ids[rows[0]]]),
        "segmentations": masks,
        "score": _mean(detections.scores[rows]),
    }


def _mean(scores: Doubles) -> float:
    """The mean, to the last bit where all are the same."""
    return float(scores[0] + (scores - scores[0]).mean())
