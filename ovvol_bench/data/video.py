"""Video files, decoded in a helper process with a time limit, and the way to open any video.

A corrupt file can hang or crash a decoder, reported frame counts can be wrong, and decord's memory
grows while a reader lives. So a file is probed once, decoding happens elsewhere, and what goes wrong
there is a ``DecodeError`` that names the file.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from ovvol_bench.arrays import Floats
from ovvol_bench.data.pyav import require_video
from ovvol_bench.data.readers import FrameFolder, FrameReader, Image
from ovvol_bench.data.transforms import Size
from ovvol_bench.data.video_readers import BACKENDS, Decoder, Probe
from ovvol_bench.data.workers import Worker, WorkerError
from ovvol_bench.errors import DecodeError, SettingError
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
"""Endings of files that are taken for videos; the content says whether they are."""

_LOG = logging.getLogger(__name__)
_ADVICE = "Check that it plays, or encode it again."


def decoding_worker(timeout: float = 60.0) -> Worker:
    """A process that decodes. One is enough: two would both decode what lies between their clips.

    Args:
        timeout: seconds that one clip, or the probe of one file, may take.
    """
    return Worker(Decoder, timeout)


def probe_video(path: Path, backend: VideoBackend = "auto", worker: Worker | None = None) -> Probe:
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
        except WorkerError as error:
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

    def __init__(self, path: Path, probe: Probe, worker: Worker) -> None:
        self._path = path
        self._probe = probe
        self._worker = worker
        self.frame_count = probe.frame_count
        self.frame_size = probe.frame_size

    def images(self, indices: Sequence[int]) -> Image:
        """See ``FrameReader.images``; one array of all frames."""
        frames: Image = self._decoded("stored", indices)
        return frames

    def read_around(
        self, indices: Sequence[int], size: Size | None = None, scale_at_decode: bool = False
    ) -> tuple[Floats, dict[int, str]]:
        """See ``FrameReader.read_around``; decord and PyAV scale to the size themselves, OpenCV can't."""
        size = size or self.frame_size
        frames, errors = self._decoded("read_around", indices, size, size if scale_at_decode else None)
        return frames, {place: f"Video {self._path}: {error}. {_ADVICE}" for place, error in errors.items()}

    def _decoded(self, method: str, indices: Sequence[int], *sizes: Size | None) -> Any:
        try:
            return self._worker.call(method, self._probe, self._path, tuple(indices), *sizes)
        except WorkerError as error:
            raise DecodeError(
                f"Video {self._path}: frames {indices[0]} to {indices[-1]} can't be decoded "
                f"({self._probe.backend}: {error}). {_ADVICE}"
            ) from error


def open_reader(path: Path, backend: Backend = "auto", worker: Worker | None = None) -> FrameReader:
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
