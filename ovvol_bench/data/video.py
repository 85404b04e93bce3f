"""Video files: readers, which decode in a helper process with a time limit, and the way to open any video.

A damaged file can hang or crash a decoder, reported frame counts can be wrong, and decord shows some frames
otherwise than a player does. So a file is probed once, decoding happens elsewhere, see ``helper_process``,
and what goes wrong there is a ``DecodeError`` that names the file.
"""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from ovvol_bench.arrays import Floats
from ovvol_bench.data.helper_process import HelperError, HelperProcess, error_line
from ovvol_bench.data.pyav import ShownFrames, require_video
from ovvol_bench.data.readers import FrameFolder, FrameReader, Image
from ovvol_bench.data.transforms import Size
from ovvol_bench.errors import DataError, DecodeError, SettingError
from ovvol_bench.files import is_utf8
from ovvol_bench.printing import printable

VideoBackend = Literal["auto", "decord", "pyav", "opencv"]
Backend = Literal["auto", "decord", "pyav", "opencv", "frames"]

# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".264", ".265", ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".h264",
    ".h265", ".hevc", ".ivf", ".m1v", ".m2t", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov",
    ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".obu", ".ogm", ".ogv", ".ogx", ".qt", ".rm",
    ".rmvb", ".ts", ".vob", ".webm", ".wmv", ".y4m",
})
# fmt: on
"""Endings of files that are taken for videos; their content decides."""

_LOG = logging.getLogger(__name__)
_ADVICE = "Check that it plays, or encode it again."
_THREADS = min(4, os.cpu_count() or 1)
_READS_A_READER = 32  # memory of decord grows while a reader lives
_ALIKE = 3.0  # mean difference of 255 that two decoders' frames may have: they round colour differently


class VideoReader(FrameReader):
    """A video file.

    Args:
        path: of the video.
        decode_size: (height, width) that frames are scaled to while decoding: quicker, but other pixels than
            the reference's, so not for numbers to publish. None decodes at full size.
        count: frames that are known to decode; None: not known yet.
    """

    def __init__(self, path: Path, decode_size: Size | None = None, count: int | None = None) -> None:
        raise NotImplementedError

    @abstractmethod
    def count(self) -> int:
        """Frames that decode; the container may report more."""

    @abstractmethod
    def image(self, index: int) -> Image:
        """Decode a frame: (H, W, 3) uint8 RGB.

        Raises:
            DecodeError: if it can't be decoded; decoders raise other errors, too.
        """

    def images(self, indices: Sequence[int]) -> Iterator[Image]:
        """Decode frames; a thread decodes the next one while one is used."""
        images = map(self._image, indices)
        with ThreadPoolExecutor(1) as thread:
            following = thread.submit(next, images, None)
            try:
                while (image := following.result()) is not None:
                    following = thread.submit(next, images, None)
                    yield image
            finally:
                del (
                    following
                )  # its error would hold this frame, and that the decoder's, until they are collected

    def _image(self, index: int) -> Image:
        """Decode a frame, see ``image``; whatever a decoder raises becomes a ``DecodeError``."""
        try:
            return self.image(index)
        except DecodeError:
            raise
        except Exception as error:
            raise DecodeError(f"frame {index} can't be decoded ({error_line(error)})") from error


class DecordReader(VideoReader):
    """Frames as decord decodes them, see ``VideoReader``."""

    def __init__(self, path: Path, decode_size: Size | None = None, count: int | None = None) -> None:
        import decord

        height, width = decode_size or (-1, -1)
        self._video = decord.VideoReader(
            os.fspath(_in_utf8(path)), width=width, height=height, num_threads=_THREADS
        )
        self.frame_count = len(self._video)
        shape = self._video[0].shape
        if shape[2] != 3:  # of widths such as 48 it takes the padding of rows for pixels
            raise DecodeError(f"decord gives frames of shape {shape}")
        self.frame_size = shape[:2]

    def count(self) -> int:
        if not self._fails(self.frame_count - 1):
            return self.frame_count
        return bisect_left(range(self.frame_count), True, key=self._fails)

    def image(self, index: int) -> Image:
        pixels: Image = self._video[index].asnumpy()
        return pixels

    def _fails(self, index: int) -> bool:
        try:
            self._video[index]
        except Exception:  # decord raises its own errors and built-in ones alike
            return True
        return False


