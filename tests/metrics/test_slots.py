import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovvol_bench.errors import ContractError, DataError, SettingError
from ovvol_bench.metrics.slots import SlotDiagnostics, slot_usage, temporal_stability
from ovvol_bench.types import ClipInfo, Localization

SEEDS = st.integers(0, 2**32 - 1)


def slots_of(slot_map, num_slots, name="clip", context=0):
    slot_map = np.asarray(slot_map, np.int16)
    frames = len(slot_map)
    found = Localization(
        boxes=np.zeros((frames, 0, 4), np.float32),
        present=np.zeros((frames, 0), bool),
        probabilities=np.zeros((0, 2), np.float32),
        slot_map=slot_map,
        segment_of_slot=np.full(num_slots, -1, np.int16),
    )
    return found, ClipInfo(name, "video", tuple(range(frames)), (8, 8), None, context)


def described(*clips, **options):
    metric = SlotDiagnostics(**options)
    for clip in clips:
        metric.update(*clip)
    return metric.compute()


def test_one_slot_for_all_is_a_collapse():
    values = described(slots_of(np.zeros((2, 2, 2)), 4))
    assert {name: value.value for name, value in values.items()} == {
        "active_slots": 1,
        "slot_entropy": 0,
        "slot_stability": 1,
    }
    assert values["slot_entropy"].notes["effective_slots"] == 1
    assert values["active_slots"].notes["slots"] == 4


def test_slots_of_equal_share_have_the_highest_entropy():
    values = described(slots_of([[[0, 1], [2, 3]]], 4))
    assert values["active_slots"].value == 4
    assert values["slot_entropy"].value == pytest.approx(1)
    assert values["slot_entropy"].notes["effective_slots"] == pytest.approx(4)
    assert values["slot_stability"].count == 0, "one frame has no next one"


def test_slots_of_few_patches_are_not_active():
    clip = slots_of(np.array([0] * 7 + [1] * 2 + [2]).reshape(1, 2, 5), 5)
    assert described(clip)["active_slots"].value == 3
    assert described(clip, min_share=0.2)["active_slots"].value == 2
    assert described(clip, min_share=0)["active_slots"].value == 3, "a slot without a patch never is"
    with pytest.raises(SettingError, match="min_share is 2"):
        SlotDiagnostics(min_share=2)


def test_a_single_slot_has_no_entropy():
    values = described(slots_of(np.zeros((1, 2, 2)), 1))
    assert (math.isnan(values["slot_entropy"].value), values["slot_entropy"].count) == (True, 0)


@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_stability_is_the_mean_overlap_with_the_next_frame(seed):
    slot_map = np.random.default_rng(seed).integers(0, 4, (3, 2, 2)).astype(np.int16)
    overlaps = []
    for now, later in pairwise(slot_map):
        for slot in range(5):
            either = ((now == slot) | (later == slot)).sum()
            if either:
                overlaps.append(((now == slot) & (later == slot)).sum() / either)
    assert temporal_stability(slot_map, 5) == pytest.approx(np.mean(overlaps))


@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_the_order_of_slots_means_nothing(seed):
    rng = np.random.default_rng(seed)
    slot_map = rng.integers(0, 4, (2, 3, 3))
    one = slot_usage(slot_map.astype(np.int16), 4, 0.1)
    other = slot_usage(rng.permutation(4)[slot_map].astype(np.int16), 4, 0.1)
    assert vars(one) == pytest.approx(vars(other))


def test_order_and_repeats_change_nothing():
    clips = [slots_of([[[0, index % 3]]], 3, name=f"clip{index}") for index in range(4)]
    assert repr(described(*clips[2:], *clips[:3])) == repr(described(*clips))


def test_clips_need_slots_and_come_once():
    metric = SlotDiagnostics()
    found, info = slots_of([[[0, 0]]], 2)
    metric.update(found, info)
    with pytest.raises(DataError, match="added twice with different results"):
        metric.update(*slots_of([[[0, 1]]], 2))
    with pytest.raises(ContractError, match="values 2 to 2; expected 0 to 1, the clip's slots"):
        metric.update(replace(found, slot_map=found.slot_map + np.int16(2)), info)


def test_context_frames_are_left_out():
    assert described(slots_of([[[0, 0]], [[1, 1]]], 2, context=1))["slot_entropy"].value == 0


def test_without_clips_every_number_is_undefined():
    assert all(math.isnan(value.value) and not value.count for value in described().values())
