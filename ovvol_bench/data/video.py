"""Videos opened by path: files, whose frames ``decoders`` decode in a helper process, and folders of frames.

A damaged file can hang or crash a decoder, reported frame counts can be wrong, and decord shows some frames
otherwise than a player does. So a file is probed once, decoding happens elsewhere, see ``helper_process``,
and what goes wrong there is a ``DecodeError`` that names the file.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ovvol_bench.arrays import Floats
from ovvol_bench.data.decoders import BACKENDS, PyAVReader, require_video
from ovvol_bench.data.helper_process import HelperError, HelperProcess
from ovvol_bench.data.readers import FrameFolder, FrameReader, Image
from ovvol_bench.data.transforms import Size
from ovvol_bench.errors import DecodeError, SettingError
from ovvol_bench.printing import printable

VideoBackend = Literal["auto", "decord", "pyav", "opencv"]
Backend = Literal["auto", "decord", "pyav", "opencv", "frames"]

_LOG = logging.getLogger(__name__)
_ADVICE = "Check that it plays, or encode it again."
_READS_A_READER = 32  # memory of decord grows while a reader lives
_ALIKE = 3.0  # mean difference of 255 that two decoders' frames may have: they round colour differently


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
        if backend == "pyav":
            return probe
        try:
            shown = PyAVReader(path)
            ends = [(index, shown.image(index)) for index in (0, shown.frame_count - 1)]
        except DecodeError:  # there is nothing to compare with
            return probe
        if probe.frame_count != shown.frame_count:
            raise DecodeError(f"{probe.frame_count} frames where a player shows {shown.frame_count}")
        for index, image in ends:
            own = reader.image(index)
            if own.shape != image.shape or np.abs(own.astype(np.int16) - image).mean() > _ALIKE:
                raise DecodeError(f"frame {index} isn't what a player shows")
        return probe

    def read_around(
        self, probe: Probe, path: Path, indices: Sequence[int], size: Size, decode_size: Size | None
    ) -> tuple[Floats, dict[int, str]]:
        """Decode frames, see ``FrameReader.read_around``; PyAV does where the backend can't decode them all.

        Raises:
            DecodeError: if PyAV can't open the file, or decodes none of the frames.
        """
        if probe.backend != "pyav":
            with suppress(Exception):  # decord raises errors of its own, also on opening
                frames, unread = self._opened(probe, path, decode_size).read_around(indices, size)
                if not unread:
                    return frames, unread
            # a damaged packet costs decord the frames before it, too, which it was reading ahead of
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
