"""ILSVRC-VID annotations to columns: one XML file a frame, PASCAL-VOC style."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from ovvol_bench.data.truth_index import RawAnnotations
from ovvol_bench.errors import DataError
from ovvol_bench.naming.vocabulary import Vocabulary, spoken
from ovvol_bench.progress import with_progress

Job = tuple[Path, Sequence[int]]
"""A folder of annotations and the numbers of the files to read."""

Parsed = tuple[tuple[int, int], list[tuple[float, ...]]]

_OBJECT = rb"""\s*<object>\s*<trackid>(\d{1,6})</trackid>\s*<name>(\w+)</name>\s*<bndbox>
\s*<xmax>(\d{1,5})</xmax>\s*<xmin>(\d{1,5})</xmin>\s*<ymax>(\d{1,5})</ymax>\s*<ymin>(\d{1,5})</ymin>
\s*</bndbox>\s*<occluded>([01])</occluded>\s*<generated>([01])</generated>\s*</object>"""
_USUAL_OBJECT = re.compile(_OBJECT, re.VERBOSE)
_USUAL_FILE = re.compile(
    rb"""<annotation>\s*<folder>[\w/]*</folder>\s*<filename>\w*</filename>
    \s*(?:<source>\s*<database>\w*</database>\s*</source>)?
    \s*<size>\s*<width>(?P<width>\d{1,5})</width>\s*<height>(?P<height>\d{1,5})</height>\s*</size>
    (?:"""
    + _OBJECT
    + rb""")*\s*</annotation>\s*""",
    re.VERBOSE,
)
MALFORMED = (ElementTree.ParseError, ValueError, LookupError, RecursionError)
"""Errors of ``parse_any`` for what is no annotation."""

_FILES_A_CHUNK = 2000
_WORTH_PROCESSES = 20_000  # files; fewer are read in less time than processes take to start
_MOST_PROCESSES = 8


def class_ids(vocabulary: Vocabulary) -> dict[str, int]:
    """Class ids by what a ``<name>`` may say: a code, or a name or synonym as ``class_id`` spells it."""
    words = {
        _spelled(word): number
        for number, item in enumerate(vocabulary.classes, 1)
        for word in (item.name, *item.synonyms)
    }
    return {**words, **vocabulary.id_of_code}


def class_id(name: str, ids: Mapping[str, int]) -> int:
    """Class id of a ``<name>``, as it is or in another spelling; 0 if there is none.

    >>> class_id("Red_Panda", {"red panda": 3}), class_id("n02084071", {"n02084071": 9})
    (3, 9)
    """
    return ids.get(name) or ids.get(_spelled(name), 0)


def _spelled(name: str) -> str:
    return spoken(name).casefold()


def read_annotations(
    jobs: Sequence[Job], class_ids: Mapping[str, int], processes: int | None = None, digits: int = 6
) -> RawAnnotations:
    """Read all files, on several processes where there are many.

    Args:
        jobs: folders and numbers; at least one file in all.
        class_ids: id of every name in the vocabulary, from 1, see ``class_ids``.
        processes: that read; None chooses by the number of files and processors.
        digits: of the numbers in the files' names.

    Raises:
        DataError: if a file is missing or not a valid annotation; names the file.
    """
    total = sum(len(numbers) for _, numbers in jobs)
    if processes is None:
        processes = min(os.cpu_count() or 1, _MOST_PROCESSES) if total >= _WORTH_PROCESSES else 1
    # whole folders, in chunks of about equal numbers of files
    before = np.cumsum([0, *(len(numbers) for _, numbers in jobs)])[:-1]
    edges = np.flatnonzero(np.diff(before // _FILES_A_CHUNK)) + 1
    chunks = [list(jobs[start:end]) for start, end in pairwise([0, *edges, len(jobs)])]
    read = partial(_read_chunk, class_ids=dict(class_ids), digits=digits)
    with ExitStack() as stack:
        parts: Iterator[RawAnnotations] = map(read, chunks)
        if processes > 1:
            pool = stack.enter_context(ProcessPoolExecutor(processes, mp_context=get_context("spawn")))
            stack.callback(pool.shutdown, cancel_futures=True)  # after an error the rest isn't waited for
            parts = pool.map(read, chunks)
        shown = list(with_progress(parts, total, "reading annotations", lambda part: len(part.sizes)))
    return RawAnnotations(
        np.concatenate([part.sizes for part in shown]),
        np.concatenate([part.counts for part in shown]),
        np.concatenate([part.objects for part in shown]),
    )


def _read_chunk(jobs: Sequence[Job], class_ids: dict[str, int], digits: int) -> RawAnnotations:
    sizes, counts, objects = [], [], []
    for folder, numbers in jobs:
        prefix = str(folder) + os.sep
        for number in numbers:
            size, rows = _read_file(f"{prefix}{number:0{digits}d}.xml", class_ids)
            sizes.append(size)
            counts.append(len(rows))
            objects += rows
    return RawAnnotations(
        np.array(sizes, np.int64).reshape(-1, 2),
        np.array(counts, np.int64),
        np.array(objects, np.float64).reshape(-1, 8),
    )


def _read_file(path: str, class_ids: dict[str, int]) -> Parsed:
    try:
        # A pipe or a device may be in the file's place: then reading would never end.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", 0) as file:  # noqa: PTH123 - no path
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "Not a regular file")
            text = file.read()
    except OSError as error:
        raise DataError(f"Annotation {path} can't be read ({error.strerror}). Extract it again.") from error
    try:
        return parse_usual(text, class_ids) or parse_any(text, class_ids)
    except MALFORMED as error:
        raise DataError(
            f"Annotation {path} is not valid ({error}): expected ILSVRC XML with name and bndbox of every "
            "object. Extract it again, or leave its frame out of the list."
        ) from error


def parse_usual(text: bytes, class_ids: Mapping[str, int]) -> Parsed | None:
    """Parse a file of exactly the devkit's form, four times as quick as XML in general.

    Returns:
        What ``parse_any`` gives for it; None for a file of any other form, well formed or not.
    """
    whole = _USUAL_FILE.fullmatch(text)
    if whole is None:
        return None
    rows: list[tuple[float, ...]] = [
        (class_id(name.decode(), class_ids), *map(int, (x1, y1, x2, y2, track, occluded, generated)))
        for track, name, x2, x1, y2, y1, occluded, generated in _USUAL_OBJECT.findall(text)
    ]
    return (int(whole["height"]), int(whole["width"])), rows


def parse_any(text: bytes, class_ids: Mapping[str, int]) -> Parsed:
    """Parse any well-formed file.

    Args:
        text: of the file.
        class_ids: id of every name in the vocabulary, from 1.

    Returns:
        ((height, width), one row an object with the columns of ``RawAnnotations.objects``).

    Raises:
        ElementTree.ParseError: if the file is not well formed.
        ValueError: if something is missing or no number; says what.
    """
    root = ElementTree.fromstring(text)  # noqa: S314 - expat limits entity expansion
    if root.tag != "annotation":
        raise ValueError(f"the outermost element is {root.tag[:40]}, not annotation")
    size = root.find("size")
    sides = () if size is None else (_whole(_text(size, side), 1_000_000) for side in ("height", "width"))
    height, width = (*sides, 0, 0)[:2]
    if height < 0 or width < 0:
        raise ValueError(f"a size of {height} x {width}")
    rows: list[tuple[float, ...]] = []
    for item in root.iterfind("object"):
        box = item.find("bndbox")
        if box is None:
            raise ValueError("an object without bndbox")
        corners = [float(_text(box, side)) for side in ("xmin", "ymin", "xmax", "ymax")]
        if not all(-1e6 < corner < 1e6 for corner in corners):  # also refuses NaN
            raise ValueError(f"a box with the coordinates {corners}")
        track = _whole(item.findtext("trackid") or "-1", 1 << 53)  # that float64 holds exactly
        flags = (int(item.findtext(flag) or 0) for flag in ("occluded", "generated"))
        rows.append((class_id(_text(item, "name"), class_ids), *corners, track, *flags))
    return (height, width), rows


def _whole(text: str, limit: int) -> int:
    number = int(text)
    if not -limit < number < limit:
        raise ValueError(f"the number {text.strip()[:40]}")
    return number


def _text(parent: ElementTree.Element, tag: str) -> str:
    text = parent.findtext(tag)
    if not text:
        raise ValueError(f"{parent.tag} without {tag}")
    return text.strip()
