"""Videos in files: dataset ``videos``, mp4s prepared for training, those of plugins; one open video."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt

from ovvol_bench.data.base import Dataset, TrainingVideos
from ovvol_bench.data.cache import cache_folder, load_columns, sample, store_columns
from ovvol_bench.data.helper_process import HelperProcess
from ovvol_bench.data.readers import FrameReader, read_clip
from ovvol_bench.data.sampling import ClipSettings, Sampling, plan_clips
from ovvol_bench.data.transforms import Size
from ovvol_bench.data.video import Probe, VideoBackend, VideoFile, decoding_worker, probe_video
from ovvol_bench.data.video_lists import find_video_files, other_files
from ovvol_bench.errors import DataError, DecodeError, SettingError
from ovvol_bench.naming.vocabulary import ForegroundClass, Vocabulary, load_vocabulary
from ovvol_bench.progress import with_progress
from ovvol_bench.registry import ClipLength, FromSize, Located
from ovvol_bench.types import Clip, ClipInfo, FrameTruth

TruthOfFrame = Callable[[str, int], FrameTruth]
"""Gives the objects of a frame, by the video's name and the frame's position in it."""

_LOG = logging.getLogger(__name__)
_BLOCK, _BLOCKS = 1 << 14, 8  # bytes, and how many beside the first go into a fingerprint


@dataclass(frozen=True)
class ProbedFile:
    """A readable video file.

    Attributes:
        name: unique in its dataset.
        path: of the file.
        probe: of its content.
    """

    name: str
    path: Path
    probe: Probe


def content_of(files: Sequence[ProbedFile]) -> str:
    """Hash names, frame counts, frame sizes, file sizes and samples of the content."""
    # the head is read besides: containers state there what is in them
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        size, probe = file.path.stat().st_size, file.probe
        digest.update(repr((file.name, size, probe.frame_count, probe.frame_size)).encode())
        with file.path.open("rb", 0) as content:
            digest.update(content.read(_BLOCK))
            digest.update(sample(content, _BLOCKS, _BLOCK))
    return digest.hexdigest()


class Videos(Dataset):
    """Clips of video files, in their order.

    A caller gives the files by name, the vocabulary, the truth of frames (None: there is none), what was left
    out before (reason to count) and the sampling of clips, see ``ClipSettings``.

    Args:
        frames_per_clip: frames in a clip.
        stride: every n-th frame is used.
        short_side: of resized frames, pixels.
        multiple: what both sides are multiples of, pixels.
        backend: tried first; others take over where it can't decode a file, or shows other frames than a
            player; auto: decord, pyav, opencv.
        timeout: seconds that one clip, or the probe of one file, may take to decode.
        scale_at_decode: let the decoder scale: quicker, but other pixels than the reference's.
        cache: folder for frame counts; none: the user's cache folder.

    Raises:
        DataError: if none can be decoded.
        SettingError: if a setting is out of its range.
    """

    def __init__(  # noqa: PLR0913 - settings
        self,
        files: Mapping[str, Path],
        vocabulary: Vocabulary,
        truth: TruthOfFrame | None = None,
        others: Mapping[str, int] | None = None,
        sampling: Sampling = "all",
        *,
        frames_per_clip: Annotated[int, ClipLength] = 8,
        stride: int = 1,
        short_side: Annotated[int, FromSize("short_side")] = 224,
        multiple: Annotated[int, FromSize("multiple")] = 16,
        backend: VideoBackend = "auto",
        timeout: float = 60.0,
        scale_at_decode: bool = False,
        cache: Annotated[str | None, Located] = None,
    ) -> None:
        if not timeout > 0:  # nor NaN
            raise SettingError(f"dataset.timeout={timeout}: expected seconds, more than 0.")
        clips = ClipSettings(frames_per_clip, sampling, stride, short_side, multiple, scale_at_decode)
        self.vocabulary = vocabulary
        self._settings = clips
        self._truth = truth
        self._worker = decoding_worker(timeout)
        probes: dict[str, Probe] = {}
        errors: dict[str, DecodeError] = {}
        for name in with_progress(files, len(files), "probing videos", lambda _: 1):
            try:
                probes[name] = _probe(files[name], cache_folder(cache), backend, self._worker)
            except DecodeError as error:
                errors[name] = error
                _LOG.warning("left out: %s", error)
        if not probes:
            raise DataError(f"None of {len(files)} videos can be read. {next(iter(errors.values()))}")
        self._videos = [ProbedFile(name, files[name], probe) for name, probe in probes.items()]
        self._clips, uncovered = plan_clips([probe.frame_count for probe in probes.values()], clips)
        self.skipped = {
            **(others or {}),
            **{f"unreadable video {name}": 1 for name in errors},
            **uncovered,
        }

    def __len__(self) -> int:
        return len(self._clips)

    def info(self, index: int) -> ClipInfo:
        """Describe a clip; its id is ``VIDEO/FRAME`` with its first frame's position."""
        video, clip = self._clips[index]
        file = self._videos[video]
        positions = tuple(self._settings.positions(clip))
        return ClipInfo(
            id=f"{file.name}/{positions[0]:06d}",
            video=file.name,
            frame_indices=positions,
            frame_size=file.probe.frame_size,
            truth=self._truth_of(file, positions),
            context=clip.context,
        )

    def input_size(self, frame_size: tuple[int, int]) -> tuple[int, int]:
        return self._settings.input_size(frame_size)

    def clip(self, index: int) -> Clip:
        info = self.info(index)
        file = self._videos[self._clips[index][0]]
        reader = VideoFile(file.path, file.probe, self._worker)
        size = self.input_size(info.frame_size)
        return read_clip(info, reader, info.frame_indices, size, self._settings.scale_at_decode)

    def fingerprint(self) -> str:
        digest = hashlib.blake2b(repr(self._clips).encode(), digest_size=16)
        digest.update(content_of(self._videos).encode())
        for file in self._videos if self._truth else ():
            for frame in self._truth_of(file, range(file.probe.frame_count)) or ():
                digest.update(repr((len(frame), frame.runs)).encode())
                for column in (
                    frame.boxes,
                    frame.class_ids,
                    frame.track_ids,
                    frame.occluded,
                    frame.generated,
                ):
                    digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()

    def _truth_of(self, file: ProbedFile, positions: Sequence[int]) -> tuple[FrameTruth, ...] | None:
        if self._truth is None:
            return None
        frames = tuple(self._truth(file.name, position) for position in positions)
        last = len(self.vocabulary.classes)
        for position, frame in zip(positions, frames, strict=True):
            if len(frame) and frame.class_ids.max() > last:
                raise DataError(
                    f"Truth of frame {position} of video '{file.name}' has class id {frame.class_ids.max()}; "
                    f"the vocabulary '{self.vocabulary.name}' ends at {last}."
                )
        return frames

    def training_videos(self) -> FileVideos:
        """All videos that can be decoded, those shorter than a clip included."""
        return FileVideos(self._videos, self._worker)


