import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovvol_bench.metrics.ranking import descending, descending_in_lists, precision_area

SCORES = np.array([0.1, 0.5, 0.5, 0.9])


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
