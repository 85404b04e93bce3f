"""Checks of an ILSVRC-VID tree, or of what ``prepare`` makes of one: everything is looked at once.

Unlike reading a dataset, which ends at the first mistake, a check goes on and tells them all.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TypeVar

from ovvol_bench.data.decoders import PyAVReader
from ovvol_bench.data.imagenet_vid.prepare import read_mp4, read_report
from ovvol_bench.data.imagenet_vid.tree import (
    ANNOTATION_SUFFIX,
    VidTree,
    annotation_folders,
    find_tree,
    list_names,
    numbers_in,
    read_videos,
    video_folders,
)
from ovvol_bench.data.readers import read_header, read_image
from ovvol_bench.data.transforms import Size
from ovvol_bench.data.vid_annotations import MALFORMED, Parsed, class_id, class_ids, parse_any, parse_usual
from ovvol_bench.data.video_lists import listed_video
from ovvol_bench.errors import DataError, DecodeError
from ovvol_bench.files import in_utf8, read_text, require_file
from ovvol_bench.naming.vocabulary import Vocabulary
from ovvol_bench.parallel import in_processes
from ovvol_bench.progress import with_progress

BY_HAND = "objects drawn by hand"
OFFICIAL: Mapping[str, Mapping[str, int]] = {
    "train": {"videos": 3862, "frames": 1_122_397, BY_HAND: 866_870},
    "val": {"videos": 555, "frames": 176_126, BY_HAND: 135_949},
    "test": {"videos": 937},
}
"""Counts of ImageNet-VID's splits as the ILSVRC 2015 development kit states them."""

_WITHOUT_TRUTH = "test"  # the one split whose annotations were never published
_NAME = re.compile(rb"<name>\s*(.*?)\s*</name>")
_JobT = TypeVar("_JobT")

EXAMPLES = 5
"""Of a kind of problem that are kept; all are counted, and all of ``SINGLY`` are kept."""


class Kind(StrEnum):
    """Kinds of problems, in the order in which they are shown."""

    NOT_UTF8 = "videos whose name is not UTF-8"
    NOT_THERE = "listed, but not there"
    BAD_LINE = "list lines of an unknown layout"
    TWICE = "videos that a list names twice"
    NO_FRAMES = "folders without frames"
    OTHER_NAME = "images named in another way than the split's first frame"
    GAP = "frames missing from the numbering"
    BAD_FRAME = "frames that are no image, or cut off"
    CHANGED_SIZE = "frames of another size than their video's first"
    NO_ANNOTATION = "frames without annotation"
    NO_FRAME = "annotations without frame"
    BAD_ANNOTATION = "annotations that can't be parsed"
    STATED_SIZE = "annotations that state another size than the frame has"
    UNKNOWN_CLASS = "objects of unknown class"
    INVERTED = "boxes that end before they begin"
    OUTSIDE = "boxes that reach outside the frame"
    UNFINISHED = "preparations that did not come to their end"
    LEFT_OUT = "videos that could not be prepared"
    REPEATED = "prepared frames that show a neighbour, as they could not be read"
    BAD_VIDEO = "videos that can't be read, or are cut off"
    UNDECODED = "frames of videos that can't be decoded"
    OTHER_COUNT = "videos with another number of frames than was prepared"
    OTHER_SIZE = "videos of another size than was prepared"
    NOT_LISTED = "videos that no line of the list names"


SINGLY = frozenset({Kind.BAD_FRAME, Kind.REPEATED, Kind.UNDECODED})
"""Kinds of damaged frames, which can be mended one by one."""


