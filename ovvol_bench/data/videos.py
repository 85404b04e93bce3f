"""Dataset ``videos``: any folder of video files, or a single one, without truth."""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ovvol_bench.benchmark import Dataset
from ovvol_bench.data.cache import load_columns, store_columns
from ovvol_bench.data.progress import with_progress
from ovvol_bench.data.readers import Probe
from ovvol_bench.data.sampling import ClipSettings, plan_clips
from ovvol_bench.data.video import VIDEO_SUFFIXES, VideoBackend, VideoFile, decoding_worker, probe_video
from ovvol_bench.data.workers import Worker
from ovvol_bench.errors import DataError, DecodeError
from ovvol_bench.naming.vocabulary import Vocabulary
from ovvol_bench.types import Clip, ClipInfo

_LOG = logging.getLogger(__name__)
_ENDS = 1 << 16  # bytes at both ends of a file that go into the fingerprint


@dataclass(frozen=True)
class Decoding:
    """How video files are read.

    Attributes:
        backend: ``auto`` tries decord, then OpenCV.
        timeout: seconds that one clip, or the probe of one file, may take.
        scale_at_decode: let decord scale: quicker, but other pixels than the reference's.
        cache: folder in which frame counts are kept.
    """

    cache: Path
    backend: VideoBackend = "auto"
    timeout: float = 60.0
    scale_at_decode: bool = False


class Videos(Dataset):
    """Clips of video files, in the order of their names; ``truth`` is None.

    Args:
        path: a video file, or a folder that is searched with all its subfolders.
        vocabulary: names to look for.
        clips: how clips are cut and resized.
        decoding: how files are read.

    Raises:
        DataError: if there is no video file, or none can be decoded.
    """

    def __init__(self, path: Path, vocabulary: Vocabulary, clips: ClipSettings, decoding: Decoding) -> None:
        self.vocabulary = vocabulary
        self._settings = clips
        self._decoding = decoding
        self._worker = decoding_worker(decoding.timeout)
        files = _find_files(path)
        probes, failures = _probe_files(files, decoding, self._worker)
        self._videos = [(name, files[name], probe) for name, probe in probes.items()]
        plan = plan_clips([probe.frame_count for probe in probes.values()], clips)
        self._clips = plan.clips
        self.skipped = {**{f"unreadable video {name}": 1 for name in failures}, **plan.skipped}

    def __len__(self) -> int:
        return len(self._clips)

    def info(self, index: int) -> ClipInfo:
        """See ``Dataset.info``; a clip's id is ``VIDEO/FRAME`` with its first frame's position."""
        video, clip = self._clips[index]
        name, _, probe = self._videos[video]
        positions = tuple(self._settings.positions(clip))
        return ClipInfo(f"{name}/{positions[0]:06d}", name, positions, probe.frame_size, context=clip.context)

    def clip(self, index: int) -> Clip:
        """See ``Dataset.clip``."""
        info = self.info(index)
        _, path, probe = self._videos[self._clips[index][0]]
        reader = VideoFile(path, probe, self._worker, self._decoding.scale_at_decode)
        return Clip(info, reader.read(info.frame_indices, self._settings.input_size(info.frame_size)))

    def fingerprint(self) -> str:
        """See ``Dataset.fingerprint``: of names, sizes, frame counts and both ends of the files."""
        digest = hashlib.blake2b(repr(self._clips).encode(), digest_size=16)
        for name, path, probe in self._videos:
            digest.update(repr((name, path.stat().st_size, probe.frame_count, probe.frame_size)).encode())
            with path.open("rb") as file:
                digest.update(file.read(_ENDS))
                file.seek(max(path.stat().st_size - _ENDS, 0))
                digest.update(file.read(_ENDS))
        return digest.hexdigest()


def _find_files(path: Path) -> dict[str, Path]:
    """Video files by their name below ``path``, sorted."""
    if not path.exists():
        raise DataError(f"{path} does not exist: set dataset.path to a video file or a folder of them.")
    if path.is_file():
        return {path.name: path}
    found = sorted(
        file for file in path.rglob("*") if file.suffix.lower() in VIDEO_SUFFIXES and file.is_file()
    )
    if not found:
        raise DataError(
            f"{path} holds no video files: expected {', '.join(sorted(VIDEO_SUFFIXES))}. "
            "For a folder of frames use dataset imagenet-vid."
        )
    return {file.relative_to(path).as_posix(): file for file in found}


def _probe_files(
    files: dict[str, Path], decoding: Decoding, worker: Worker
) -> tuple[dict[str, Probe], list[str]]:
    """Probes by name, and the names of what can't be decoded."""
    probes: dict[str, Probe] = {}
    errors: dict[str, DecodeError] = {}
    for name in with_progress(files, len(files), "probing videos", lambda _: 1):
        try:
            probes[name] = _probe(files[name], decoding, worker)
        except DecodeError as error:
            errors[name] = error
            _LOG.warning("left out: %s", error)
    if not probes:
        raise DataError(f"None of {len(files)} videos can be read. {next(iter(errors.values()))}")
    return probes, list(errors)


def _probe(path: Path, decoding: Decoding, worker: Worker) -> Probe:
    """A probe from the cache, kept until the file changes."""
    stat = path.stat()
    source = repr((os.fspath(path.absolute()), stat.st_size, stat.st_mtime_ns, decoding.backend))
    key = f"video-{hashlib.blake2b(source.encode(), digest_size=16).hexdigest()}"
    if columns := load_columns(decoding.cache, key):
        height, width = columns["frame_size"].tolist()
        return Probe(str(columns["backend"]), int(columns["frame_count"]), (height, width))
    probe = probe_video(path, decoding.backend, worker)
    store_columns(decoding.cache, key, {name: np.array(value) for name, value in asdict(probe).items()})
    return probe
