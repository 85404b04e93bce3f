"""ImageNet-VID's folders of frames to small mp4s and a list, as training reads them.

::

    OUT/SPLIT/VIDEO.mp4     one a folder of frames, in the same subfolders
    OUT/SPLIT.csv           ``./SPLIT/VIDEO.mp4 0``, one line a video
    OUT/report.json         by split: settings, frames a video, and what could not be prepared and why

A frame that can't be read shows the one before it, or the first that can be read, so that positions in the
video stay the numbers of the frames. Its video is made again each time, in case the frame was mended.

A video appears once it is whole: encoded in memory, decoded again to count its frames, written to
``OUT/.unfinished`` and renamed. So work that was cut off goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from ovvol_bench.data.mp4 import Encoding, count_decoded, encode_mp4, read_mp4
from ovvol_bench.data.readers import Image, read_image
from ovvol_bench.data.transforms import target_size
from ovvol_bench.data.vid_tree import VidTree
from ovvol_bench.errors import DataError, DecodeError, OutputError, SettingError
from ovvol_bench.files import below, read_json, write_text
from ovvol_bench.locks import claimed
from ovvol_bench.parallel import in_processes

REPORT = "report.json"
_UNFINISHED = ".unfinished"


@dataclass(frozen=True)
class Outcome:
    """What became of a video.

    Attributes:
        name: as in the tree, for example ``val/ILSVRC2015_val_00000000``.
        frames: in its mp4; 0 if there is none.
        kept: whether the mp4 was there already.
        problem: why there is no mp4; None if there is one.
        repeated: number of each frame that shows another one, and why it can't be read itself.
    """

    name: str
    frames: int
    kept: bool = False
    problem: str | None = None
    repeated: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Job:
    name: str
    tree: VidTree
    out: Path
    encoding: Encoding
    redo: bool

    @property
    def movie(self) -> Path:
        return below(self.out, f"{self.name}.mp4")


def prepare_videos(
    tree: VidTree,
    names: Sequence[str],
    out: Path,
    encoding: Encoding,
    *,
    workers: int = 1,
    redo: bool = False,
) -> Iterator[Outcome]:
    """Encode videos; a finished one, told by its number of frames, is not done again.

    Args:
        tree: where the frames lie.
        names: of the videos, from ``video_folders``.
        out: made if missing.
        encoding: size, quality, key frames.
        workers: processes.
        redo: encode finished ones as well.

    Yields:
        An outcome a video, as they come; report and list are on disk after the last one. No frame that
        can be read, a size that changes, or gaps in the numbering make a problem, not an error.

    Raises:
        SettingError: if ``out`` holds videos of other settings and ``redo`` is not set, or another
            process is preparing there.
        DataError: if ``out`` can't be written to, or none of the videos can be prepared.
    """
    jobs = [_Job(name, tree, out, encoding, redo) for name in names]
    with _disk_errors(out), _unfinished(out):
        report = _opened_report(out, tree.split, encoding, redo)
        outcomes: list[Outcome] = []
        try:
            for outcome in in_processes(_prepare, jobs, workers):
                outcomes.append(outcome)
                yield outcome
        finally:
            _write_report(out, report, tree.split, _entry(encoding, outcomes, len(jobs)))
        _write_list(out / f"{tree.split}.csv", outcomes)


def _prepare(job: _Job) -> Outcome:
    repeated: dict[int, str] = {}
    try:
        files = _frame_files(job.tree, job.name)
        kept = not job.redo and _is_finished(job, len(files))
        if not kept:
            _store(_encoded(files, job.encoding, repeated), job)
    except (DataError, OutputError) as error:  # of frames that can't be read, and names that can't be written
        return Outcome(job.name, 0, problem=str(error))
    return Outcome(job.name, len(files), kept, repeated=repeated)


def _frame_files(tree: VidTree, name: str) -> list[Path]:
    """All frames in order; positions in the video are to equal the numbers in the file names."""
    folder, numbers = tree.frames / name, sorted(tree.frame_numbers(name))
    if not numbers:
        raise DecodeError(f"{folder} holds no frames: expected {tree.frame(name, 0).name} and so on.")
    missing = numbers[-1] + 1 - len(numbers)
    if missing:
        raise DecodeError(
            f"{folder} lacks {missing} of the frames 0 to {numbers[-1]}. Extract the video again."
        )
    return [tree.frame(name, number) for number in numbers]


def _is_finished(job: _Job, frames: int) -> bool:
    if not job.movie.exists():
        return False
    try:
        stored = read_mp4(job.movie)
    except DecodeError:
        return False
    return stored.frame_count == frames and stored.comment == job.encoding.comment


def _encoded(files: Sequence[Path], encoding: Encoding, repeated: dict[int, str]) -> bytes:
    """An mp4; frames that can't be read are added to ``repeated``."""
    movie = _movie(files, encoding, repeated)
    if repeated:  # then the file says so, and never passes for finished
        movie = _movie(files, encoding, {}, f" repeated={len(repeated)}")
    decoded = count_decoded(movie)
    if decoded != len(files):
        raise DecodeError(
            f"{files[0].parent}: {decoded} of {len(files)} frames came back from the encoded video. "
            "Prepare it again; if this stays, install another version of PyAV."
        )
    return movie


