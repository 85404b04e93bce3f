"""One clip from soft masks to a localization."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from naming_steps import name_clip

from ovvol_bench.errors import ContractError
from ovvol_bench.naming.localize import pool, pool_segments, segment_boxes, shares, winning_slots
from ovvol_bench.naming.prompts import TextBank, build_prompts
from ovvol_bench.naming.settings import NamingSettings
from ovvol_bench.naming.vocabulary import ForegroundClass, Vocabulary

DEFAULT = NamingSettings()
FARM = Vocabulary("farm", (ForegroundClass("cow"), ForegroundClass("sheep")), background=("grass",))
TEXT = TextBank.of(build_prompts(FARM, DEFAULT), np.eye(3))
COW, SHEEP, GRASS = np.eye(3, dtype=np.float32)


def scene(labels: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """One-hot masks (3, 1, h, w) of a picture of slots, and patches: slot 0 grass, 1 a cow, 2 a sheep."""
    slots = torch.tensor([labels])
    masks = torch.nn.functional.one_hot(slots, 3).movedim(-1, 0).float()
    return masks, torch.from_numpy(np.stack([GRASS, COW, SHEEP]))[slots]


def test_a_picture_is_localized_and_named() -> None:
    masks, patches = scene([[0, 0, 0, 0], [1, 1, 0, 2]])
    found = name_clip(masks, patches, TEXT, DEFAULT, frame_size=(20, 80))
    assert found.boxes.tolist() == [[[0, 10, 39, 19], [60, 10, 79, 19]]]
    assert found.present.tolist() == [[True, True]]
    assert found.probabilities.argmax(axis=1).tolist() == [1, 2]
    assert found.segment_of_slot.tolist() == [-1, 0, 1]
    assert found.slot_map.tolist() == [[[0, 0, 0, 0], [1, 1, 0, 2]]]
    dtypes = [x.dtype.name for x in (found.boxes, found.probabilities, found.slot_map, found.segment_of_slot)]
    assert dtypes == ["float32", "float32", "int16", "int16"]


def test_feature_steps_are_repeated_over_their_frames() -> None:
    slots = torch.tensor([[[0, 1]], [[1, 0]]])
    masks = torch.nn.functional.one_hot(slots, 2).movedim(-1, 0).float()
    assert winning_slots(masks, frames=4)[:, 0, 0].tolist() == [0, 0, 1, 1]
    with pytest.raises(ContractError, match="2 steps for a clip of 3 frames"):
        winning_slots(masks, frames=3)


def test_the_first_of_equal_slots_wins() -> None:
    assert winning_slots(torch.full((3, 1, 2, 2), 1 / 3), frames=1).unique().tolist() == [0]


def test_patches_of_another_grid_are_resized_to_the_slots() -> None:
    masks, patches = scene([[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 2, 2], [1, 1, 2, 2]])
    coarse = patches[:, ::2, ::2]
    found = name_clip(masks, coarse, TEXT, DEFAULT, frame_size=(40, 40))
    assert found.slot_map.shape == (1, 4, 4)
    assert found.probabilities.argmax(axis=1).tolist() == [1, 2]


def test_pooling_sums_and_does_not_average() -> None:
    patches = torch.arange(8.0).reshape(1, 2, 2, 2)
    weights = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]], [[[0.0, 0.0], [0.5, 0.0]]]])
    assert pool(weights, patches).tolist() == [[2.0, 4.0], [2.0, 2.5]]


def test_pooling_is_exact_under_autocast() -> None:
    patches = torch.full((1, 2, 2, 1), 1.001)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pooled = pool(torch.ones(1, 1, 2, 2, dtype=torch.bool), patches)
    assert pooled.dtype == torch.float32
    assert pooled.item() == pytest.approx(4.004, abs=1e-5)


def test_pooling_refuses_other_frames() -> None:
    with pytest.raises(ContractError, match="patches of 2 frames, the grouper slots of 1"):
        pool(torch.ones(3, 1, 2, 2), torch.ones(2, 2, 2, 5))


def test_pooled_segments_leave_out_dropped_slots() -> None:
    pooled = np.array([[1, 2], [10, 20], [100, 200]], dtype=np.float32)
    sums = pool_segments(pooled, np.array([0, -1, 0], dtype=np.int16), 2)
    assert sums.tolist() == [[101, 202], [0, 0]]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_name_their_source(value) -> None:
    masks, patches = scene([[0, 1], [1, 2]])
    bad_masks, bad_patches = masks.clone(), patches.clone()
    bad_masks[0, 0, 0, 0] = bad_patches[0, 0, 0, 0] = value
    with pytest.raises(ContractError, match="grouper's masks"):
        name_clip(bad_masks, patches, TEXT, DEFAULT, (20, 20))
    with pytest.raises(ContractError, match="labeler's patch embeddings"):
        name_clip(masks, bad_patches, TEXT, DEFAULT, (20, 20))


def test_nothing_is_found_where_nothing_has_to_be() -> None:
    masks, _ = scene([[0, 1], [1, 2]])
    patches = torch.from_numpy(GRASS).expand(1, 2, 2, 3)
    found = name_clip(masks, patches, TEXT, replace(DEFAULT, keep_one=False), (20, 20))
    assert len(found) == 0
    assert found.boxes.shape == (1, 0, 4)
    assert found.probabilities.shape == (0, 3)
    assert found.masks.shape == (0, 1, 2, 2)
    assert len(name_clip(masks, patches, TEXT, DEFAULT, (20, 20))) == 1


def test_an_absent_segment_has_a_zero_box() -> None:
    boxes, present = segment_boxes(np.array([[[0, -1]], [[-1, -1]]]), 1, (16, 32))
    assert boxes.tolist() == [[[0, 0, 15, 15]], [[0, 0, 0, 0]]]
    assert present.tolist() == [[True], [False]]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), merge=st.sampled_from(["same_name", "none"]), scale=st.integers(1, 40))
def test_segments_partition_kept_slots_and_boxes_hold_their_masks(seed, merge, scale) -> None:
    draw = torch.Generator().manual_seed(seed)
    masks = torch.rand(5, 2, 4, 6, generator=draw).softmax(0)
    patches = torch.randn(2, 4, 6, 3, generator=draw)
    found = name_clip(masks, patches, TEXT, replace(DEFAULT, merge=merge), (4 * scale, 6 * scale))
    inside = found.masks
    assert (inside.sum(axis=0) <= 1).all()
    np.testing.assert_array_equal(inside.any(axis=0), found.segment_of_slot[found.slot_map] >= 0)
    np.testing.assert_array_equal(inside.any(axis=(2, 3)).T, found.present)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, rtol=1e-5)
    for segment, frame in zip(*np.nonzero(found.present.T), strict=True):
        rows, columns = np.nonzero(inside[segment, frame])
        x1, y1, x2, y2 = found.boxes[frame, segment]
        assert (x1, y1) == (columns.min() * scale, rows.min() * scale)
        assert (x2, y2) == ((columns.max() + 1) * scale - 1, (rows.max() + 1) * scale - 1)


def test_shares_keep_the_order_of_nearly_even_masks_in_8_bits():
    masks = torch.rand(7, 2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    masks = (1 + 0.001 * masks) / 7
    kept = shares(masks, frames=4)
    assert (kept.shape, kept.dtype) == ((4, 7, 3, 4), np.uint8)
    np.testing.assert_array_equal(kept[0], kept[1])
    slots = winning_slots(masks, frames=4).numpy()
    of_winner = np.take_along_axis(kept, slots[:, None], axis=1)[:, 0]
    np.testing.assert_array_equal(of_winner, kept.max(axis=1))
    assert not shares(torch.ones(1, 1, 2, 2), frames=1).any()
