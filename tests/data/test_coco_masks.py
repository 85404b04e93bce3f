from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ovvol_bench.data.coco_masks import wrong_totals
from ovvol_bench.masks import RleMasks

SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))


@given(st.lists(SIZES.flatmap(lambda size: arrays(np.bool_, size)), min_size=1, max_size=6))
def test_whole_masks_add_up_and_others_do_not(masks):
    runs = [RleMasks.of(mask[None]).counts[0] for mask in masks]
    pixels = np.array([mask.size for mask in masks], np.int64)
    assert len(wrong_totals(runs, pixels)) == 0
    assert wrong_totals(runs, pixels + 1).tolist() == list(range(len(masks)))


def test_masks_that_are_cut_off_are_found_among_others():
    rng = np.random.default_rng(0)
    masks = rng.random((50, 30, 700)) < rng.random((50, 1, 1))
    masks[7] = False
    runs = list(RleMasks.of(masks).counts)
    for row in (3, 49):
        runs[row] = runs[row][:-1]
    assert wrong_totals(runs, np.full(50, 21_000, np.int64)).tolist() == [3, 49]