def _movie(files: Sequence[Path], encoding: Encoding, repeated: dict[int, str], note: str = "") -> bytes:
    images = _images(files, repeated)
    first = next(images, None)
    if first is None:
        raise DecodeError(repeated[0])
    height, width = first.shape[:2]
    size = target_size((height, width), encoding.short_side, encoding.multiple)
    return encode_mp4(chain([first], images), size, encoding, note)


def _images(files: Sequence[Path], repeated: dict[int, str]) -> Iterator[Image]:
    """An image a file; nothing if none can be read."""
    shown: Image | None = None
    for number, file in enumerate(files):
        try:
            image = read_image(file)
        except DecodeError as error:
            repeated[number] = str(error)
            if shown is not None:
                yield shown
            continue
        if shown is None:
            yield from [image] * number
        elif image.shape != shown.shape:
            raise DecodeError(
                f"Image {file} is {image.shape[0]} x {image.shape[1]} pixels (height x width); expected "
                f"{shown.shape[0]} x {shown.shape[1]}, as the frames before it. Extract the video again."
            )
        shown = image
        yield image


def _store(movie: bytes, job: _Job) -> None:
    temporary = job.out / _UNFINISHED / f"{os.getpid()}.part"
    with temporary.open("wb") as file:
        file.write(movie)
        file.flush()
        os.fsync(file.fileno())
    job.movie.parent.mkdir(parents=True, exist_ok=True)
    temporary.replace(job.movie)


@contextmanager
def _unfinished(out: Path) -> Iterator[None]:
    """Claim the folder for what is being written; empty it before, as what is left was cut off."""
    folder = out / _UNFINISHED
    try:
        with claimed(folder / "lock", "choose another folder"):
            try:
                for leftover in folder.glob("*.part"):
                    leftover.unlink()
                yield
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except OutputError:  # there was no room even for the lock
        shutil.rmtree(folder, ignore_errors=True)
        raise


@contextmanager
def _disk_errors(out: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, OutputError) as error:
        raise DataError(
            f"Preparing into {out} had to stop: {error}. Make room, or mend what it says, and give the same "
            "command again; finished videos are kept."
        ) from error


def read_report(out: Path) -> dict[str, Any]:
    """What ``report.json`` holds, by split; empty where there is none.

    Raises:
        DataError: if it can't be read, or is not what ``prepare_videos`` writes.
    """
    path = out / REPORT
    advice = "Delete it, and prepare the splits again."
    try:
        report = read_json(path, strict=True) if path.exists() else {}
    except DataError as error:
        raise DataError(f"{error} {advice}") from error
    if not isinstance(report, dict) or not all(map(_is_entry, report.values())):
        raise DataError(f"{path} is not what was written there: expected an object a split. {advice}")
    return report


def _is_entry(value: object) -> bool:
    kinds = {"settings": dict, "complete": bool, "videos": dict, "problems": dict}
    return (
        isinstance(value, dict)
        and all(isinstance(value.get(key), kind) for key, kind in kinds.items())
        and isinstance(value.get("repeated", {}), dict)
    )


def _opened_report(out: Path, split: str, encoding: Encoding, redo: bool) -> dict[str, Any]:
    """The report so far; on disk it says from now on with which settings the split is being made."""
    report = read_report(out)
    there = report.get(split, {}).get("settings", asdict(encoding))
    if there != asdict(encoding) and not redo:
        stated = ", ".join(f"{name}={value}" for name, value in there.items())
        raise SettingError(
            f"{out / split} holds videos made with other settings ({stated}). Use the same, choose another "
            "folder, or make them again with --overwrite always."
        )
    _write_report(out, report, split, _entry(encoding, [], 1))
    return report


def _entry(encoding: Encoding, outcomes: Sequence[Outcome], wanted: int) -> dict[str, Any]:
    by_name = sorted(outcomes, key=lambda outcome: outcome.name)
    return {
        "settings": asdict(encoding),
        "complete": len(outcomes) == wanted,
        "videos": {item.name: item.frames for item in by_name if item.problem is None},
        "problems": {item.name: item.problem for item in by_name if item.problem is not None},
        "repeated": {item.name: dict(item.repeated) for item in by_name if item.repeated},
    }


def _write_report(out: Path, report: dict[str, Any], split: str, entry: dict[str, Any]) -> None:
    write_text(out / REPORT, json.dumps({**report, split: entry}, indent=2, ensure_ascii=False) + "\n")


def _write_list(path: Path, outcomes: Sequence[Outcome]) -> None:
    names = sorted(outcome.name for outcome in outcomes if outcome.problem is None)
    if not names:
        raise DataError(
            f"None of {len(outcomes)} videos could be prepared. {outcomes[0].problem if outcomes else ''}"
        )
    write_text(path, "".join(f"./{name}.mp4 0\n" for name in names))
