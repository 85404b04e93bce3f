"""Filters: which results a table shows."""

import pytest
from stored_results import as_read

from ovvol_bench.errors import DataError, SettingError
from ovvol_bench.results.frame import filtered


@pytest.fixture
def results(make_result):
    made = [
        make_result(grouper="grid"),
        make_result(grouper="kmeans", options={"num_slots": 7}),
        make_result(grouper="kmeans", options={"num_slots": 15}, seed=1),
        make_result(grouper="kmeans", options={"num_slots": 15}, seeds=[0, 1, 2], consensus=[3, 10]),
    ]
    return as_read(made)


@pytest.mark.parametrize(
    ("texts", "left"),
    [
        ((), [0, 1, 2, 3]),
        (("grouper=grid,kmeans",), [0, 1, 2, 3]),
        (("grouper=kmeans",), [1, 2, 3]),
        (("grouper.num_slots=7",), [1]),
        (("seed=1",), [2, 3]),
        (("seed=1", "grouper.num_slots=15", "consensus=null"), [2]),
        (("dataset=shapes", "split=test", "naming.merge=same_name"), [0, 1, 2, 3]),
    ],
)
def test_results_meet_all_filters_and_one_value_of_each(results, texts, left):
    assert filtered(results, texts) == [results[index] for index in left]


@pytest.mark.parametrize(
    ("texts", "error", "expected"),
    [
        (["gruper=grid"], SettingError, r"unknown filter 'gruper'\. Did you mean 'grouper'\?"),
        (["grouper.slots=7"], SettingError, r"Did you mean 'grouper\.num_slots'\?"),
        (["seed=0", "seed=1"], SettingError, "filter 'seed' is given twice"),
        (
            ["grouper=kmean"],
            DataError,
            r"empty table: none of 4 results has grouper=kmean\. Did you .*grid, km",
        ),
        (["grouper=grid", "seed=1"], DataError, "none of 4 results has grouper=grid and seed=1 together"),
        (["grouper="], SettingError, r"filter 'grouper=': expected KEY=VALUE"),
        (["=grid"], SettingError, r"filter '=grid': expected KEY=VALUE"),
    ],
)
def test_filters_that_can_not_be_met_are_one_message(results, texts, error, expected):
    with pytest.raises(error, match=expected):
        filtered(results, texts)
