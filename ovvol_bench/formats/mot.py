"""MOTChallenge text: a folder with one ``VIDEO.txt`` a video, or one such file.

Frames are counted from 1. Boxes are left, top, width, height: our inclusive ends are ``left + width - 1``.
The challenge's own layouts are read too: ``VIDEO/det/det.txt``, and truth as ``VIDEO/gt/gt.txt``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from ovvol_bench.arrays import Ints
from ovvol_bench.detections import Detections
from ovvol_bench.errors import DataError, SettingError
from ovvol_bench.files import below
from ovvol_bench.formats.content import IN_NO_CLIP, NO_CLASS, UNKNOWN, Content
from ovvol_bench.formats.entries import (
    Entries,
    detections_from,
    known_classes,
    known_positions,
    refuse_unknown,
)
from ovvol_bench.formats.faults import Faults, OnError, Report, Rows
from ovvol_bench.formats.text_files import Layout, read_numbers, whole, write_numbers

NAME = "mot"
LAYOUT = Layout(("frame", "id", "left", "top", "width", "height", "conf"), most=8, comma=True, more=True)
"""An eighth column is the class; what follows, as y and z, or appearance features, is not looked at."""

UNSCORED = -1
"""In place of a score: the program gives none."""

_FILE = 1 << 40
"""Between the entry numbers of two files; more than a file has lines."""


def read(path: Path, content: Content, on_error: OnError = "fail") -> tuple[Detections, Report]:
    """Read lines ``frame,id,left,top,width,height,conf[,x,y,z]``; x is the class's number, -1 for none.

    A file is of the video that it is named after: by its path in the folder, or by its name alone. Without a
    class a box is of the dataset's class, if that has a single one. ``conf`` -1 is no score; those boxes have
    1. In ``gt.txt`` it says instead whether the challenge counts the line.

    Raises:
        DataError: naming the first line with a fault, see ``entries.detections_from``; a line of a file of no
            video, or of a second file of one, is such a line; or a video that has no file.
    """
    files = _files(path)
    faults = Faults(lambda at: f"{files[at // _FILE]}, line {at % _FILE}", on_error)
    tables = [read_numbers(file, LAYOUT, faults, number * _FILE) for number, file in enumerate(files)]
    table = np.concatenate([each for each, _, _ in tables])
    rows = Rows(np.concatenate([at for _, at, _ in tables]), faults)
    video = _known_videos(rows, content, path, files, on_error)
    conf, of_truth = table[:, 6], np.array([file.name == "gt.txt" for file in files])[rows.at // _FILE]
    rows.leave_out(of_truth & (conf == 0), "line of gt.txt that the challenge doesn't count (conf 0)")
    unscored = ~of_truth & (conf == UNSCORED)
    index = whole(rows, table, 0, "frame") - 1
    classes = np.where(np.isnan(table[:, 7]), NO_CLASS, table[:, 7])[:, None]
    boxes = table[:, 2:6].copy()
    boxes[:, 2:] += boxes[:, :2] - 1
    entries = Entries(
        rows,
        known_positions(rows, content, np.maximum(video, 0), index),
        boxes,
        known_classes(rows, content, _only_class(content, whole(rows, classes, 0, "class (column x)"))),
        np.where(unscored, 1.0, conf),
        whole(rows, table, 1, "id"),
    )
    found, report = detections_from(entries, content, NAME, sum(lines for _, _, lines in tables))
    return found, replace(report, unscored=int((unscored & rows.good).sum()))


def _only_class(content: Content, numbers: Ints) -> Ints:
    """(E,) numbers of classes; that of a dataset's single class in place of none."""
    single = next((number for number, each in content.ids.classes.items() if each == 1), NO_CLASS)
    return np.where((numbers == NO_CLASS) & (content.classes == 1), single, numbers)


def write(detections: Detections, content: Content, path: Path) -> None:
    """Write a file a video into a folder, an empty one where nothing was found; masks are lost.

    Raises:
        SettingError: if the folder has such files already, which would be read as part of these.
        DataError: if a class has no number.
        OutputError: if a video's name leads out of the folder.
    """
    if any(path.rglob("*.txt")):
        raise SettingError(
            f"{path} has text files already, which would count as well. Choose another folder."
        )
    frames, boxes = detections.frames, detections.boxes.astype(np.float64)
    nothing = np.full(len(detections), -1)
    columns = (
        frames.index[detections.frame] + 1,
        detections.tracks,
        *boxes[:, :2].T,
        *(boxes[:, 2:] - boxes[:, :2] + 1).T,
        detections.scores,
        content.class_numbers[detections.class_ids],
        nothing,
        nothing,
    )
    ends = np.searchsorted(detections.video, np.arange(len(frames.videos) + 1)).tolist()
    files = [below(path, f"{video}.txt") for video in frames.videos]
    for row, file in enumerate(files):
        part = slice(ends[row], ends[row + 1])
        write_numbers(file, [column[part] for column in columns], ",")


def _files(path: Path) -> list[Path]:
    files = sorted(path.rglob("*.txt")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path}: no predictions; expected a folder with a VIDEO.txt for each video")
    return files


def _known_videos(rows: Rows, content: Content, path: Path, files: list[Path], on_error: OnError) -> Ints:
    """(E,) the video of each entry; files of no video, the second file of one, and a lack are refused."""
    known = dict.fromkeys(content.ids.videos.values(), IN_NO_CLIP) | content.frames.video_row
    last_parts = Counter(Path(name).name for name in known)
    known |= {Path(name).name: row for name, row in known.items() if last_parts[Path(name).name] == 1}
    root = path if path.is_dir() else path.parent
    names = [_named_after(file.relative_to(root)) for file in files]
    found = np.array([known.get(name, known.get(Path(name).name, UNKNOWN)) for name in names])
    of_entry = rows.at // _FILE
    refuse_unknown(
        rows,
        found[of_entry],
        "video",
        lambda row: f"'{names[of_entry[row]]}'; the dataset has '{content.frames.videos[0]}' and others",
    )
    again = np.array([row >= 0 and row in found[:place] for place, row in enumerate(found.tolist())])
    rows.refuse(
        again[of_entry],
        "repeated video",
        lambda row: f"a second file of video '{content.frames.videos[found[of_entry[row]]]}'; expected one",
    )
    lacking = sorted(set(range(len(content.frames.videos))) - set(found.tolist()))
    if lacking and on_error == "fail":
        raise DataError(
            f"{path}: no file of video '{content.frames.videos[lacking[0]]}' ({len(lacking)} of "
            f"{len(content.frames.videos)} videos have none); expected one for each, an empty one where "
            "nothing was found. Add it, or score such videos as empty with --on-error skip"
        )
    if lacking:
        rows.faults.leave_out("video without a file", len(lacking))
    return found[of_entry]


def _named_after(path: Path) -> str:
    """The video of a file, by its path in the folder; ``VIDEO/gt/gt.txt`` is the challenge's."""
    inner = (path.parent.name, path.stem)
    own = path.parent.parent if inner in (("gt", "gt"), ("det", "det")) else path.with_suffix("")
    return own.as_posix()
