"""What comes together in one row, and what sets rows apart."""

import math

import pytest
from stored_results import as_read

from ovvol_bench.results import rows as module
from ovvol_bench.results.rows import Stat, telling_settings


def group_rows(results):
    return module.group_rows(as_read(results))


def test_seeds_come_together_as_mean_and_sample_deviation(make_result):
    (row,) = group_rows([make_result(seed=seed, scores={"ap50": 0.1 * seed}) for seed in (1, 2, 3)])
    stat = row.metric("ap50@vid-reference")
    assert (stat.mean, stat.std, stat.n) == pytest.approx((0.2, 0.1, 3))


def test_one_seed_has_no_deviation_and_no_seed_is_undefined(make_result):
    (row,) = group_rows([make_result(scores={"ap50": None, "detrate": 0.0})])
    assert math.isnan(row.metric("ap50@vid-reference").mean)
    assert row.metric("detrate@vid-reference") == Stat(0.0, None, 1)
    assert row.metric("unheard@of").n == 0


def test_a_seed_that_ran_on_two_machines_counts_once_but_its_speeds_stay_apart(make_result):
    here = make_result(speed=2.0)
    there = make_result(speed=50.0, machine={"gpu": "H100"}, date="2026-10-01T00:00:00+00:00")
    (row,) = group_rows([here, there])
    assert row.metric("ap50@vid-reference").n == 1
    assert (row.speed("H100").mean, row.speed("Xeon, 2 cores, torch 2.15").mean) == (50.0, 2.0)


def test_rows_of_the_same_names_tell_their_differing_settings(make_result):
    rows = group_rows(
        [
            make_result(options={"num_slots": 8, "iterations": 3}),
            make_result(options={"num_slots": 15, "iterations": 3}, precision="bfloat16"),
            make_result(grouper="kmeans"),
        ]
    )
    assert [telling_settings(rows)[id(row)] for row in rows] == [
        "grouper.num_slots=8, precision=float32",
        "grouper.num_slots=15, precision=bfloat16",
        "",
    ]


def test_where_weights_lie_sets_no_rows_apart_but_their_content_does(make_result):
    def with_weights(place, digest):
        result = make_result(options={"weights": place})
        result["grouper"] |= {"weights_sha256": digest, "located": ["weights"]}
        return result

    same = [with_weights("a.safetensors", "ab" * 32), with_weights("b.safetensors", "ab" * 32)]
    assert len(group_rows(same)) == 1
    rows = group_rows([*same, with_weights("a.safetensors", "cd" * 32)])
    assert telling_settings(rows)[id(rows[1])] == "grouper.weights=cdcdcdcd"


def test_coverage_is_the_least_of_the_seeds(make_result):
    short = make_result(seed=1, coverage={"clips": 48, "done": 36, "skipped": {"decode": 12}})
    (row,) = group_rows([make_result(), short])
    assert row.coverage == 0.75


def test_a_consensus_of_seeds_is_one_result_apart_from_single_seeds(make_result):
    merged = make_result(seeds=[0, 1, 2], consensus=[3, 10])
    rows = group_rows([make_result(), merged])
    assert telling_settings(rows)[id(rows[1])] == "consensus=[3, 10], seeds merged=3"