@dataclass
class Findings:
    """Counts and problems; those of parts add up.

    Attributes:
        counts: of things found, by words such as ``frames``.
        problems: count of each kind.
        examples: the first ``EXAMPLES`` of a kind, or all.
    """

    counts: Counter[str] = field(default_factory=Counter)
    problems: Counter[Kind] = field(default_factory=Counter)
    examples: dict[Kind, list[str]] = field(default_factory=dict)

    def add(self, kind: Kind, examples: Iterable[str]) -> None:
        """Count a problem for every example."""
        if there := list(map(in_utf8, examples)):
            self.problems[kind] += len(there)
            self._keep(kind, there)

    def include(self, other: Findings) -> None:
        """Add the findings of another part, its examples after those that are here."""
        self.counts.update(other.counts)
        self.problems.update(other.problems)
        for kind, examples in other.examples.items():
            self._keep(kind, examples)

    def told(self) -> list[tuple[Kind, int, list[str]]]:
        """List the kinds that occur, with their count and first examples."""
        return [(kind, self.problems[kind], self.examples[kind]) for kind in Kind if self.problems[kind]]

    def _keep(self, kind: Kind, examples: list[str]) -> None:
        kept = self.examples.setdefault(kind, [])
        kept += examples if kind in SINGLY else examples[: EXAMPLES - len(kept)]


@dataclass(frozen=True)
class Checked:
    """Outcome of a check.

    Attributes:
        layout: of the root, in words.
        source: the list that was followed; None if there is none.
        findings: counts and problems.
        content: hash of all bytes of all frames or videos; None where they weren't read.
    """

    layout: str
    source: Path | None
    findings: Findings
    content: str | None = None


def check_data(
    root: Path,
    split: str,
    vocabulary: Vocabulary,
    *,
    list_file: Path | None = None,
    workers: int = 1,
    content: bool = False,
) -> Checked:
    """Check one split of a tree of frames, or of videos that were prepared from one.

    Args:
        root: folder with Data and Annotations, or with ``SPLIT.csv`` and the videos.
        split: ``train``, ``val`` or another.
        vocabulary: its codes are the names that annotations may have.
        list_file: a list to follow; the root's own where None.
        workers: processes.
        content: decode every frame and hash every byte, too, instead of headers only.

    Raises:
        DataError: if the root has neither layout, or a list can't be read.
    """
    if (root / f"{split}.csv").is_file() or (root / "report.json").is_file():
        return _check_prepared(root, split, list_file, workers, content)
    return _check_tree(find_tree(root, split), vocabulary, list_file, workers, content)


@dataclass(frozen=True)
class _VideoJob:
    tree: VidTree
    name: str
    listed: tuple[int, ...]
    class_ids: Mapping[str, int]
    annotated: bool
    content: bool

    def frame(self, number: int) -> str:
        return f"{self.name}/{number:0{self.tree.digits}d}{self.tree.suffix}"

    def annotation(self, number: int) -> str:
        return f"{self.name}/{number:0{self.tree.digits}d}{ANNOTATION_SUFFIX}"


def _check_tree(
    tree: VidTree,
    vocabulary: Vocabulary,
    list_file: Path | None = None,
    workers: int = 1,
    content: bool = False,
) -> Checked:
    """Check frames and annotations, see ``check_data``."""
    listed = read_videos(tree, list_file)
    numbers = {video.name: video.numbers or () for video in listed.videos}
    there = {*video_folders(tree, with_empty=True), *annotation_folders(tree)}
    annotated = tree.split != _WITHOUT_TRUTH or (tree.annotations / tree.split).is_dir()
    ids = class_ids(vocabulary)
    jobs = [_VideoJob(tree, name, numbers.get(name, ()), ids, annotated, content) for name in sorted(there)]
    findings = Findings()
    findings.add(Kind.NOT_UTF8, (name for name in sorted(there) if in_utf8(name) != name))
    findings.add(Kind.NOT_THERE, (name for name in numbers if name not in there))
    digest = _include_all(findings, _check_video, jobs, workers)
    return Checked("ILSVRC-VID tree", listed.source, findings, digest if content else None)


def _include_all(
    findings: Findings,
    work: Callable[[_JobT], tuple[str, str, Findings]],
    jobs: Sequence[_JobT],
    workers: int,
) -> str:
    """Do all jobs and add what they found; hash names and contents."""
    # in the order of the names, whatever worker is first: the hash and the examples stay the same
    digest = hashlib.blake2b(digest_size=16)
    parts = with_progress(in_processes(work, jobs, workers), len(jobs), "checking", lambda _: 1)
    for name, content, part in sorted(parts, key=lambda named: named[0]):
        digest.update(f"{name} {content}\n".encode(errors="surrogateescape"))
        findings.include(part)
    return digest.hexdigest()


