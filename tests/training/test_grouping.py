"""Slots in training: CorLoc and DetRate before naming, how many are used."""

import math

import numpy as np
import pytest
import torch

from ovvol_bench import (
    Clip,
    ClipInfo,
    DataError,
    Dataset,
    DecodeError,
    Encoder,
    Features,
    FrameTruth,
    Grouper,
    SlotMasks,
    Vocabulary,
)
from ovvol_bench.naming.vocabulary import ForegroundClass
from ovvol_bench.training.grouping import localization_quality, slots_used

HEIGHT, WIDTH, FRAMES = 16, 32, 2
LEFT = (0, 0, 15, 15)
SMALL = (28, 12, 31, 15)


class PixelEncoder(Encoder):
    """Every patch's own mean colour."""

    patch_size, tubelet_size, dim = 8, 1, 3

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def encode(self, video):
        return Features(
            torch.nn.functional.avg_pool2d(video.flatten(0, 1), 8)
            .unflatten(0, video.shape[:2])
            .permute(0, 1, 3, 4, 2)
        )


class Halves(Grouper):
    """The first slot wins the left half, the second the right one; a third wins nothing."""

    def group(self, features, draws):
        winner = torch.zeros(features.grid.shape[:-1], dtype=torch.long)
        winner[..., 2:] = 1
        masks = torch.nn.functional.one_hot(winner, 3).permute(0, 4, 1, 2, 3).float()
        return SlotMasks(masks)


class Everything(Grouper):
    def group(self, features, draws):
        return SlotMasks(torch.ones(1, 1, *features.grid.shape[1:-1]))


class Guess(Grouper):
    """Random slots."""

    def group(self, features, draws):
        shape = (6, *features.grid.shape[1:-1])
        return SlotMasks(torch.stack([torch.rand(shape, generator=g).mul(9).softmax(0) for g in draws]))


def truth_of(*boxes):
    count = len(boxes)
    return FrameTruth(
        boxes=np.array(boxes, np.float32).reshape(count, 4),
        class_ids=np.full(count, 2),
        track_ids=np.arange(count),
        occluded=np.zeros(count, bool),
        generated=np.zeros(count, bool),
        motion_iou=np.full(count, np.nan, np.float32),
    )


class Boxes(Dataset):
    """One clip for each list of boxes; None cannot be read."""

    def __init__(self, *clips, known=True):
        self.clips, self.known = clips, known
        self.read, self.skipped = [], {}
        self.vocabulary = Vocabulary("pets", (ForegroundClass("cat"), ForegroundClass("dog")))

    def __len__(self):
        return len(self.clips)

    def info(self, index):
        truth = (truth_of(*(self.clips[index] or ())),) * FRAMES if self.known else None
        return ClipInfo(f"clip{index}", f"video{index}", tuple(range(FRAMES)), (HEIGHT, WIDTH), truth)

    def clip(self, index):
        if self.clips[index] is None:
            raise DecodeError("gone")
        self.read.append(index)
        return Clip(self.info(index), np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.float32))

    def fingerprint(self):
        return "boxes"


def quality(grouper, dataset, clips=10, seed=0):
    return localization_quality(PixelEncoder(), grouper, dataset, clips, seed)


def test_slots_that_meet_objects_count_without_names():
    found = quality(Halves(), Boxes([LEFT], [LEFT, SMALL], [SMALL]))
    assert found == {"corloc": pytest.approx(2 / 3), "detrate": pytest.approx(0.5)}


def test_one_slot_for_everything_meets_nothing_small():
    assert quality(Everything(), Boxes([LEFT], [SMALL])) == {"corloc": 0, "detrate": 0}


def test_clips_are_spread_over_the_dataset():
    dataset = Boxes(*[[LEFT]] * 9)
    quality(Halves(), dataset, clips=3)
    assert dataset.read == [0, 4, 8]


def test_draws_follow_from_the_seed_and_the_clip():
    dataset = Boxes(*[[LEFT], [SMALL]] * 4)
    assert quality(Guess(), dataset, seed=3) == quality(Guess(), dataset, seed=3)


def test_unreadable_clips_are_left_out_and_counted():
    found = quality(Halves(), Boxes([LEFT], None))
    assert found == {"corloc": 1, "detrate": 1, "unreadable_clips": 1}


def test_without_objects_there_is_no_number():
    assert all(math.isnan(value) for value in quality(Halves(), Boxes([])).values())


def test_without_truth_it_is_refused():
    with pytest.raises(DataError, match="has no truth"):
        quality(Halves(), Boxes([LEFT], known=False))


def test_slots_that_win_nowhere_are_not_counted():
    masks = torch.zeros(2, 3, 1, 2, 2)
    masks[0, 1] = 1
    masks[1, 0, 0, 0], masks[1, 2, 0, 1] = 1, 1
    assert slots_used(masks).tolist() == [1, 2]