class FileVideos(TrainingVideos):
    """Video files to train on, decoded in a helper process that each reading process has of its own.

    A file that hangs or crashes the decoder is a ``DecodeError`` within the worker's time limit.

    Args:
        files: in order.
        worker: where to decode, from ``decoding_worker``.
    """

    def __init__(self, files: Sequence[ProbedFile], worker: HelperProcess) -> None:
        self._files = tuple(files)
        self._worker = worker

    def __len__(self) -> int:
        return len(self._files)

    def name(self, index: int) -> str:
        return self._files[index].name

    def length(self, index: int) -> int:
        return self._files[index].probe.frame_count

    def frames(self, index: int, positions: Sequence[int]) -> npt.NDArray[np.uint8]:
        file = self._files[index]
        return VideoFile(file.path, file.probe, self._worker).images(positions)

    def fingerprint(self) -> str:
        """Hash of names, frame counts, frame sizes and content."""
        return content_of(self._files)


class VideoFiles(Videos):
    """Video files without truth: localizations, overlays and training, no metrics.

    Args:
        path: a video file, or a folder of them.
        vocabulary: name of a built-in vocabulary, or path of a .yaml file.
    """

    def __init__(
        self, *, path: Annotated[Path, Located], vocabulary: str = "imagenet-vid", **base: Any
    ) -> None:
        words = load_vocabulary(vocabulary)
        super().__init__(find_video_files(path), words, others=other_files(path), **base)


