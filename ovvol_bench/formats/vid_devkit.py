"""Text that the ILSVRC-VID development kit scores, one box a line, ends inclusive."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ovvol_bench.detections import ABSENT, Detections
from ovvol_bench.formats.entries import Content, Entries, Faults, OnError, Report, Rows
from ovvol_bench.formats.text import Layout, read_numbers, whole, write_numbers

NAME = "vid-devkit"
LAYOUT = Layout(("frame_index", "class_id", "confidence", "xmin", "ymin", "xmax", "ymax"), most=7)


def read(path: Path, content: Content, on_error: OnError = "fail") -> tuple[Detections, Report]:
    """Read lines ``frame_index class_id confidence xmin ymin xmax ymax``, blank lines left out.

    The box 0 0 -1 -1 stands for a segment that its frame doesn't show.

    Raises:
        DataError: naming the first line with a fault, see ``Entries.detections``.
    """
    faults = Faults(lambda at: f"{path}, line {at}", on_error)
    table, at, count = read_numbers(path, LAYOUT, faults)
    rows = Rows(at, faults)
    boxes = table[:, 3:7]
    frames, classes = (whole(rows, table[:, column], LAYOUT.names[column]) for column in (0, 1))
    frame, class_ids = rows.frames(content, frames), rows.classes(content, classes)
    thin = (boxes == ABSENT).all(axis=1)
    entries = Entries(rows, frame, class_ids, boxes, table[:, 2], np.full(len(table), -1), thin=thin)
    return entries.detections(content, NAME, count)


def write(detections: Detections, content: Content, path: Path) -> None:
    """Write detections in the order of the frames; tracks and masks are lost.

    Raises:
        DataError: if a frame or class has no number.
    """
    columns = (
        content.frame_numbers[detections.frame],
        content.class_numbers[detections.class_ids],
        detections.scores,
        *detections.boxes.astype(np.float64).T,
    )
    write_numbers(path, columns, " ")