class PyAVReader(VideoReader):
    """Frames as a player shows them, see ``pyav.ShownFrames`` and ``VideoReader``."""

    def __init__(self, path: Path, decode_size: Size | None = None, count: int | None = None) -> None:
        self._frames, self._decode_size = ShownFrames(path, count), decode_size
        self.frame_count = len(self._frames)
        self.frame_size = decode_size or self._frames.frame_size

    def count(self) -> int:
        return self.frame_count

    def image(self, index: int) -> Image:
        return self._frames.image(index, self._decode_size)


class OpenCVReader(VideoReader):
    """Frames as OpenCV decodes them, see ``VideoReader``; it can't scale while decoding.

    Frames are counted from the start, never sought: seeking goes by time stamps and can land on a
    neighbour. Reading on is quick, reading back starts over.
    """

    def __init__(self, path: Path, decode_size: Size | None = None, count: int | None = None) -> None:
        if decode_size is not None:
            raise DataError("OpenCV can't scale while decoding: use backend=decord or decode at full size.")
        self._path = _in_utf8(path)
        self._restart()
        self.frame_count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.frame_size = self.image(0).shape[:2]

    def count(self) -> int:
        while self._capture.grab():
            self._next += 1
        return self._next

    def image(self, index: int) -> Image:
        if index < self._next:
            self._restart()
        while self._next < index and self._capture.grab():
            self._next += 1
        found, pixels = self._capture.read()
        if self._next != index or not found:
            raise DecodeError(f"frame {index} can't be decoded")
        self._next += 1
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)

    def _restart(self) -> None:
        self._capture = cv2.VideoCapture(os.fspath(self._path))
        self._next = 0


def _in_utf8(path: Path) -> Path:
    """Return the same path, if native code can be given it."""
    if not is_utf8(path):  # OpenCV would kill the process
        raise DecodeError("the path is no UTF-8")
    return path


BACKENDS: dict[str, type[VideoReader]] = {
    "decord": DecordReader,
    "pyav": PyAVReader,
    "opencv": OpenCVReader,
}
"""Readers of video files by name, in the order in which ``auto`` tries them."""


@dataclass(frozen=True)
class Probe:
    """Content of a video file.

    Attributes:
        backend: name of the reader that decodes it.
        frame_count: frames that decode, counted up to the last one.
        frame_size: (height, width) as decoded, pixels.
    """

    backend: str
    frame_count: int
    frame_size: Size


class Decoder:
    """Probes and decodes video files; keeps the last one open for a while."""

    def __init__(self) -> None:
        self._key: tuple[Probe, Path, Size | None] | None = None
        self._reader: FrameReader | None = None
        self._reads = 0

    def probe(self, backend: str, path: Path) -> Probe:
        """Count the frames that decode, and compare them with what a player shows.

        Raises:
            DecodeError: if the backend counts or shows other frames than PyAV, or another error if it can't
                decode.
        """
        reader = BACKENDS[backend](require_video(path))
        height, width = reader.frame_size
        probe = Probe(backend, reader.count(), (height, width))
        if backend != "pyav":
            _require_shown(reader, probe, path)
        return probe

    def read_around(
        self, probe: Probe, path: Path, indices: Sequence[int], size: Size, decode_size: Size | None
    ) -> tuple[Floats, dict[int, str]]:
        """Decode frames, see ``FrameReader.read_around``; PyAV does where the backend can't decode them all.

        A damaged packet costs decord the frames before it, too, which it was reading ahead of.

        Raises:
            DecodeError: if PyAV can't open the file, or decodes none of the frames.
        """
        if probe.backend != "pyav":
            with suppress(Exception):  # decord raises errors of its own, also on opening
                frames, unread = self._opened(probe, path, decode_size).read_around(indices, size)
                if not unread:
                    return frames, unread
            probe = replace(probe, backend="pyav")
        return self._opened(probe, path, decode_size).read_around(indices, size)

    def stored(self, probe: Probe, path: Path, indices: Sequence[int]) -> Image:
        """Decode frames, see ``FrameReader.stored``. Raises whatever the backend raises."""
        return self._opened(probe, path, None).stored(indices)

    def _opened(self, probe: Probe, path: Path, decode_size: Size | None) -> FrameReader:
        key = (probe, path, decode_size)
        if self._reader is None or self._key != key or self._reads >= _READS_A_READER:
            self._reader = None  # the old one goes before the new one takes memory
            self._reader = BACKENDS[probe.backend](require_video(path), decode_size, probe.frame_count)
            self._key, self._reads = key, 0
        self._reads += 1
        return self._reader