def _check_video(job: _VideoJob) -> tuple[str, str, Findings]:
    """Check a video; return its name, a hash of its frames, and the findings."""
    findings = Findings()
    names = list_names(job.tree.frames / job.name)
    frames = sorted(numbers_in(names, job.tree.suffix, job.tree.digits))
    others = job.tree.other_images(names, len(frames))
    findings.add(Kind.OTHER_NAME, (f"{job.name}/{name}" for name in others))
    findings.counts.update(videos=bool(frames), frames=len(frames))
    if not frames:
        findings.add(Kind.NO_FRAMES, [job.name])
    last = frames[-1] if frames else -1
    findings.add(Kind.GAP, map(job.frame, sorted(set(range(last + 1)) - set(frames))))
    findings.add(Kind.NOT_THERE, map(job.frame, sorted(set(job.listed) - set(frames))))
    sizes = _check_frames(job, frames, findings)
    if job.annotated:
        _check_annotations(job, frames, sizes, findings)
    paths = [job.tree.frame(job.name, number) for number in frames] if job.content else []
    return job.name, _hash_of(paths), findings


def _hash_of(paths: Iterable[Path]) -> str:
    """Hash the bytes of files, those that can't be read left out."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        with suppress(OSError), require_file(path).open("rb") as file:
            digest.update(hashlib.file_digest(file, hashlib.blake2b).digest())
    return digest.hexdigest()


def _check_frames(job: _VideoJob, numbers: Sequence[int], findings: Findings) -> dict[int, Size]:
    """Check frames; return the sizes of those that say theirs."""
    sizes: dict[int, Size] = {}
    for number in numbers:
        try:
            header = read_header(job.tree.frame(job.name, number))
            sizes[number] = header.size
            is_bad = not header.complete
            if job.content and not is_bad:
                read_image(job.tree.frame(job.name, number))
        except DecodeError:
            is_bad = True
        if is_bad:
            findings.add(Kind.BAD_FRAME, [job.frame(number)])
    first = next(iter(sizes.values()), None)
    findings.add(
        Kind.CHANGED_SIZE, (f"{job.frame(n)}: {_hw(size)}" for n, size in sizes.items() if size != first)
    )
    return sizes


def _check_annotations(
    job: _VideoJob, frames: Sequence[int], sizes: Mapping[int, Size], findings: Findings
) -> None:
    folder = job.tree.annotations / job.name
    numbers = sorted(numbers_in(list_names(folder), ANNOTATION_SUFFIX, job.tree.digits))
    findings.counts["annotations"] += len(numbers)
    findings.add(Kind.NO_ANNOTATION, map(job.frame, sorted(set(frames) - set(numbers))))
    findings.add(Kind.NO_FRAME, map(job.annotation, sorted(set(numbers) - set(frames))))
    for number in numbers:
        where = job.annotation(number)
        try:
            text = require_file(job.tree.annotations / where).read_bytes()
            parsed = parse_usual(text, job.class_ids) or parse_any(text, job.class_ids)
        except (OSError, *MALFORMED) as error:
            findings.add(Kind.BAD_ANNOTATION, [f"{where}: {error}"])
            continue
        _check_truth(parsed, sizes.get(number), where, findings)
        if any(row[0] == 0 for row in parsed[1]):
            names = (name.decode(errors="replace") for name in _NAME.findall(text))
            unknown = (name for name in names if not class_id(name, job.class_ids))
            findings.add(Kind.UNKNOWN_CLASS, (f"{where}: {name}" for name in unknown))


def _check_truth(parsed: Parsed, size: Size | None, where: str, findings: Findings) -> None:
    """Check size and boxes."""
    stated, rows = parsed
    findings.counts.update({"objects": len(rows), BY_HAND: sum(not row[7] for row in rows)})
    if size is not None and any(stated) and stated != size:
        findings.add(Kind.STATED_SIZE, [f"{where}: {_hw(stated)} instead of {_hw(size)}"])
    height, width = stated if any(stated) or size is None else size
    for _, x1, y1, x2, y2, *_ in rows:
        box = f"{where}: {x1:g} {y1:g} {x2:g} {y2:g}"
        if x2 < x1 or y2 < y1:
            findings.add(Kind.INVERTED, [box])
        # a box of ImageNet-VID may end at the frame's width or height, one past the last pixel
        if width and (min(x1, x2, y1, y2) < 0 or max(x1, x2) > width or max(y1, y2) > height):
            findings.add(Kind.OUTSIDE, [f"{box} in {_hw((height, width))}"])


def _hw(size: Size) -> str:
    return f"{size[0]} x {size[1]} (height x width)"


def _check_prepared(
    root: Path, split: str, list_file: Path | None = None, workers: int = 1, content: bool = False
) -> Checked:
    """Check videos that ``prepare`` wrote, see ``check_data``: read, and decoded only for ``content``."""
    findings = Findings()
    source = list_file or root / f"{split}.csv"
    names = _read_list(source, findings)
    there = {name for name in names if (root / name).is_file()}
    files = {path.relative_to(root).as_posix() for path in (root / split).rglob("*.mp4")}
    findings.add(Kind.NOT_THERE, (name for name in names if name not in there))
    findings.add(Kind.NOT_UTF8, (name for name in sorted(files) if in_utf8(name) != name))
    findings.add(Kind.NOT_LISTED, sorted(files - there))
    entry = read_report(root).get(split, {})
    if entry and not entry["complete"]:
        findings.add(Kind.UNFINISHED, [f"{split}: give the same 'data prepare' command again"])
    findings.add(Kind.LEFT_OUT, (f"{name}: {reason}" for name, reason in entry.get("problems", {}).items()))
    for name, repeated in entry.get("repeated", {}).items():
        findings.add(Kind.REPEATED, (f"{name}.mp4, frame {n}: {reason}" for n, reason in repeated.items()))
    frames, settings = entry.get("videos", {}), entry.get("settings", {})
    jobs = [(name, frames.get(name.removesuffix(".mp4"))) for name in sorted(there)]
    check = partial(_check_movie, root=root, settings=settings, content=content)
    digest = _include_all(findings, check, jobs, workers)
    return Checked("prepared videos", source, findings, digest if content else None)


def _read_list(source: Path, findings: Findings) -> list[str]:
    """Read the videos that a list names, each once."""
    try:
        lines = read_text(source).splitlines()
    except (OSError, ValueError) as error:
        raise DataError(
            f"List {source} can't be read ({error}). Expected lines such as './val/VIDEO.mp4 0', which "
            "'ovvol-bench data prepare imagenet-vid' writes once all videos are done."
        ) from error
    names: Counter[str] = Counter()
    for number, line in enumerate(lines, 1):
        try:
            names.update([listed_video(line, f"line {number}")] if line.strip() else [])
        except DataError as error:
            findings.add(Kind.BAD_LINE, [str(error)])
    findings.add(Kind.TWICE, (name for name, count in names.items() if count > 1))
    return list(names)


def _check_movie(
    job: tuple[str, int | None], root: Path, settings: Mapping[str, int], content: bool
) -> tuple[str, str, Findings]:
    """Check a prepared video by its name and its frames in the report; return as ``_check_video`` does."""
    name, prepared = job
    path = root / name
    findings, digest = Findings(), _hash_of([path] if content else [])
    findings.counts["videos"] = 1
    try:
        frames, size, _ = read_mp4(path)
    except DecodeError as error:
        findings.add(Kind.BAD_VIDEO, [str(error)])
        return name, digest, findings
    findings.counts["frames"] = frames
    if prepared not in (None, frames):
        findings.add(Kind.OTHER_COUNT, [f"{name}: {frames} instead of {prepared}"])
    short_side, multiple = settings.get("short_side", min(size)), settings.get("multiple", 2)
    if min(size) != short_side or max(size) % multiple:
        findings.add(Kind.OTHER_SIZE, [f"{name}: {_hw(size)}"])
    if not content:
        return name, digest, findings
    try:
        shown = PyAVReader(path)
    except DecodeError as error:
        findings.add(Kind.UNDECODED, [f"{name}: {error}"])
        return name, digest, findings
    for index in range(shown.frame_count):
        try:
            shown.image(index)
        except DecodeError as error:
            findings.add(Kind.UNDECODED, [f"{name}: {error}"])
    return name, digest, findings
