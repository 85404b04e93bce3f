from dataclasses import replace

import numpy as np
import pytest

from ovvol_bench.errors import ContractError, DataError
from ovvol_bench.predictions import ClipPrediction, concatenate, own_part, pack, same_content
from ovvol_bench.types import ClipInfo, Localization


def clip(name, *, frames=4, segments=2, classes=3, start=0, context=0, seed=0):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 50, (frames, segments, 2))
    localization = Localization(
        boxes=np.concatenate([low, low + 5], axis=-1).astype(np.float32),
        present=rng.random((frames, segments)) < 0.7,
        probabilities=rng.random((segments, classes + 1)).astype(np.float32),
        slot_map=rng.integers(0, 5, (frames, 2, 3)).astype(np.int16),
        segment_of_slot=rng.integers(-1, max(segments, 1), 5).astype(np.int16),
        input_size=(32, 48),
    )
    info = ClipInfo(name, "video", tuple(range(start, start + frames)), (60, 90), None, context)
    return ClipPrediction(info, (32, 48), localization)


def test_clips_come_back_as_they_went_in():
    clips = [clip("a", segments=3), clip("b", frames=1, start=4), clip("c", segments=0, start=5)]
    for got, put in zip(pack(clips), clips, strict=True):
        assert same_content(got, put)
        assert got.localization.input_size == (32, 48)
        np.testing.assert_array_equal(got.localization.masks, put.localization.masks)


def test_order_is_by_video_and_first_frame():
    late, early = clip("a", start=8), clip("b", start=0)
    other = clip("c")
    other = replace(other, info=replace(other.info, video="another"))
    predictions = pack([late, early, other]).in_order()
    assert predictions.clip_ids == ("c", "b", "a")
    assert same_content(predictions[2], late)


def test_equal_repeats_are_kept_once_and_different_ones_refused():
    predictions = concatenate([pack([clip("a"), clip("b", start=4)]), pack([clip("a")])]).in_order()
    assert predictions.clip_ids == ("a", "b")
    with pytest.raises(DataError, match="'a' was predicted twice"):
        pack([clip("a"), clip("a", seed=1)]).in_order()


def test_context_frames_are_left_out():
    whole = clip("a", frames=4, start=10, context=3)
    own = own_part(whole)
    assert own.info.frame_indices == (13,)
    assert own.info.context == 0
    np.testing.assert_array_equal(own.localization.boxes, whole.localization.boxes[3:])
    np.testing.assert_array_equal(own.localization.slot_map, whole.localization.slot_map[3:])
    trimmed = ClipPrediction(whole.info, whole.input_size, own.localization)
    assert same_content(own_part(trimmed), own)


def test_frames_that_could_not_be_read_are_left_out():
    whole = clip("a", frames=4, start=10, context=1)
    info = replace(whole.info, unread={0: "cut off", 2: "cut off"}, truth=("a", "b", "c", "d"))
    own = own_part(replace(whole, info=info))
    assert (own.info.frame_indices, own.info.truth, own.info.context) == ((11, 13), ("b", "d"), 0)
    np.testing.assert_array_equal(own.localization.present, whole.localization.present[[1, 3]])
    assert pack([replace(whole, info=info)]).frame_indices.tolist() == [11, 13]


def test_a_localization_of_another_length_is_refused():
    whole = clip("a", frames=4)
    longer = replace(whole, info=replace(whole.info, frame_indices=(0, 1, 2, 3, 4)))
    with pytest.raises(ContractError, match="localization of 4 frames; expected 5"):
        pack([longer])


def test_arrays_that_do_not_fit_are_named():
    whole = clip("a", segments=2)
    wrong = replace(whole.localization, present=np.ones((4, 3), bool))
    with pytest.raises(ContractError, match=r"localization.present has shape \(4, 3\); expected \(4, 2\)"):
        pack([replace(whole, localization=wrong)])


def test_one_vocabulary_only():
    with pytest.raises(DataError, match="different vocabularies"):
        pack([clip("a", classes=3), clip("b", classes=4)])
    with pytest.raises(DataError, match="different vocabularies"):
        concatenate([pack([clip("a", classes=3)]), pack([clip("b", classes=4)])])


def test_no_clips_at_all():
    assert len(pack([]).in_order()) == 0
    assert list(concatenate([])) == []
