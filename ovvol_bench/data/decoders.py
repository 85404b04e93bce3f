"""Decoders of video files: decord, PyAV and OpenCV, one class each; ``readers`` decodes images.

They run in the calling process and may hang or crash it: open a file with ``video``, which keeps them in a
process of their own. decord is the quickest. PyAV shows what a player shows, for every codec that FFmpeg has,
so the others are compared with it: wheels of decord hold an FFmpeg of 2018, and neither decord nor OpenCV
minds mirrored display matrices.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt

from ovvol_bench.data.helper_process import error_line
from ovvol_bench.data.readers import FrameReader, Image
from ovvol_bench.data.transforms import Size
from ovvol_bench.errors import DataError, DecodeError
from ovvol_bench.files import is_utf8, require_file

_SNIFFED = 1024  # bytes
_HEAD = 8  # frames decoded to see whether the packets' times are those of frames
_THREADS = min(4, os.cpu_count() or 1)
_COVER = av.stream.Disposition.attached_pic


def require_video(path: Path) -> Path:
    """Return the same path, if it may be opened as a video.

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
    # A text is no video: FFmpeg would read playlists and scripts, and open the files that they name.
    if not any(byte < 9 or 13 < byte < 32 for byte in start):
        raise DecodeError(f"the file is a text that begins with {start[:20].decode(errors='replace')!r}")
    return path


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

        def decoded() -> Iterator[Image]:
            for index in indices:
                try:
                    yield self.image(index)
                except DecodeError:
                    raise
                except Exception as error:  # decord raises its own errors and built-in ones alike
                    raise DecodeError(f"frame {index} can't be decoded ({error_line(error)})") from error

        images = decoded()
        with ThreadPoolExecutor(1) as thread:
            following = thread.submit(next, images, None)
            try:
                while (image := following.result()) is not None:
                    following = thread.submit(next, images, None)
                    yield image
            finally:
                # its error would hold this frame, and that the decoder's, until they are collected
                del following


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
        # files that are cut off state more frames than decode: seek the first that fails
        if not self._fails(self.frame_count - 1):
            return self.frame_count
        return bisect_left(range(self.frame_count), True, key=self._fails)

    def image(self, index: int) -> Image:
        pixels: Image = self._video[index].asnumpy()
        return pixels

    def _fails(self, index: int) -> bool:
        try:
            self._video[index]
        except Exception:
            return True
        return False


class OpenCVReader(VideoReader):
    """Frames as OpenCV decodes them, see ``VideoReader``; it can't scale while decoding."""

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
        # Frames are counted from the start, never sought: seeking goes by time stamps and can land on a
        # neighbour. Reading on is quick, reading back starts over.
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
    if not is_utf8(path):  # OpenCV would kill the process
        raise DecodeError("the path is no UTF-8")
    return path


class PyAVReader(VideoReader):
    """Frames as a player shows them, rotated and mirrored as the file says, see ``VideoReader``.

    Where packets have the times of frames, which head and tail of the file tell, a frame is found by its time
    from the key frame before it; otherwise all frames are decoded once to see their times.

    Raises:
        DecodeError: if there is no video in the file, or no frame of it decodes.
    """

    _stream: av.VideoStream
    _next: int
    _frames: Iterator[av.VideoFrame]

    def __init__(self, path: Path, decode_size: Size | None = None, count: int | None = None) -> None:
        self._path = require_video(path)
        self._timed, self._damaged = True, 0
        self._restart()
        self._times, self._keys = self._packet_times()
        # A count of an earlier look means that these times were right then.
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
        self._restart()
        self._turn = _display_matrix(first)
        self._scaled = decode_size and self._turned_size(decode_size)
        self.frame_count = len(self._times)
        self.frame_size = decode_size or self._turned_size((first.height, first.width))

    def count(self) -> int:
        return self.frame_count

    def image(self, index: int) -> Image:
        if not 0 <= index < self.frame_count:
            raise DecodeError(f"frame {index} can't be decoded: there are {self.frame_count}")
        pixels = _rgb(self._found(index), self._scaled)
        if self._turn is None:
            return pixels
        if self._turn[0, 0] == 0:  # a quarter turn
            pixels = pixels.transpose(1, 0, 2)
        columns, rows = self._turn.sum(axis=0).tolist()
        return np.ascontiguousarray(pixels[::rows, ::columns])

    def _turned_size(self, size: Size) -> Size:
        return size if self._turn is None or self._turn[0, 0] else (size[1], size[0])

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
        with suppress(av.error.FFmpegError):  # the file ends within a packet
            for packet in self._container.demux(self._stream):
                try:
                    yield from packet.decode()
                except av.error.FFmpegError:
                    self._damaged += 1

    def _packet_times(self) -> tuple[list[Any], list[int]]:
        """Times of all packets that are shown, in the order of showing, and which are key frames."""
        # Packets are read, not decoded: a file may be hours long.
        packets = []
        with suppress(av.error.FFmpegError):
            for packet in self._container.demux(self._stream):
                if packet.size and not packet.is_discard:
                    time = packet.dts if packet.pts is None else packet.pts
                    if time is None:
                        return [], [0]
                    packets.append((time, packet.is_keyframe))
        packets.sort()
        keys = [place for place, (_, is_key) in enumerate(packets) if is_key]
        return [time for time, _ in packets], [0, *keys]

    def _times_are_right(self) -> bool:
        """Compare times of the first frames, and of all from the last key frame on, with their packets'."""
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
        # Damaged packets may have no frame; those after the last frame are dropped.
        if not set(self._times) >= {*head, *tail}:
            return False
        del self._times[bisect_right(self._times, tail[-1]) :]
        return True


def _display_matrix(frame: av.VideoFrame) -> npt.NDArray[np.int64] | None:
    """(2, 2) the quarter turn and mirroring in a frame's display matrix; None: it is shown as stored."""
    sides: Any = frame.side_data
    found = [side for side in sides if side.type.name == "DISPLAYMATRIX"]
    if not found:
        return None
    # ISO/IEC 14496-12, 8.5.2: x' = a x + c y, y' = b x + d y, in 16.16 fixed point
    matrix = np.sign(np.round(np.frombuffer(bytes(found[0]), np.int32).reshape(3, 3)[:2, :2] / 65536))
    is_turn = bool((np.abs(matrix).sum(axis=0) == 1).all() and (np.abs(matrix).sum(axis=1) == 1).all())
    return matrix.astype(np.int64) if is_turn and not np.array_equal(matrix, np.eye(2)) else None


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


BACKENDS: dict[str, type[VideoReader]] = {
    "decord": DecordReader,
    "pyav": PyAVReader,
    "opencv": OpenCVReader,
}
"""Decoders by name, in the order in which ``auto`` tries them."""