def open_videos(
    path: Path,
    vocabulary: Vocabulary | Sequence[str],
    truth: TruthOfFrame | None = None,
    **settings: Any,
) -> Videos:
    """Open video files as a dataset, with truth of one's own or without.

    Args:
        path: a video file, or a folder of them.
        vocabulary: the classes, or their names in the order of class ids.
        truth: gives the objects of a frame, by the video's path below ``path`` and the frame's position in
            it from 0, see ``FrameTruth.of_boxes``; None: there is no truth.
        settings: those of dataset ``videos``: ``frames_per_clip``, ``stride``, ``short_side``, ``multiple``,
            ``backend``, ``timeout``, ``scale_at_decode`` and ``cache``, see `Videos`.

    Raises:
        DataError: if no video can be read.
        SettingError: if a setting is out of its range.
    """
    if not isinstance(vocabulary, Vocabulary):
        vocabulary = Vocabulary(path.name, tuple(map(ForegroundClass, vocabulary)))
    return Videos(find_video_files(path), vocabulary, truth, other_files(path), **settings)


def _probe(path: Path, cache: Path, backend: VideoBackend, worker: HelperProcess) -> Probe:
    """Probe a file, or take its probe from the cache."""
    # A probe decodes to the end of files that are cut off: it is kept until the file changes.
    stat = path.stat()
    source = repr((os.fspath(path.absolute()), stat.st_size, stat.st_mtime_ns, backend))
    key = f"video-{hashlib.blake2b(source.encode(), digest_size=16).hexdigest()}"
    if columns := load_columns(cache, key):
        height, width = columns["frame_size"].tolist()
        return Probe(str(columns["backend"]), int(columns["frame_count"]), (height, width))
    probe = probe_video(path, backend, worker)
    store_columns(cache, key, {name: np.array(value) for name, value in asdict(probe).items()})
    return probe


class OneVideo(Dataset):
    """Clips of one video, without truth, which cover every frame that the stride meets.

    Args:
        name: of the video.
        reader: of its frames.
        vocabulary: names to look for.
        clips: how clips are cut and resized.
    """

    def __init__(self, name: str, reader: FrameReader, vocabulary: Vocabulary, clips: ClipSettings) -> None:
        self.name = name
        self.reader = reader
        self.vocabulary = vocabulary
        self.skipped: dict[str, int] = {}
        self.clips = clips
        self._starts, _ = plan_clips([reader.frame_count], clips)

    def __len__(self) -> int:
        return max(1, len(self._starts))

    def info(self, index: int) -> ClipInfo:
        if self._starts:
            _, clip = self._starts[index]
            positions, context = tuple(self.clips.positions(clip)), clip.context
        else:  # too short for a clip: its first frame is repeated in front, and reported once
            own = range(0, self.reader.frame_count, self.clips.stride)
            context = self.clips.frames - len(own)
            positions = (0,) * context + tuple(own)
        return ClipInfo(
            id=f"{self.name}/{positions[context]:06d}",
            video=self.name,
            frame_indices=positions,
            frame_size=self.reader.frame_size,
            context=context,
        )

    def input_size(self, frame_size: Size) -> Size:
        return self.clips.input_size(frame_size)

    def clip(self, index: int) -> Clip:
        info = self.info(index)
        size = self.input_size(info.frame_size)
        return Clip(info, self.reader.read(info.frame_indices, size, self.clips.scale_at_decode))

    def fingerprint(self) -> str:
        """Hash of name, length, size and cut: runs on it are not kept."""
        told = (self.name, self.reader.frame_count, self.reader.frame_size, self._starts)
        return hashlib.sha256(repr(told).encode(errors="surrogateescape")).hexdigest()
