"""Compiled kernels and those of numpy give the same arrays, one by one and all together."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovvol_bench.arrays import offsets_of
from ovvol_bench.metrics import kernels, kernels_numpy
from ovvol_bench.metrics.average_precision import precision_by_threshold
from ovvol_bench.metrics.columns import Columns, TruthColumns
from ovvol_bench.metrics.protocols import PROTOCOLS
from ovvol_bench.metrics.scores import ScoreList, ScoreTable

CLASSES = 2
SCORES = np.array([0.0, 0.1, 0.10000001, 0.4, 0.9])
TIES = ("group", "reference", "earlier", "later")
NAMES = ("best_boxes", "pair_up", "queue_groups", "take", "places", "tally")

seeds = given(seed=st.integers(0, 2**32 - 1))
compiled = pytest.mark.skipif(
    kernels.chosen_kernels() is kernels_numpy, reason="numba is not installed or not wanted"
)


def random_boxes(rng, count):
    """Fractions of pixels, boxes without area, equal overlaps."""
    low = rng.integers(-2, 5, (count, 2)) / 2
    return np.concatenate([low, low + rng.integers(0, 7, (count, 2)) / 2], axis=1).astype(np.float32)


def random_columns(seed, protocol="vid-reference"):
    rng = np.random.default_rng(seed)
    counts, objects = rng.integers(0, 6, (2, int(rng.integers(0, 6))))
    boxes, true = int(counts.sum()), int(objects.sum())
    kind = rng.choice([np.float32, np.float64])
    table = ScoreTable(
        rng.choice(SCORES, (boxes + 1, CLASSES + 1)).astype(np.float32), rng.integers(0, boxes + 1, boxes)
    )
    scores = ScoreList(
        rng.integers(0, CLASSES + 1, boxes), rng.choice([*SCORES, -1.5], boxes).astype(kind), CLASSES
    )
    return Columns(
        protocol=PROTOCOLS[protocol],
        box_counts=counts,
        boxes=random_boxes(rng, boxes),
        scores=table if rng.random() < 0.5 else scores,
        truth=TruthColumns(
            counts=objects,
            boxes=random_boxes(rng, true),
            classes=rng.integers(1, CLASSES + 1, true),
            ignored=rng.random(true) < 0.2,
            motion=rng.choice([0.5, 0.7, 0.8, 0.95, np.nan], true).astype(np.float32),
        ),
    )


def both(name, *arguments):
    results = [getattr(module, name)(*arguments) for module in (kernels.chosen_kernels(), kernels_numpy)]
    for got, expected in zip(
        *(each if isinstance(each, tuple) else (each,) for each in results), strict=True
    ):
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)
    return results[0]


@compiled
@settings(max_examples=60, deadline=None)
@seeds
def test_frames_are_paired_alike(seed):
    columns, rng = random_columns(seed), np.random.default_rng(seed)
    offset, truth = int(rng.integers(0, 3)), columns.truth
    starts = offsets_of(columns.box_counts)
    padding = rng.random(len(columns.boxes)) < 0.2
    both("best_boxes", starts, columns.boxes, padding, offsets_of(truth.counts), truth.boxes, offset)
    frames = np.flatnonzero(truth.counts)
    ends = offsets_of(truth.counts)
    groups = np.stack([frames, rng.integers(1, 3, len(frames)), ends[frames], ends[frames + 1]], axis=1)
    _, group, start, place, iou = both(
        "pair_up", starts, columns.boxes, columns.scores.labels, groups, truth.boxes, offset
    )
    state = rng.integers(0, 3, len(truth)).astype(np.int8)
    order = both("queue_groups", group, rng.choice([-0.5, 0.0, 0.5], (len(group), 3)))
    both("take", start, place, iou, order, state, np.float32(rng.choice([0.1, 0.5, 1])))


@compiled
@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(allow_nan=False, width=32)),
    levels=st.lists(st.floats(allow_nan=False, width=32), unique=True),
    kind=st.sampled_from([np.float32, np.float64]),
)
def test_scores_are_placed_alike(values, levels, kind):
    levels = np.unique(np.array(levels, kind))
    values = np.concatenate([np.array(values, kind), levels, -levels])
    places, counts = both("places", values, levels), np.arange(len(values))
    tallies = both("tally", values, counts, levels)
    np.testing.assert_array_equal(tallies, np.bincount(places, counts, minlength=2 * len(levels) + 1))


def assert_equal(got, expected):
    for one, other in zip(got, expected, strict=True):
        for field in ("values", "lowest", "highest", "objects"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


@compiled
@settings(max_examples=40, deadline=None)
@seeds
def test_numbers_are_the_same_without_a_compiler(seed):
    for protocol in PROTOCOLS.values():
        columns = random_columns(seed, protocol.name)
        arguments = ([0.5, 0.75], TIES[seed % 4], [None, *protocol.motion])
        forms = []
        for module in (kernels.chosen_kernels(), kernels_numpy):
            with pytest.MonkeyPatch.context() as patch:
                for name in NAMES:
                    patch.setattr(kernels, name, getattr(module, name))
                forms.append((precision_by_threshold(columns, *arguments), replace(columns).best))
        (got, best), (expected, again) = forms
        for one, other in zip(got, expected, strict=True):
            assert_equal(one, other)
        np.testing.assert_array_equal(best.iou, again.iou)
        np.testing.assert_array_equal(best.box, again.box)


def test_numpy_stands_in_where_numba_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "ovvol_bench.metrics.kernels_numba", None)
    assert kernels.chosen_kernels() is kernels_numpy


def test_numpy_can_be_asked_for(monkeypatch):
    monkeypatch.setenv(kernels.VARIABLE, "numpy")
    assert kernels.chosen_kernels() is kernels_numpy


def test_numpy_stands_in_where_machine_code_can_not_be_kept(monkeypatch):
    def refuse(name):
        raise RuntimeError(f"cannot cache function: no locator available for file '{name}'")

    monkeypatch.setattr(kernels, "import_module", refuse)
    assert kernels.chosen_kernels() is kernels_numpy


def test_numba_is_loaded_when_it_is_worth_it(monkeypatch):
    loaded = []
    monkeypatch.setattr(kernels, "chosen_kernels", lambda: loaded.append(1) or kernels_numpy)
    monkeypatch.delenv(kernels.VARIABLE, raising=False)
    clock = iter([0.0, kernels.PATIENCE / 2, 2.0, 2 + kernels.PATIENCE, 5.0, 6.0, 7.0, 8.0])
    monkeypatch.setattr(kernels, "process_time", lambda: next(clock))
    places = kernels.Kernels()["places"]
    counts = []
    for _ in range(4):
        assert places(np.array([0.5]), np.array([0.5])).tolist() == [1]
        counts.append(len(loaded))
    assert counts == [0, 0, 1, 1]


def test_numba_can_be_asked_for(monkeypatch):
    loaded = []
    monkeypatch.setattr(kernels, "chosen_kernels", lambda: loaded.append(1) or kernels_numpy)
    monkeypatch.setenv(kernels.VARIABLE, "numba")
    kernels.Kernels()["places"](np.array([0.5]), np.array([0.5]))
    assert loaded


@settings(max_examples=40, deadline=None)
@seeds
def test_thresholds_together_are_what_they_are_alone(seed):
    columns = random_columns(seed)
    thresholds, motion = [0.75, 0.5, 0.9], [None, *columns.protocol.motion]
    together = precision_by_threshold(columns, thresholds, ranges=motion)
    for position, threshold in enumerate(thresholds):
        alone = precision_by_threshold(columns, [threshold], ranges=motion)
        for one, other in zip(together, alone, strict=True):
            np.testing.assert_allclose(one[position].values, other[0].values, rtol=0, atol=1e-12)
            np.testing.assert_array_equal(one[position].objects, other[0].objects)
