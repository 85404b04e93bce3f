"""Preparation of ImageNet-VID's folders of frames as small mp4s and a list, as training reads them.

::

    OUT/SPLIT/VIDEO.mp4     one a folder of frames, in the same subfolders
    OUT/SPLIT.csv           ``./SPLIT/VIDEO.mp4 0``, one line a video
    OUT/report.json         by split: settings, frames a video, and what could not be prepared and why

A frame that can't be read shows the one before it, or the first that can be read, so that positions in the
video stay the numbers of the frames. Its video is made again each time, in case the frame was mended.

A video appears once it is whole: encoded in memory, decoded again to count its frames, written to
``OUT/.unfinished`` and renamed. So work that was cut off goes on where it stopped. They are H.264 with dense
key frames, written and counted through PyAV (FFmpeg).
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import av

from ovvol_bench.data.imagenet_vid.tree import VidTree
from ovvol_bench.data.readers import Image, read_image
from ovvol_bench.data.transforms import Size, target_size
from ovvol_bench.errors import DataError, DecodeError, OutputError, SettingError
from ovvol_bench.files import below, read_json, write_text
from ovvol_bench.locks import claimed
from ovvol_bench.parallel import in_processes

REPORT = "report.json"
_UNFINISHED = ".unfinished"

# x264's own preset, as in the published program, but without frames that refer to later ones: with them
# x264 reads memory that it has not set, and the same frames give another file each time.
_X264 = {"preset": "medium", "bf": "0"}


@dataclass(frozen=True)
class Encoding:
    """Settings of mp4 files; the defaults are those of the paper's published program.

    Attributes:
        short_side: of the frames, pixels.
        multiple: what both sides are multiples of, pixels; even, since colour has half the resolution.
        crf: x264's constant rate factor, 1 (best) to 51 (smallest).
        gop: most frames from one key frame to the next. Reading a frame decodes all from the key frame
            before it, so small values make random access quick, and files large.
        fps: frames a second that the file states.

    Raises:
        SettingError: if the sides don't fit together, or ``crf``, ``gop`` or ``fps`` is out of range.
    """

    short_side: int = 224
    multiple: int = 16
    crf: int = 23
    gop: int = 16
    fps: int = 25

    def __post_init__(self) -> None:
        if self.multiple < 2 or self.multiple % 2:
            raise SettingError(
                f"multiple={self.multiple}: H.264 stores even sides, so set a positive even one."
            )
        if self.short_side < 1 or self.short_side % self.multiple:
            raise SettingError(
                f"short_side={self.short_side} is no positive multiple of multiple={self.multiple}. "
                "Set both so that it is."
            )
        for name, value, high in (("crf", self.crf, 51), ("gop", self.gop, 1000), ("fps", self.fps, 1000)):
            if not 1 <= value <= high:
                raise SettingError(f"{name}={value} is out of range: expected 1 to {high}.")

    @property
    def comment(self) -> str:
        """Comment that an mp4 has of these settings, so that one of others is recognized."""
        return "ovvol-bench " + " ".join(f"{name}={value}" for name, value in asdict(self).items())


def encode_mp4(frames: Iterable[Image], size: Size, encoding: Encoding, note: str = "") -> bytes:
    """Scale frames (bicubic, as FFmpeg's scale filter does) and encode them.

    Args:
        frames: (H, W, 3) uint8 RGB each, at least one.
        size: (height, width) of the result, pixels.
        encoding: quality, key frames and rate.
        note: goes behind ``encoding.comment`` in the file.

    Returns:
        A whole mp4 file: H.264, yuv420p, the same for the same frames.
    """
    height, width = size
    file = io.BytesIO()  # in memory, so that what fails on disk is one write
    with av.open(file, "w", format="mp4") as container:
        container.metadata["comment"] = encoding.comment + note
        stream = container.add_stream("libx264", rate=encoding.fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": str(encoding.crf), "g": str(encoding.gop), **_X264}
        stream.codec_context.thread_count = 1  # the number of threads changes the file
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(frame.reformat(width, height, "yuv420p", interpolation="BICUBIC")))
        container.mux(stream.encode(None))
    return file.getvalue()


def count_decoded(file: bytes) -> int:
    """Count the frames that decode from an mp4 in memory."""
    with av.open(io.BytesIO(file), "r") as container:
        return len([None for _ in container.decode(video=0)])


def read_mp4(path: Path) -> tuple[int, Size, str]:
    """Go through a video file without decoding it.

    Returns:
        Frames whose data is there, (height, width) in pixels, and the comment: ``Encoding.comment`` of those
        that were prepared.

    Raises:
        DecodeError: if it is missing, no video, or cut off.
    """
    try:
        with av.open(str(path), "r") as container:
            stream = container.streams.video[0]
            packets = sum(packet.size > 0 for packet in container.demux(stream))
            promised = stream.frames
            size = (stream.codec_context.height, stream.codec_context.width)
            comment = container.metadata.get("comment", "")
    except (av.error.FFmpegError, OSError, IndexError) as error:
        raise DecodeError(f"Video {path} can't be read ({error}). Prepare it again.") from error
    if packets != promised:
        raise DecodeError(f"Video {path} is cut off: {packets} of {promised} frames. Prepare it again.")
    return packets, size, comment


@dataclass(frozen=True)
class Outcome:
    """Outcome of a video's preparation.

    Attributes:
        name: as in the tree, for example ``val/ILSVRC2015_val_00000000``.
        frames: in its mp4; 0 if there is none.
        kept: the mp4 was there already.
        problem: why there is no mp4; None if there is one.
        repeated: number of each frame that shows another one, and why it can't be read itself.
    """

    name: str
    frames: int
    kept: bool = False
    problem: str | None = None
    repeated: Mapping[int, str] = field(default_factory=dict)


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
    prepare = partial(_prepare, tree=tree, out=out, encoding=encoding, redo=redo)
    with _unfinished(out):
        report = _opened_report(out, tree.split, encoding, redo)
        outcomes: list[Outcome] = []
        try:
            for outcome in in_processes(prepare, names, workers):
                outcomes.append(outcome)
                yield outcome
        finally:
            _write_report(out, report, tree.split, _entry(encoding, outcomes, len(names)))
        done = sorted(outcome.name for outcome in outcomes if outcome.problem is None)
        if not done:
            first = outcomes[0].problem if outcomes else ""
            raise DataError(f"None of {len(outcomes)} videos could be prepared. {first}")
        write_text(out / f"{tree.split}.csv", "".join(f"./{name}.mp4 0\n" for name in done))


def _prepare(name: str, tree: VidTree, out: Path, encoding: Encoding, redo: bool) -> Outcome:
    repeated: dict[int, str] = {}
    try:
        movie = below(out, f"{name}.mp4")
        files = _frame_files(tree, name)
        kept = False
        if movie.exists() and not redo:
            with suppress(DecodeError):  # a file that is cut off is made again
                count, _, comment = read_mp4(movie)
                kept = count == len(files) and comment == encoding.comment
        if not kept:
            content = _encoded(files, encoding, repeated)
            temporary = out / _UNFINISHED / f"{os.getpid()}.part"
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # else a power cut could leave the name without the content
            movie.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(movie)
    except (DataError, OutputError) as error:  # of frames that can't be read, and names that can't be written
        return Outcome(name, 0, problem=str(error))
    return Outcome(name, len(files), kept, repeated=repeated)


def _frame_files(tree: VidTree, name: str) -> list[Path]:
    """List all frames in order."""
    # positions in the video are to equal the numbers in the file names, so gaps are an error
    folder, numbers = tree.frames / name, sorted(tree.frame_numbers(name))
    if not numbers:
        raise DecodeError(f"{folder} holds no frames: expected {tree.frame(name, 0).name} and so on.")
    missing = numbers[-1] + 1 - len(numbers)
    if missing:
        raise DecodeError(
            f"{folder} lacks {missing} of the frames 0 to {numbers[-1]}. Extract the video again."
        )
    return [tree.frame(name, number) for number in numbers]


def _encoded(files: Sequence[Path], encoding: Encoding, repeated: dict[int, str]) -> bytes:
    """Encode an mp4; frames that can't be read are added to ``repeated``."""
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
    """Yield an image a file; nothing if none can be read."""
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


@contextmanager
def _unfinished(out: Path) -> Iterator[None]:
    """Claim the folder for what is being written; empty it before, as what is left was cut off.

    Raises:
        SettingError: if another process holds it.
        DataError: instead of errors of the disk.
    """
    folder = out / _UNFINISHED
    try:
        with claimed(folder / "lock", "choose another folder"):
            try:
                for leftover in folder.glob("*.part"):
                    leftover.unlink()
                yield
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except (OSError, OutputError) as error:
        if isinstance(error, OutputError):  # there was no room even for the lock
            shutil.rmtree(folder, ignore_errors=True)
        raise DataError(
            f"Preparing into {out} had to stop: {error}. Make room, or mend what it says, and give the same "
            "command again; finished videos are kept."
        ) from error


def read_report(out: Path) -> dict[str, Any]:
    """Read ``report.json``, an entry a split; empty where there is none.

    Raises:
        DataError: if it can't be read, or is not what ``prepare_videos`` writes.
    """
    path = out / REPORT
    advice = "Delete it, and prepare the splits again."
    try:
        report = read_json(path, strict=True) if path.exists() else {}
    except DataError as error:
        raise DataError(f"{error} {advice}") from error
    kinds = {"settings": dict, "complete": bool, "videos": dict, "problems": dict}
    entries = list(report.values()) if isinstance(report, dict) else [None]
    if not all(
        isinstance(entry, dict)
        and all(isinstance(entry.get(key), kind) for key, kind in kinds.items())
        and isinstance(entry.get("repeated", {}), dict)  # came later than the others
        for entry in entries
    ):
        raise DataError(f"{path} is not what was written there: expected an object a split. {advice}")
    return report


def _opened_report(out: Path, split: str, encoding: Encoding, redo: bool) -> dict[str, Any]:
    """Read the report so far, and note in it with which settings the split is being made."""
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
