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
from ovvol_bench.formats.entries import (
    NO_CLASS,
    UNKNOWN,
    Content,
    Entries,
    Faults,
    OnError,
    Report,
    Rows,
)
from ovvol_bench.formats.text import Layout, read_numbers, whole, write_numbers

NAME = "mot"
LAYOUT = Layout(("frame", "id", "left", "top", "width", "height", "conf"), most=8, comma=True, more=True)
"""An eighth column is the class; what follows, as y and z, or appearance features, is not looked at."""

UNSCORED = -1  # in place of a score: the program gives none
_FILE = 1 << 40  # between the entry numbers of two files; more than a file has lines


def read(path: Path, content: Content, on_error: OnError = "fail") -> tuple[Detections, Report]:
    """Read lines ``frame,id,left,top,width,height,conf[,x,y,z]``; x is the class's number, -1 for none.

    A file is of the video that it is named after: by its path in the folder, or by its name alone. Without a
    class a box is of the dataset's class, if that has a single one. ``conf`` -1 is no score; those boxes have
    1. In ``gt.txt`` it says instead whether the challenge counts the line.

    Raises:
        DataError: naming the first line with a fault, see ``Entries.detections``; a line of a file of no
            video, or of a second file of one, is such a line; or a video that has no file.
    """
    files = sorted(path.rglob("*.txt")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path}: no predictions; expected a folder with a VIDEO.txt for each video")
    faults = Faults(lambda at: f"{files[at // _FILE]}, line {at % _FILE}", on_error)
    tables = [read_numbers(file, LAYOUT, faults, number * _FILE) for number, file in enumerate(files)]
    table = np.concatenate([each for each, _, _ in tables])
    rows = Rows(np.concatenate([at for _, at, _ in tables]), faults)
    video = _videos(rows, content, path, files)
    conf, of_truth = table[:, 6], np.array([file.name == "gt.txt" for file in files])[rows.at // _FILE]
    rows.leave_out(of_truth & (conf == 0), "line of gt.txt that the challenge doesn't count (conf 0)")
    unscored = ~of_truth & (conf == UNSCORED)
    index = whole(rows, table[:, 0], "frame") - 1
    given = np.where(np.isnan(table[:, 7]), NO_CLASS, table[:, 7])
    numbers = whole(rows, given, "class (column x)")
    if content.classes == 1:  # boxes without a class are of the only one
        only = next((number for number, each in content.ids.classes.items() if each == 1), NO_CLASS)
        numbers = np.where(numbers == NO_CLASS, only, numbers)
    boxes = table[:, 2:6].copy()
    boxes[:, 2:] += boxes[:, :2] - 1
    entries = Entries(
        rows,
        rows.positions(content, np.maximum(video, 0), index),
        rows.classes(content, numbers),
        boxes,
        np.where(unscored, 1.0, conf),
        whole(rows, table[:, 1], "id"),
    )
    found, report = entries.detections(content, NAME, sum(lines for _, _, lines in tables))
    return found, replace(report, unscored=int((unscored & rows.good).sum()))


def _videos(rows: Rows, content: Content, path: Path, files: list[Path]) -> Ints:
    """Return the (E,) video of each entry; refuse files of no video, second ones of one, and a lack."""
    known = content.row_of_name
    last_parts = Counter(Path(name).name for name in known)
    # A file may be called by the last part of its video's name, if no other video shares it.
    known = known | {Path(name).name: row for name, row in known.items() if last_parts[Path(name).name] == 1}
    root, names = path if path.is_dir() else path.parent, []
    for file in files:
        # VIDEO/gt/gt.txt and VIDEO/det/det.txt are the challenge's.
        inner = file.relative_to(root)
        own = (inner.parent.name, inner.stem) in (("gt", "gt"), ("det", "det"))
        names.append((inner.parent.parent if own else inner.with_suffix("")).as_posix())
    found = np.array([known.get(name, known.get(Path(name).name, UNKNOWN)) for name in names])
    of_entry, videos = rows.at // _FILE, content.frames.videos
    rows.known(
        found[of_entry],
        "video",
        lambda row: f"'{names[of_entry[row]]}'; the dataset has '{videos[0]}' and others",
    )
    again = np.array([row >= 0 and row in found[:place] for place, row in enumerate(found.tolist())])
    rows.refuse(
        again[of_entry],
        "repeated video",
        lambda row: f"a second file of video '{videos[found[of_entry[row]]]}'; expected one",
    )
    lacking = sorted(set(range(len(videos))) - set(found.tolist()))
    if lacking and rows.faults.on_error == "fail":
        raise DataError(
            f"{path}: no file of video '{videos[lacking[0]]}' ({len(lacking)} of {len(videos)} videos have "
            "none); expected one for each, an empty one where nothing was found. Add it, or score such "
            "videos as empty with --on-error skip"
        )
    if lacking:
        rows.faults.leave_out("video without a file", len(lacking))
    return found[of_entry]


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
    nothing = np.full(len(detections), -1)  # the y and z of the challenge's world coordinates
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
    files = [
        below(path, f"{video}.txt") for video in frames.videos
    ]  # all names first: none is written if one is bad
    for file, start, end in zip(files, ends, ends[1:], strict=False):
        write_numbers(file, [column[start:end] for column in columns], ",")
