"""Cuts of videos into clips: their frames, and the size that these are resized to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from ovvol_bench.data.transforms import Size, target_size
from ovvol_bench.errors import SettingError

Sampling = Literal["all", "reference"]

TOO_SHORT = "videos shorter than a clip"
PAST_THE_END = "frames after a video's last clip"


@dataclass(frozen=True)
class ClipStart:
    """Beginning of a clip in its video.

    Attributes:
        start: position of the first frame, counted in strides.
        context: leading frames that an earlier clip already covers.
        frames: that the clip has, where it is shorter than others; else None.
    """

    start: int
    context: int = 0
    frames: int | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ClipSettings:
    """Settings by which clips are cut and resized.

    Attributes:
        frames: T, frames in a clip.
        sampling: ``all`` covers every frame, ``reference`` drops the ends of videos.
        stride: every n-th frame is used.
        short_side: of resized frames, pixels.
        multiple: what both sides of resized frames are multiples of, pixels.
        scale_at_decode: let decoders scale where they can: quicker, but other pixels than the reference's.
        keep_short: make one shorter clip of a video that is shorter than a clip, instead of none.

    Raises:
        SettingError: if a number is below 1, the sampling unknown, or the sizes don't fit.
    """

    frames: int = 8
    sampling: Sampling = "all"
    stride: int = 1
    short_side: int = 224
    multiple: int = 16
    scale_at_decode: bool = False
    keep_short: bool = False

    def __post_init__(self) -> None:
        for name, value in (("frames_per_clip", self.frames), ("stride", self.stride)):
            if value < 1:
                raise SettingError(f"dataset.{name}={value}: expected a whole number from 1.")
        if self.sampling not in ("all", "reference"):
            raise SettingError(f"dataset.sampling='{self.sampling}': expected 'all' or 'reference'.")
        target_size((1, 1), self.short_side, self.multiple)

    def positions(self, clip: ClipStart) -> range:
        """(T,) positions of a clip's frames in its video."""
        frames = clip.frames or self.frames
        return range(clip.start * self.stride, (clip.start + frames) * self.stride, self.stride)

    def input_size(self, frame_size: Size) -> Size:
        """(height, width) that a frame of (height, width) is resized to."""
        return target_size(frame_size, self.short_side, self.multiple)


def clip_starts(length: int, frames: int, mode: Sampling = "all") -> tuple[ClipStart, ...]:
    """Cut a video into clips that follow each other.

    Args:
        length: frames in the video.
        frames: frames in a clip, T.
        mode: ``reference`` drops the end of a video: ``(length - 1) // frames`` clips. ``all`` covers every
            frame: a last clip is moved back to fit and its first ``context`` frames repeat the clip before.

    Returns:
        The clips in order; none if the video is shorter than a clip.

    >>> [clip.start for clip in clip_starts(17, 8, "reference")]
    [0, 8]
    >>> clip_starts(18, 8)[-1]
    ClipStart(start=10, context=6)
    """
    # the reference's condition is start + frames < length: a last clip that would fit exactly is dropped
    if mode == "reference":
        return tuple(ClipStart(start) for start in range(0, length - frames, frames))
    starts = [ClipStart(start) for start in range(0, length - frames + 1, frames)]
    covered = len(starts) * frames
    if starts and covered < length:
        starts.append(ClipStart(length - frames, context=covered - (length - frames)))
    return tuple(starts)


def plan_clips(
    lengths: Iterable[int], settings: ClipSettings
) -> tuple[tuple[tuple[int, ClipStart], ...], dict[str, int]]:
    """Cut videos of the given lengths, in frames before the stride, into clips.

    Returns:
        (video's position in the list, clip) in order; and reason to count of what no clip covers.
    """
    clips: list[tuple[int, ClipStart]] = []
    short = lost = 0
    for video, length in enumerate(lengths):
        positions = -(-length // settings.stride)
        if positions < settings.frames and settings.keep_short and positions:
            clips.append((video, ClipStart(0, frames=positions)))
            continue
        starts = clip_starts(positions, settings.frames, settings.sampling)
        clips.extend((video, start) for start in starts)
        short += positions < settings.frames
        if positions >= settings.frames:
            lost += positions - (starts[-1].start + settings.frames if starts else 0)
    counts = {TOO_SHORT: short, PAST_THE_END: lost}
    return tuple(clips), {reason: count for reason, count in counts.items() if count}
