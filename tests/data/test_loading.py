from __future__ import annotations

import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from ovvol_bench.data.base import Dataset
from ovvol_bench.data.imagenet_vid.prepare import Encoding, encode_mp4
from ovvol_bench.data.loading import prefetch
from ovvol_bench.data.readers import FrameFolder, read_image
from ovvol_bench.data.videos import VideoFiles
from ovvol_bench.errors import DecodeError, PluginError
from ovvol_bench.types import Clip, ClipInfo


class Counting(Dataset):
    """Clip i is slow for even i, unreadable for i = 3, and a bug for i = 13."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __len__(self) -> int:
        return 100

    def info(self, index: int) -> ClipInfo:
        return ClipInfo(f"clip{index}", "video", (index,), (4, 4))

    def clip(self, index: int) -> Clip:
        self.asked.append(index)
        if index == 3:
            raise DecodeError("unreadable")
        if index == 13:
            raise ZeroDivisionError
        time.sleep(0.002 * (index % 2 == 0))
        return Clip(self.info(index), np.zeros((1, 4, 4, 3), np.float32))

    def fingerprint(self) -> str:
        return ""


class FolderClips(Counting):
    """Clips of eight frames of a folder."""

    def __init__(self, files: list[Path]) -> None:
        self.reader = FrameFolder(files)

    def __len__(self) -> int:
        return self.reader.frame_count // 8

    def clip(self, index: int) -> Clip:
        return Clip(self.info(index), self.reader.read(range(8 * index, 8 * index + 8), (32, 48)))


class Busy(Counting):
    """Clips 0 and 1 keep the processor busy, the others only take time."""

    def clip(self, index: int) -> Clip:
        end = time.thread_time() + 0.03
        while index < 2 and time.thread_time() < end:
            pass
        time.sleep(0.03)
        return Clip(self.info(index), np.zeros((1, 4, 4, 3), np.float32))


@pytest.mark.parametrize("workers", [1, 3])
def test_clips_come_in_the_order_asked_and_unreadable_ones_as_errors(workers):
    wanted = [5, 4, 3, 2, 8, 0, 9, 7]
    got = list(prefetch(Counting(), iter(wanted), workers))
    assert [index for index, _ in got] == wanted
    assert [isinstance(clip, DecodeError) for _, clip in got] == [index == 3 for index in wanted]
    assert all(clip.info.id == f"clip{index}" for index, clip in got if index != 3)


def test_pixels_do_not_depend_on_the_number_of_workers(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "Data/VID/val/a"
    folder.mkdir(parents=True)
    for t in range(40):
        cv2.imwrite(str(folder / f"{t:06d}.JPEG"), rng.integers(0, 256, (90, 120, 3), dtype=np.uint8))
    path = tmp_path / "a.mp4"
    path.write_bytes(
        encode_mp4((read_image(file) for file in sorted(folder.iterdir())), (90, 120), Encoding())
    )
    for dataset in (
        FolderClips(sorted(folder.iterdir())),
        VideoFiles(path=path, short_side=32, frames_per_clip=8, cache=str(tmp_path / "cache")),
    ):
        one, three = (list(prefetch(dataset, range(len(dataset)), workers)) for workers in (1, 3))
        assert len(one) == len(three) == 5
        for (_, first), (_, second) in zip(one, three, strict=True):
            assert first.info.id == second.info.id
            assert np.array_equal(first.frames, second.frames)


def test_seconds_of_the_processor_are_told_clip_by_clip():
    told = []
    assert len(list(prefetch(Busy(), range(4), 2, told.append))) == 4
    assert len(told) == 4
    assert min(told[:2]) > 0.02 > max(told[2:])


def test_only_a_few_clips_are_decoded_ahead_and_leaving_early_stops():
    dataset, before = Counting(), threading.active_count()
    for index, _ in prefetch(dataset, range(20, 100), workers=2):
        if index == 25:
            break
    assert len(dataset.asked) <= 6 + 4 + 1
    assert threading.active_count() == before


def test_other_errors_are_raised():
    with pytest.raises(PluginError, match=r"ZeroDivisionError \(.*test_loading\.py, line \d+\)"):
        list(prefetch(Counting(), [12, 13, 14]))


def test_nothing_asked_gives_nothing():
    assert list(prefetch(Counting(), [])) == []
