"""Orders of scores, ranks among them, and the area under the curve that they give."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovvol_bench.metrics.columns import Columns, TruthColumns
from ovvol_bench.metrics.protocols import PROTOCOLS
from ovvol_bench.metrics.ranks import eleven_point_area, places, precision_area
from ovvol_bench.metrics.scores import ScoreList, ScoreTable, descending, descending_in_lists
from ovvol_bench.metrics.vid_ap import precision_by_threshold

CLASSES = 2
SCORES = np.array([0.1, 0.5, 0.5, 0.9])
DOUBTFUL = np.array([0.0, 0.1, 0.10000001, 0.4, 0.9])


@pytest.mark.parametrize(("ties", "expected"), [("earlier", [3, 1, 2, 0]), ("later", [3, 2, 1, 0])])
def test_equal_scores_go_by_place(ties, expected):
    assert descending(SCORES, ties).tolist() == expected


@given(st.lists(st.lists(st.sampled_from([0.1, 0.2, 0.3]), max_size=5), max_size=8))
def test_lists_are_sorted_each_as_if_alone(lists):
    counts = np.array([len(each) for each in lists], np.int64)
    values = np.array([value for each in lists for value in each])
    for ties in ("earlier", "later", "reference"):
        got = descending_in_lists(values, counts, ties)
        start, expected = 0, []
        for each in lists:
            expected += (start + descending(np.array(each), ties)).tolist() if each else []
            start += len(each)
        assert got.tolist() == expected


@pytest.mark.parametrize(
    ("found", "wrong", "positives", "area"),
    [
        ([], [], 3, 0),
        ([1, 2], [0, 0], 2, 1),
        ([0, 1], [1, 1], 1, 0.5),
        ([1, 1, 2], [0, 1, 1], 2, 0.5 + 0.5 * 2 / 3),
        ([1, 1, 2], [0, 1, 1], 4, 0.25 + 0.25 * 2 / 3),
        ([0, 1], [0, 0], 1, 1),
    ],
)
def test_area_under_the_envelope(found, wrong, positives, area):
    assert precision_area(found, wrong, positives) == pytest.approx(area)


@pytest.mark.parametrize("area", [precision_area, eleven_point_area])
@given(seed=st.integers(0, 2**32 - 1))
def test_areas_of_many_rankings_are_those_of_each(area, seed):
    rng = np.random.default_rng(seed)
    found, wrong = rng.integers(0, 2, (2, 4, int(rng.integers(0, 6)))).cumsum(axis=-1)
    positives = rng.integers(5, 9, 4)
    alone = [area(*each) for each in zip(found, wrong, positives, strict=True)]
    assert area(found, wrong, positives) == pytest.approx(np.array(alone))
    assert area(found[0], wrong, 5).tolist() == [area(found[0], each, 5) for each in wrong]


@given(
    values=st.lists(st.floats(allow_nan=False, width=32)),
    levels=st.lists(st.floats(allow_nan=False, width=32), unique=True),
    kind=st.sampled_from([np.float32, np.float64]),
)
def test_scores_are_placed_at_levels_or_between_them(values, levels, kind):
    levels = np.unique(np.array(levels, kind))
    values = np.concatenate([np.array(values, kind), levels, -levels])
    expected = [2 * (levels < value).sum() + (levels == value).any() for value in values]
    assert places(values, levels).tolist() == expected
    # Of many values most are not searched for.
    times = 1024 // max(len(values), 1) + 1
    assert places(np.tile(values, times), levels).tolist() == expected * times


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
        rng.choice(DOUBTFUL, (boxes + 1, CLASSES + 1)).astype(np.float32), rng.integers(0, boxes + 1, boxes)
    )
    scores = ScoreList(
        rng.integers(0, CLASSES + 1, boxes), rng.choice([*DOUBTFUL, -1.5], boxes).astype(kind), CLASSES
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


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_thresholds_together_are_what_they_are_alone(seed):
    columns = random_columns(seed)
    thresholds, motion = [0.75, 0.5, 0.9], [None, *columns.protocol.motion]
    together = precision_by_threshold(columns, thresholds, ranges=motion)
    for position, threshold in enumerate(thresholds):
        alone = precision_by_threshold(columns, [threshold], ranges=motion)
        for one, other in zip(together, alone, strict=True):
            np.testing.assert_allclose(one[position].values, other[0].values, rtol=0, atol=1e-12)
            np.testing.assert_array_equal(one[position].objects, other[0].objects)