def _require_shown(reader: VideoReader, probe: Probe, path: Path) -> None:
    """Check count, size, first and last frame against PyAV, where that can decode the file.

    Raises:
        DecodeError: if they differ.
    """
    try:
        shown = ShownFrames(path)
        ends = [(index, shown.image(index)) for index in (0, len(shown) - 1)]
    except DecodeError:
        return
    if probe.frame_count != len(shown):
        raise DecodeError(f"{probe.frame_count} frames where a player shows {len(shown)}")
    for index, image in ends:
        own = reader.image(index)
        if own.shape != image.shape or np.abs(own.astype(np.int16) - image).mean() > _ALIKE:
            raise DecodeError(f"frame {index} isn't what a player shows")


def decoding_worker(timeout: float = 60.0) -> HelperProcess:
    """Make a helper process that decodes.

    Args:
        timeout: seconds that one clip, or the probe of one file, may take.
    """
    # one is enough: two would both decode what lies between their clips
    return HelperProcess(Decoder, timeout)


def probe_video(path: Path, backend: VideoBackend = "auto", worker: HelperProcess | None = None) -> Probe:
    """Find a backend that reads a video file and count the frames that decode.

    Args:
        path: of the file.
        backend: that is tried first; ``auto`` takes the order of ``BACKENDS``. The others follow, where one
            can't decode the file, or shows other frames than a player does.
        worker: where to decode; a fresh one where None.

    Raises:
        DecodeError: if no backend decodes a frame within the time limit.
        SettingError: if the backend is unknown.
    """
    if backend != "auto" and backend not in BACKENDS:
        *most, last = ("auto", *BACKENDS)
        raise SettingError(f"backend='{backend}': expected {', '.join(most)} or {last}.")
    worker = worker or decoding_worker()
    failures: list[str] = []
    try:
        require_video(path)
    except DecodeError as error:
        raise DecodeError(f"Video {path} can't be decoded ({error}). {_ADVICE}") from error
    for name in sorted(BACKENDS, key=lambda name: name != backend):
        try:
            probe: Probe = worker.call("probe", name, path)
        except HelperError as error:
            failures.append(f"{name}: {error}")
        else:
            if failures and backend != "auto":
                _LOG.warning("%s is read by %s (%s)", printable(str(path)), name, "; ".join(failures))
            return probe
    raise DecodeError(f"Video {path} can't be decoded ({'; '.join(failures)}). {_ADVICE}")


class VideoFile(FrameReader):
    """A video file that is decoded in a helper process.

    Args:
        path: of the file.
        probe: of the file, from ``probe_video``.
        worker: where to decode.
    """

    def __init__(self, path: Path, probe: Probe, worker: HelperProcess) -> None:
        self._path = path
        self._probe = probe
        self._worker = worker
        self.frame_count = probe.frame_count
        self.frame_size = probe.frame_size

    def images(self, indices: Sequence[int]) -> Image:
        """Decode frames into one array."""
        frames: Image = self._decoded("stored", indices)
        return frames

    def read_around(
        self, indices: Sequence[int], size: Size | None = None, scale_at_decode: bool = False
    ) -> tuple[Floats, dict[int, str]]:
        """Decode frames, as ``FrameReader`` says; decord and PyAV scale themselves, OpenCV can't."""
        size = size or self.frame_size
        frames, errors = self._decoded("read_around", indices, size, size if scale_at_decode else None)
        return frames, {place: f"Video {self._path}: {error}. {_ADVICE}" for place, error in errors.items()}

    def _decoded(self, method: str, indices: Sequence[int], *sizes: Size | None) -> Any:
        try:
            return self._worker.call(method, self._probe, self._path, tuple(indices), *sizes)
        except HelperError as error:
            raise DecodeError(
                f"Video {self._path}: frames {indices[0]} to {indices[-1]} can't be decoded "
                f"({self._probe.backend}: {error}). {_ADVICE}"
            ) from error


def open_reader(path: Path, backend: Backend = "auto", worker: HelperProcess | None = None) -> FrameReader:
    """Open a video: a folder of JPEG or PNG frames, or a video file.

    Args:
        path: of the folder or file.
        backend: ``frames`` for a folder, ``decord``, ``pyav`` or ``opencv`` for a file; ``auto`` chooses.
        worker: where to decode files; a fresh one where None.

    Raises:
        DataError: if there is nothing at ``path``, a folder holds no frames, or a file can't be decoded.
        SettingError: if the backend is unknown.
    """
    if not path.exists():
        raise DecodeError(f"Video {path} does not exist: expected a video file or a folder of frames.")
    if backend == "frames" or (backend == "auto" and path.is_dir()):
        return FrameFolder.of(path)
    worker = worker or decoding_worker()
    return VideoFile(path, probe_video(path, backend, worker), worker)
