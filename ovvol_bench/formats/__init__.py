"""Files of other programs: one module a format, which reads ground truth, reads detections and writes them.

Formats by name, with what each can hold, and how one is told from a file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ovvol_bench.detections import Detections
from ovvol_bench.errors import DataError, UnknownNameError, nearest
from ovvol_bench.files import require_file
from ovvol_bench.formats import coco, coco_vid, mot, vid_devkit, youtube_vis
from ovvol_bench.formats.entries import Content, OnError, Report

Read = Callable[[Path, Content, OnError], tuple[Detections, Report]]
Write = Callable[[Detections, Content, Path], None]


@dataclass(frozen=True)
class Format:
    """File format of detections.

    Attributes:
        name: as typed after ``--format``.
        suffix: of its files; empty for a folder.
        boxes: how it states boxes.
        lost: parts of detections that it can't hold, a line each.
        absent: whether it can hold segments that their frame doesn't show, see ``detections.ABSENT``.
        read: from a file, see the format's module.
        write: to a file, see the format's module.
    """

    name: str
    suffix: str
    boxes: str
    lost: tuple[str, ...]
    absent: bool
    read: Read
    write: Write


_FRAMES = "which frames were looked at and have nothing"

FORMATS = {
    each.name: each
    for each in (
        Format(coco.NAME, ".json", "x, y, width, height", (_FRAMES,), True, coco.read, coco.write),
        Format(coco_vid.NAME, ".json", "x, y, width, height", (), True, coco_vid.read, coco_vid.write),
        Format(
            youtube_vis.NAME,
            ".json",
            "of the masks",
            (_FRAMES, "boxes beside the masks", "scores of single frames", "numbers of tracks"),
            False,
            youtube_vis.read,
            youtube_vis.write,
        ),
        Format(
            vid_devkit.NAME,
            ".txt",
            "xmin ymin xmax ymax, ends inclusive",
            (_FRAMES, "tracks", "masks"),
            True,
            vid_devkit.read,
            vid_devkit.write,
        ),
        Format(mot.NAME, "", "left, top, width, height", (_FRAMES, "masks"), True, mot.read, mot.write),
    )
}

_HEAD = 1 << 20  # bytes that are looked at to tell a format


def format_of(name: str) -> Format:
    """Return the format with a name.

    Raises:
        UnknownNameError: if there is none.
    """
    if name not in FORMATS:
        raise UnknownNameError(
            f"unknown format '{name}'.{nearest(name, FORMATS)} Formats: {', '.join(FORMATS)}"
        )
    return FORMATS[name]


def detect(path: Path) -> Format:
    """Tell the format of a file from how it begins.

    Raises:
        DataError: if it can't be read or could be several.
    """
    try:
        if path.is_dir():
            name = mot.NAME if any(path.rglob("*.txt")) else None
        else:
            with require_file(path).open("rb") as file:
                name = _format_of_text(file.read(_HEAD).decode("utf-8", errors="replace"))
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror or error})") from error
    if name is None:
        raise DataError(
            f"{path}: can't tell its format. Say it with --input-format: {', '.join(FORMATS)}. "
            "See docs/formats.md"
        )
    return FORMATS[name]


def _format_of_text(head: str) -> str | None:
    head = head.lstrip("\ufeff \t\r\n")
    if head.startswith("{"):
        return coco_vid.NAME if any(f'"{name}"' in head for name in coco_vid.LISTS) else None
    if head.startswith("["):
        if '"segmentations"' in head:
            return youtube_vis.NAME if '"image_id"' not in head else None
        return coco.NAME if '"image_id"' in head else None
    # Seven columns between blanks are the devkit's; MOT has seven between commas, or more.
    first = head.split("\n", 1)[0]
    columns = len(first.split())
    if columns == len(vid_devkit.LAYOUT.names) and "," not in first:
        return vid_devkit.NAME
    return mot.NAME if max(first.count(",") + 1, columns) >= len(mot.LAYOUT.names) else None
