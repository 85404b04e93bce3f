"""Video files through PyAV: what a player shows, for every codec that FFmpeg has.

The other readers are compared with this one, see ``video_readers.Decoder.probe``: wheels of decord hold an
FFmpeg of 2018, and neither decord nor OpenCV minds mirrored display matrices.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from ovvol_bench.data.transforms import Size
from ovvol_bench.errors import DecodeError
from ovvol_bench.files import is_utf8, require_file

Image = npt.NDArray[np.uint8]

_SNIFFED = 1024  # bytes
_HEAD = 8  # frames decoded to see whether the packets' times are those of frames
_THREADS = min(4, os.cpu_count() or 1)


def require_video(path: Path) -> Path:
    """The same path, if it may be opened as a video.

    A text is none, whatever its name: FFmpeg would read playlists and scripts, and open the files they name.

    Raises:
        DecodeError: if it is no regular file, empty, or a text.
    """
    try:
        with require_file(path).open("rb") as file:
            start = file.read(_SNIFFED)
    except (OSError, ValueError) as error:
        raise DecodeError(f"it can't be read: {error}") from error
    if not start:
        raise DecodeError("the file is empty")
    if not any(byte < 9 or 13 < byte < 32 for byte in start):
        raise DecodeError(f"the file is a text that begins with {start[:20].decode(errors='replace')!r}")
    return path


class ShownFrames:
    """Frames of a video file by their position, rotated and mirrored as the file says.

    Where packets have the times of frames, which head and tail of the file tell, a frame is found by its time
    from the key frame before it; otherwise all frames are decoded once to see their times.

    Args:
        path: of the video.
        count: frames that are known to decode, from an earlier ``len``; None: not known yet.

    Attributes:
        frame_size: (height, width) of the frames, pixels.

    Raises:
        DecodeError: if there is no video in the file, or no frame of it decodes.
    """

    _stream: av.VideoStream
    _next: int
    _frames: Iterator[av.VideoFrame]

    def __init__(self, path: Path, count: int | None = None) -> None:
        self._path = require_video(path)
        self._timed, self._damaged = True, 0
        self._restart()
        self._times, self._keys = self._packet_times()
        if len(self._times) != count and not self._times_are_right():
            self._restart()
            frames = [(frame.pts, frame.key_frame) for frame in self._decoded()]
            self._times = [time for time, _ in frames]
            self._keys = [0, *(place for place, (_, is_key) in enumerate(frames) if is_key)]
            self._timed = None not in self._times and all(a < b for a, b in pairwise(self._times))
            if not self._timed:  # then frames can only be counted from the start
                self._keys = [0]
        self._restart()
        first = next(self._frames, None)
        if first is None:
            raise DecodeError("no frame decodes")
        self._turn = _display_matrix(first)
        self.frame_size = _turned_size((first.height, first.width), self._turn)
        self._restart()

    def __len__(self) -> int:
        return len(self._times)

    def image(self, index: int, size: Size | None = None) -> Image:
        """Decode a frame.

        Args:
            index: in [0, len).
            size: (height, width) that FFmpeg scales to; None: as stored.

        Returns:
            (H, W, 3) uint8 RGB.

        Raises:
            DecodeError: if it can't be decoded.
        """
        if not 0 <= index < len(self._times):
            raise DecodeError(f"frame {index} can't be decoded: there are {len(self._times)}")
        frame = self._found(index)
        if size is not None:
            size = _turned_size(size, self._turn)
        return _turned(_rgb(frame, size), self._turn)

    def _found(self, index: int) -> av.VideoFrame:
        key = self._keys[bisect_right(self._keys, index) - 1]
        if index < self._next or self._next < key:
            self._restart(key)
        for frame in self._frames:
            if self._timed and frame.pts is not None:  # frames before it may be missing, too
                self._next = bisect_left(self._times, frame.pts)
            self._next += 1
            if self._next > index:
                if not self._timed or frame.pts == self._times[index]:
                    return frame
                break
        raise DecodeError(f"frame {index} can't be decoded")

    def _restart(self, key: int = 0) -> None:
        """Decode from the key frame at a position on; from the start where that can't be sought."""
        if key:
            with suppress(av.error.FFmpegError):
                self._container.seek(self._times[key], stream=self._stream)
                frames = self._decoded()
                first = next(frames, None)
                if first is not None and first.pts == self._times[key]:
                    self._next, self._frames = key, chain([first], frames)
                    return
        try:
            # a name that is no UTF-8 can't be given to FFmpeg
            self._container: Any = av.open(
                os.fspath(self._path.absolute()) if is_utf8(self._path) else self._path.open("rb")
            )
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise DecodeError(f"FFmpeg can't open it: {error}") from error
        streams = [s for s in self._container.streams.video if not s.disposition & _COVER]
        if not streams:
            raise DecodeError("the file has no video stream")
        self._stream = streams[0]
        self._stream.thread_type, self._stream.codec_context.thread_count = "AUTO", _THREADS
        self._next = 0
        self._frames = self._decoded()

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """Frames from where the file stands; damaged packets are passed over, as players do."""
        try:
            for packet in self._container.demux(self._stream):
                try:
                    yield from packet.decode()
                except av.error.FFmpegError:
                    self._damaged += 1
        except av.error.FFmpegError:  # the file ends within a packet
            return

    def _packet_times(self) -> tuple[list[Any], list[int]]:
        """Times of all packets that are shown, in the order of showing, and which are key frames."""
        packets = []
        try:
            for packet in self._container.demux(self._stream):
                if packet.size and not packet.is_discard:
                    time = packet.dts if packet.pts is None else packet.pts
                    if time is None:
                        return [], [0]
                    packets.append((time, packet.is_keyframe))
        except av.error.FFmpegError:
            pass
        packets.sort()
        keys = [place for place, (_, is_key) in enumerate(packets) if is_key]
        return [time for time, _ in packets], [0, *keys]

    def _times_are_right(self) -> bool:
        """Compare times of the first frames, and of all from the last key frame on, with their packets'.

        Damaged packets may have no frame; those after the last frame are dropped.
        """
        if not self._times or len(set(self._times)) < len(self._times):
            return False
        self._restart()
        head = [frame.pts for frame, _ in zip(self._frames, range(_HEAD), strict=False)]
        self._restart(self._keys[-1])
        if self._next != self._keys[-1]:
            return False
        tail = [frame.pts for frame in self._frames]
        if not self._damaged:
            return head == self._times[: len(head)] and tail == self._times[self._keys[-1] :]
        if not set(self._times) >= {*head, *tail}:
            return False
        del self._times[bisect_right(self._times, tail[-1]) :]
        return True


