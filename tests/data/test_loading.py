from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from ovvol_bench.benchmark import Dataset
from ovvol_bench.data.loading import prefetch
from ovvol_bench.errors import DecodeError
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


@pytest.mark.parametrize("workers", [1, 3])
def test_clips_come_in_the_order_asked_and_unreadable_ones_as_errors(workers):
    wanted = [5, 4, 3, 2, 8, 0, 9, 7]
    got = list(prefetch(Counting(), iter(wanted), workers))
    assert [index for index, _ in got] == wanted
    assert [isinstance(clip, DecodeError) for _, clip in got] == [index == 3 for index in wanted]
    assert all(clip.info.id == f"clip{index}" for index, clip in got if index != 3)


def test_only_a_few_clips_are_decoded_ahead_and_leaving_early_stops():
    dataset, before = Counting(), threading.active_count()
    for index, _ in prefetch(dataset, range(20, 100), workers=2):
        if index == 25:
            break
    assert len(dataset.asked) <= 6 + 4 + 1
    assert threading.active_count() == before


def test_other_errors_are_raised():
    with pytest.raises(ZeroDivisionError):
        list(prefetch(Counting(), [12, 13, 14]))


def test_nothing_asked_gives_nothing():
    assert list(prefetch(Counting(), [])) == []
