"""LOST and FOUND, which grow a region from one patch, on cases worked out by hand."""

import numpy as np
import pytest
import torch
from patch_scenes import build, slots_of

from ovvol_baselines.groupers.found import head_weights
from ovvol_bench import Features, SettingError


def row(*tokens):
    """One frame of one row of patches."""
    grid = torch.tensor(tokens, dtype=torch.float32)[None, None, None]
    return Features(grid, {"keys": grid})


class TestLost:
    # Products: patches 0, 1, 4 are like each other; 2 and 3 are like each other, 3 also like 4.
    tokens = ((1, 0), (1, 0), (-1, 3), (0.5, 3), (1, -0.1))

    def test_the_seed_has_the_smallest_degree(self):
        # Degrees: 0, 1: {0, 1, 3, 4}; 2: {2, 3}; 3: {0, 1, 2, 3, 4}; 4: {0, 1, 3, 4}. Seed 2.
        # Of the two smallest degrees, 2 and 0, only 2 has a positive product with the seed.
        slots = slots_of(build("lost", neighbours=2), row(*self.tokens))
        assert slots.flatten().tolist() == [0, 0, 1, 1, 0]

    def test_neighbours_that_are_like_the_seed_vote(self):
        # With all five, 2 and 3 are joined: their sum (-0.5, 6) has a positive product with 2 and 3 only.
        slots = slots_of(build("lost", neighbours=5), row(*self.tokens))
        assert slots.flatten().tolist() == [0, 0, 1, 1, 0]

    def test_only_what_hangs_together_with_the_seed_counts(self):
        tokens = ((0, 1), (1, 0), (0, 1), (1, 0), (1, 0))
        slots = slots_of(build("lost", neighbours=1), row(*tokens))
        assert slots.flatten().tolist() == [1, 0, 0, 0, 0]

    def test_an_object_may_go_through_time(self):
        grid = torch.zeros(1, 2, 1, 3, 2)
        grid[..., 0] = 1
        grid[0, :, 0, 2] = torch.tensor([0.0, 1.0])
        grid = Features(grid, {"keys": grid})
        assert slots_of(build("lost", span="clip", neighbours=1), grid).tolist() == [[[0, 0, 1]]] * 2

    def test_no_neighbours_are_refused(self):
        with pytest.raises(SettingError, match="'neighbours' can't be 0"):
            build("lost", neighbours=0)


class TestFound:
    def test_sparse_heads_weigh_more(self):
        # Shares above the mean: 1/4 and 3/4; weights log(1 / (1/4)) and log(1 / (3/4)).
        attention = np.array([[1, 0, 0, 0], [1, 1, 1, 0]], np.float32)
        assert head_weights(attention) == pytest.approx([np.log(4), np.log(4 / 3)])

    def test_the_background_is_like_the_least_attended_patch(self):
        keys = torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [1, 1.2]])[None, None, None]
        attention = torch.tensor([[0.9, 0.1, 0.8, 0.7]]).view(1, 1, 1, 1, 4)
        features = Features(keys, {"keys": keys, "attention": attention})
        # Seed 1; cosines with it: 0.995, 1, 0.0995, 0.72.
        assert slots_of(build("found"), features).flatten().tolist() == [0, 0, 1, 0]
        assert slots_of(build("found", threshold=0.8), features).flatten().tolist() == [0, 0, 1, 1]

    def test_heads_weigh_their_own_channels(self):
        keys = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [1, 1]])[None, None, None]
        attention = torch.tensor([[0, 9, 0, 0], [0, 1, 1, 1.1]]).view(1, 1, 2, 1, 4)
        features = Features(keys, {"keys": keys, "attention": attention})
        # Weights log 4 = 1.386 and log 4/3 = 0.288: the first channel decides, of 1 with the seed 0 as well.
        assert slots_of(build("found"), features).flatten().tolist() == [0, 0, 1, 0]

    def test_channels_must_divide_into_heads(self):
        grid = torch.zeros(1, 1, 1, 4, 3)
        features = Features(grid, {"keys": grid, "attention": torch.rand(1, 1, 2, 1, 4)})
        with pytest.raises(SettingError, match="3 channels don't divide into 2 heads"):
            slots_of(build("found"), features)

    def test_it_asks_for_keys_and_attention(self):
        assert build("found").needs == {"keys", "attention"}
