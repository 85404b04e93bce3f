"""The contract of datasets; the first line of a check's docstring is the promise that users read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ovvol_bench.data.base import Dataset
from ovvol_bench.errors import SettingError
from ovvol_bench.testing.findings import NotCheckedError, Report, expect, run_checks
from ovvol_bench.types import ClipInfo, FrameTruth

MOST_CLIPS = 6


def check_dataset(dataset: Dataset, name: str = "dataset") -> Report:
    """Hold a dataset to its contract, on all its clips without pixels and a few with.

    Args:
        dataset: as the harness would use it.
        name: how findings call it.
    """
    own = DatasetContract(dataset)
    checks = (
        own.has_clips, own.clips_are_distinct, own.gives_frames, own.same_again, own.info_agrees,
        own.gives_truth, own.has_fingerprint, own.numbers_for_files, own.gives_training_videos,
    )  # fmt: skip
    return run_checks(f"dataset '{name}'", checks)


class DatasetContract:
    """Promises of a dataset.

    Args:
        dataset: as the harness would use it.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    @property
    def some(self) -> list[int]:
        """A few clips, the first and the last among them."""
        count = len(self.dataset)
        return sorted({int(place) for place in np.linspace(0, count - 1, min(count, MOST_CLIPS))})

    def gives_training_videos(self) -> None:
        """Gives videos to train on: names of their own, frames as bytes at any positions."""
        try:
            videos = self.dataset.training_videos()
        except SettingError as error:
            raise NotCheckedError("it offers no videos to train on") from error
        expect(len(videos) > 0, "training_videos() has none; expected at least one")
        names = [videos.name(index) for index in range(len(videos))]
        expect(len(set(names)) == len(names), f"{len(names)} training videos have {len(set(names))} names")
        expect(videos.fingerprint() == videos.fingerprint(), "training_videos() has no stable fingerprint")
        for index in sorted({0, len(videos) - 1}):
            length = videos.length(index)
            expect(length >= 1, f"training video '{names[index]}' has {length} frames; expected at least 1")
            positions = sorted({0, length // 2, length - 1})
            frames = videos.frames(index, positions)
            expect(
                frames.dtype == np.uint8 and frames.ndim == 4 and frames.shape[::3] == (len(positions), 3),
                f"training video '{names[index]}': frames {frames.shape} of {frames.dtype}; expected "
                f"({len(positions)}, H, W, 3) of uint8",
            )
            last = videos.frames(index, positions[-1:])
            expect(
                np.array_equal(last[0], frames[-1]),
                f"training video '{names[index]}': frame {positions[-1]} differs with those read beside it",
            )

    def has_clips(self) -> None:
        """Has clips, a vocabulary, and says what it left out."""
        dataset = self.dataset
        expect(len(dataset) > 0, "it has no clips; expected at least one")
        expect(bool(dataset.vocabulary.classes), "its vocabulary has no classes; expected at least one")
        wrong = {reason: count for reason, count in dataset.skipped.items() if count < 0}
        expect(not wrong, f"skipped is {wrong}; expected counts by reason")

    def clips_are_distinct(self) -> None:
        """Gives every clip an id of its own, and no frame twice."""
        infos = [self.dataset.info(index) for index in range(len(self.dataset))]
        ids = [info.id for info in infos]
        expect(
            len(set(ids)) == len(ids),
            f"{len(ids)} clips have {len(set(ids))} different ids; expected as many",
        )
        frames = [(info.video, index) for info in infos for index in info.frame_indices[info.context :]]
        expect(
            len(set(frames)) == len(frames),
            f"{len(frames) - len(set(frames))} frames are in several clips; expected each in one. "
            "ClipInfo.context marks those that a clip repeats",
        )

    def gives_frames(self) -> None:
        """Gives frames as float32 RGB in [0, 1], one for each index."""
        for clip in map(self.dataset.clip, self.some):
            frames, count, where = clip.frames, len(clip.info.frame_indices), f"clip '{clip.info.id}'"
            expect(
                frames.ndim == 4 and frames.shape[::3] == (count, 3),
                f"{where}: frames of shape {frames.shape}; expected ({count}, H, W, 3)",
            )
            expect(frames.dtype == np.float32, f"{where}: frames of {frames.dtype}; expected float32")
            low, high = float(frames.min()), float(frames.max())
            expect(0 <= low <= high <= 1, f"{where}: values from {low:.3g} to {high:.3g}; expected 0 to 1")

    def same_again(self) -> None:
        """Gives the same clip when asked again, and another one to change."""
        first = self.dataset.clip(self.some[0])
        before = first.frames.copy()
        if first.frames.flags.writeable:
            first.frames[:] = 0
        again = self.dataset.clip(self.some[0])
        expect(
            np.array_equal(again.frames, before),
            f"clip '{again.info.id}': other pixels the second time; expected equal",
        )

    def info_agrees(self) -> None:
        """Says of a clip without pixels what it says with them."""
        for place in self.some:
            with_pixels, without = self.dataset.clip(place).info, self.dataset.info(place)
            same = replace(with_pixels, truth=None) == replace(without, truth=None)
            expect(
                same, f"clip(i).info is {with_pixels.id}, info(i) {without.id}; expected the same identity"
            )
            lengths = [None if each.truth is None else len(each.truth) for each in (with_pixels, without)]
            expect(
                lengths[0] == lengths[1], f"clip '{without.id}': truth of {lengths} frames; expected the same"
            )

    def gives_truth(self) -> None:
        """Gives boxes inside the frame, classes of its vocabulary, and tracks that are one object each."""
        infos = [self.dataset.info(place) for place in self.some]
        if all(info.truth is None for info in infos):
            raise NotCheckedError("it has no truth")
        for info in infos:
            expect(
                info.truth is not None and len(info.truth) == len(info.frame_indices),
                f"clip '{info.id}': expected truth of all {len(info.frame_indices)} frames",
            )
            for truth in info.truth or ():
                _expect_sound(info, truth, len(self.dataset.vocabulary.classes))

    def has_fingerprint(self) -> None:
        """Has a fingerprint that doesn't change."""
        one, other = self.dataset.fingerprint(), self.dataset.fingerprint()
        expect(bool(one) and one == other, f"fingerprints {one!r} and {other!r}; expected the same text")

    def numbers_for_files(self) -> None:
        """Numbers its videos, frames and classes for result files."""
        ids = self.dataset.file_ids()
        infos = [self.dataset.info(place) for place in self.some]
        videos, frames = set(ids.videos.values()), set(ids.frames.values())
        for info in infos:
            expect(info.video in videos, f"file_ids() has no number for video '{info.video}'")
            missing = [index for index in info.frame_indices if (info.video, index) not in frames]
            expect(not missing, f"file_ids() has no number for frame {missing[:1]} of video '{info.video}'")
        classes = set(range(1, len(self.dataset.vocabulary.classes) + 1))
        expect(set(ids.classes.values()) <= classes, "file_ids() numbers classes outside the vocabulary")


def _expect_sound(info: ClipInfo, truth: FrameTruth, classes: int) -> None:
    height, width = info.frame_size
    boxes, where = truth.boxes, f"clip '{info.id}'"
    expect(boxes.shape == (len(truth), 4), f"{where}: boxes of shape {boxes.shape}; expected (M, 4)")
    inside = np.isfinite(boxes).all() and (boxes[:, :2] >= 0).all() and (boxes[:, 2:] < [width, height]).all()
    expect(
        bool(inside), f"{where}: boxes leave the frame of {height} x {width}; expected ends inside, inclusive"
    )
    expect(bool((boxes[:, 2:] >= boxes[:, :2]).all()), f"{where}: inverted boxes; expected x1, y1, x2, y2")
    ids = truth.class_ids
    expect(
        bool(((ids >= 1) & (ids <= classes)).all()),
        f"{where}: classes {ids.tolist()}; expected 1 to {classes}",
    )
    known = truth.track_ids[truth.track_ids >= 0]
    expect(len(set(known.tolist())) == len(known), f"{where}: a track twice in a frame; expected once")
    pixels = truth.pixels
    if pixels is not None:
        expected = (len(truth), height, width)
        expect(pixels.shape == expected, f"{where}: masks of shape {pixels.shape}; expected {expected}")
