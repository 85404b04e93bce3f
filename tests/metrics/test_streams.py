"""Scoring piece by piece gives what scoring all at once gives."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovvol_bench.errors import DataError, SettingError
from ovvol_bench.metrics import evaluate, evaluate_pieces
from ovvol_bench.metrics.accumulators import BoxesPerFrame, CorLoc, DetectionRate, Extent, VidAP
from ovvol_bench.metrics.protocols import PROTOCOLS
from ovvol_bench.predictions import ClipPrediction, pack
from ovvol_bench.types import ClipInfo, FrameTruth, Localization

CLASSES = 2


def random_boxes(rng, *shape):
    low = rng.integers(0, 4, (*shape, 2))
    return np.concatenate([low, low + rng.integers(0, 7, (*shape, 2))], axis=-1).astype(np.float32)


def random_truth(rng):
    count = int(rng.integers(0, 4))
    return FrameTruth(
        boxes=random_boxes(rng, count),
        class_ids=rng.integers(1, CLASSES + 1, count),
        track_ids=np.arange(count),
        occluded=np.zeros(count, bool),
        generated=rng.random(count) < 0.3,
        motion_iou=rng.choice([0.5, 0.7, 0.8, 0.95, math.nan], count).astype(np.float32),
    )


def random_clip(rng, index):
    frames, segments = int(rng.integers(1, 4)), int(rng.integers(0, 5))
    present = rng.random((frames, segments)) < 0.8
    localization = Localization(
        boxes=(random_boxes(rng, frames, segments) * present[..., None]).astype(np.float32),
        present=present,
        probabilities=rng.choice([0.1, 0.2, 0.4], (segments, CLASSES + 1)).astype(np.float32),
        slot_map=np.zeros((frames, 0, 0), np.int16),
        segment_of_slot=np.zeros(0, np.int16),
        input_size=(20, 30),
    )
    truth = tuple(random_truth(rng) for _ in range(frames))
    info = ClipInfo(f"clip{index}", "video", tuple(range(10 * index, 10 * index + frames)), (20, 30), truth)
    return ClipPrediction(info, (20, 30), localization)


def random_clips(seed):
    rng = np.random.default_rng(seed)
    return [random_clip(rng, index) for index in range(int(rng.integers(1, 6)))]


def metrics():
    for protocol in PROTOCOLS:
        yield from (CorLoc(protocol), CorLoc(protocol, "top1"), DetectionRate(protocol))
        yield VidAP(protocol, ties="group", extent=Extent(sweep=True, sizes=True), held_out=(2,))
        yield VidAP(protocol, ties="group", extent=Extent(class_agnostic=True))


def in_pieces(clips, cuts):
    """A source of pieces, last clips first."""
    parts = np.split(np.arange(len(clips))[::-1], sorted({cut % len(clips) for cut in cuts} - {0}))
    return lambda: iter([pack([clips[index] for index in part]) for part in parts])


def truth_of(clips):
    return {clip.info.id: clip.info for clip in clips}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(0, 5), max_size=4))
def test_pieces_give_what_the_whole_gives(seed, cuts):
    clips = random_clips(seed)
    expected = evaluate(pack(clips), truth_of(clips), list(metrics()))
    got = evaluate_pieces(in_pieces(clips, cuts), truth_of(clips), list(metrics()))
    assert list(got) == list(expected)
    for name, value in got.items():
        assert value.value == pytest.approx(expected[name].value, abs=1e-12, nan_ok=True)
        assert value.count == expected[name].count
        assert value.higher_is_better == expected[name].higher_is_better
        for note in ("frames_without_objects", "objects"):
            assert value.notes.get(note) == expected[name].notes.get(note)
        for note in ("per_class", "by_threshold"):
            wanted = expected[name].notes.get(note, {})
            assert value.notes.get(note, {}) == pytest.approx(wanted, abs=1e-12, nan_ok=True)


def test_without_pieces_every_number_is_undefined():
    for value in evaluate_pieces(lambda: iter([]), {}, list(metrics())).values():
        assert math.isnan(value.value)
        assert value.count == 0


def test_a_clip_in_two_pieces_is_refused():
    clips = random_clips(0)
    pieces = [pack(clips), pack(clips[:1])]
    with pytest.raises(DataError, match="'clip0' is in two pieces"):
        evaluate_pieces(lambda: iter(pieces), truth_of(clips), [CorLoc("vid-devkit")])


def test_pieces_of_other_vocabularies_are_refused():
    clips = random_clips(0)
    other = pack([])
    with pytest.raises(DataError, match="2 and 0 foreground classes"):
        evaluate_pieces(
            lambda: iter([pack(clips), other]), truth_of(clips), [VidAP("vid-devkit", ties="group")]
        )


@pytest.mark.parametrize("metric", [BoxesPerFrame("vid-devkit"), VidAP("vid-devkit", ties="earlier")])
def test_metrics_that_need_everything_at_once_say_so(metric):
    with pytest.raises(SettingError, match="can't be computed piece by piece"):
        evaluate_pieces(lambda: iter([]), {}, [metric])
