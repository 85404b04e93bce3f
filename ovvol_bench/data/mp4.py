"""mp4 files to train on: H.264 with dense key frames, written and counted through PyAV (FFmpeg)."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import av

from ovvol_bench.data.readers import Image
from ovvol_bench.data.transforms import Size
from ovvol_bench.errors import DecodeError, SettingError

# x264's own preset, as in the published program, but without frames that refer to later ones: with them
# x264 reads memory that it has not set, and the same frames give another file each time.
_X264 = {"preset": "medium", "bf": "0"}


@dataclass(frozen=True)
class Encoding:
    """How frames become an mp4; the defaults are those of the paper's published program.

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
        """What an mp4 says of how it was made, so that one of other settings is recognized."""
        return "ovvol-bench " + " ".join(f"{name}={value}" for name, value in asdict(self).items())


def encode_mp4(frames: Iterable[Image], size: Size, encoding: Encoding, note: str = "") -> bytes:
    """Scale frames (bicubic, as FFmpeg's scale filter does) and encode them, on one thread.

    Args:
        frames: (H, W, 3) uint8 RGB each, at least one.
        size: (height, width) of the result, pixels.
        encoding: quality, key frames and rate.
        note: goes behind ``encoding.comment`` in the file.

    Returns:
        A whole mp4 file: H.264, yuv420p, the same for the same frames. In memory, so that what fails on
        disk is one write.
    """
    height, width = size
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        container.metadata["comment"] = encoding.comment + note
        stream = container.add_stream("libx264", rate=encoding.fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": str(encoding.crf), "g": str(encoding.gop), **_X264}
        stream.codec_context.thread_count = 1
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(frame.reformat(width, height, "yuv420p", interpolation="BICUBIC")))
        container.mux(stream.encode(None))
    return file.getvalue()


def count_decoded(file: bytes) -> int:
    """Frames that decode from an mp4 in memory."""
    with av.open(io.BytesIO(file), "r") as container:
        return len([None for _ in container.decode(video=0)])


@dataclass(frozen=True)
class StoredVideo:
    """What an mp4 holds.

    Attributes:
        frame_count: frames whose data is there.
        size: (height, width), pixels.
        comment: as in the file; of prepared ones ``Encoding.comment``.
    """

    frame_count: int
    size: Size
    comment: str


def read_mp4(path: Path) -> StoredVideo:
    """Go through a video file without decoding it.

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
    return StoredVideo(packets, size, comment)