_COVER = av.stream.Disposition.attached_pic


def _display_matrix(frame: av.VideoFrame) -> npt.NDArray[np.int64] | None:
    """(2, 2) the quarter turn and mirroring in a frame's display matrix; None: it is shown as stored.

    The matrix is that of ISO/IEC 14496-12, 8.5.2: x' = a x + c y, y' = b x + d y.
    """
    sides: Any = frame.side_data
    found = [side for side in sides if side.type.name == "DISPLAYMATRIX"]
    if not found:
        return None
    matrix = np.sign(np.round(np.frombuffer(bytes(found[0]), np.int32).reshape(3, 3)[:2, :2] / 65536))
    is_turn = bool((np.abs(matrix).sum(axis=0) == 1).all() and (np.abs(matrix).sum(axis=1) == 1).all())
    return matrix.astype(np.int64) if is_turn and not np.array_equal(matrix, np.eye(2)) else None


def _turned(pixels: Image, matrix: npt.NDArray[np.int64] | None) -> Image:
    if matrix is None:
        return pixels
    if matrix[0, 0] == 0:
        pixels = pixels.transpose(1, 0, 2)
    columns, rows = matrix.sum(axis=0).tolist()
    return np.ascontiguousarray(pixels[::rows, ::columns])


def _turned_size(size: Size, matrix: npt.NDArray[np.int64] | None) -> Size:
    """(height, width) of frames of a size after ``_turned``, or before."""
    return size if matrix is None or matrix[0, 0] else (size[1], size[0])


def _rgb(frame: av.VideoFrame, size: Size | None) -> Image:
    height, width = size or (frame.height, frame.width)
    if not frame.interlaced_frame:
        return np.asarray(frame.to_ndarray(width=width, height=height, format="rgb24"), np.uint8)
    # Without a filter the colour of the two fields is kept apart, which ffmpeg itself and players don't do.
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    scale, target = graph.add("scale", f"{width}:{height}:interl=0"), graph.add("format", "rgb24")
    graph.link_nodes(source, scale, target, graph.add("buffersink")).configure()
    graph.push(frame)
    scaled: Any = graph.pull()
    return np.asarray(scaled.to_ndarray(), np.uint8)
