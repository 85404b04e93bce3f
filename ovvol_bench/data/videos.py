"""Video files without truth: dataset ``videos``, and ``imagenet-vid`` as prepared for training."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ovvol_bench.benchmark import Dataset
from ovvol_bench.data.cache import load_columns, store_columns
from ovvol_bench.data.sampling import ClipSettings, plan_clips
from ovvol_bench.data.training import FileVideos, ProbedFile, content_of
from ovvol_bench.data.video import VideoBackend, VideoFile, decoding_worker, probe_video
from ovvol_bench.data.video_readers import Probe
from ovvol_bench.data.workers import Worker
from ovvol_bench.errors import DataError, DecodeError
from ovvol_bench.naming.vocabulary import Vocabulary
from ovvol_bench.progress import with_progress
from ovvol_bench.types import Clip, ClipInfo

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decoding:
    """How video files are read.

    Attributes:
        backend: tried first, see ``probe_video``.
        timeout: seconds that one clip, or the probe of one file, may take.
        cache: folder in which frame counts are kept.
    """

    cache: Path
    backend: VideoBackend = "auto"
    timeout: float = 60.0


class Videos(Dataset):
    """Clips of video files, in their order; ``truth`` is None.

    Args:
        files: by name, from ``video_lists``.
        vocabulary: names to look for.
        clips: how clips are cut and resized.
        decoding: how files are read.
        others: what was left out before, reason to count.

    Raises:
        DataError: if none can be decoded.
    """

    def __init__(
        self,
        files: Mapping[str, Path],
        vocabulary: Vocabulary,
        clips: ClipSettings,
        decoding: Decoding,
        others: Mapping[str, int] | None = None,
    ) -> None:
        self.vocabulary = vocabulary
        self._settings = clips
        self._worker = decoding_worker(decoding.timeout)
        probes, failures = _probe_files(files, decoding, self._worker)
        self._videos = [ProbedFile(name, files[name], probe) for name, probe in probes.items()]
        plan = plan_clips([probe.frame_count for probe in probes.values()], clips)
        self._clips = plan.clips
        self.skipped = {
            **(others or {}),
            **{f"unreadable video {name}": 1 for name in failures},
            **plan.skipped,
        }

    def __len__(self) -> int:
        return len(self._clips)

    def info(self, index: int) -> ClipInfo:
        """See ``Dataset.info``; a clip's id is ``VIDEO/FRAME`` with its first frame's position."""
        video, clip = self._clips[index]
        file = self._videos[video]
        positions = tuple(self._settings.positions(clip))
        return ClipInfo(
            id=f"{file.name}/{positions[0]:06d}",
            video=file.name,
            frame_indices=positions,
            frame_size=file.probe.frame_size,
            context=clip.context,
        )

    def input_size(self, frame_size: tuple[int, int]) -> tuple[int, int]:
        """See ``Dataset.input_size``: by ``short_side`` and ``multiple``."""
        return self._settings.input_size(frame_size)

    def clip(self, index: int) -> Clip:
        """See ``Dataset.clip``."""
        info = self.info(index)
        file = self._videos[self._clips[index][0]]
        reader, size = (
            VideoFile(file.path, file.probe, self._worker),
            self.input_size(info.frame_size),
        )
        return Clip(info, reader.read(info.frame_indices, size, self._settings.scale_at_decode))

    def fingerprint(self) -> str:
        """See ``Dataset.fingerprint``."""
        digest = hashlib.blake2b(repr(self._clips).encode(), digest_size=16)
        digest.update(content_of(self._videos).encode())
        return digest.hexdigest()

    def training_videos(self) -> FileVideos:
        """All videos that can be decoded, those shorter than a clip included."""
        return FileVideos(self._videos, self._worker)


def _probe_files(
    files: Mapping[str, Path], decoding: Decoding, worker: Worker
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
