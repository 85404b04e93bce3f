"""What comes together in one row, and what sets rows apart."""

import math

import pytest
from stored_results import as_read

from ovvol_bench.results.frame import coverage_of, merged, results_frame, telling_settings


def rows_of(results):
    """Rows and numbers of results, seeds merged."""
    return merged(results_frame(as_read(results)))


def told(results):
    rows, _ = rows_of(results)
    return telling_settings(rows)


def test_seeds_come_together_as_mean_and_sample_deviation(make_result):
    _, numbers = rows_of([make_result(seed=seed, scores={"ap50": 0.1 * seed}) for seed in (1, 2, 3)])
    assert numbers["ap50@vid-reference"].to_numpy().tolist() == [pytest.approx([0.2, 0.1, 3])]


def test_one_seed_has_no_deviation_and_no_seed_is_undefined(make_result):
    _, numbers = rows_of([make_result(scores={"ap50": None, "detrate": 0.0})])
    ((mean, std, count),) = numbers["ap50@vid-reference"].to_numpy().tolist()
    assert math.isnan(mean) and math.isnan(std) and count == 0
    ((mean, std, count),) = numbers["detrate@vid-reference"].to_numpy().tolist()
    assert (mean, count) == (0.0, 1) and math.isnan(std)


def test_a_seed_that_ran_on_two_machines_counts_once_but_its_speeds_stay_apart(make_result):
    here = make_result(speed=2.0)
    there = make_result(speed=50.0, machine={"gpu": "H100"}, date="2026-10-01T00:00:00+00:00")
    _, numbers = rows_of([here, there])
    assert numbers["ap50@vid-reference", "count"].tolist() == [1]
    machines = ("H100", "Xeon, 2 cores, torch 2.15")
    assert [numbers[f"clips_per_s [{each}]", "mean"].item() for each in machines] == [50.0, 2.0]


def test_rows_of_the_same_names_tell_their_differing_settings(make_result):
    results = [
        make_result(options={"num_slots": 8, "iterations": 3}),
        make_result(options={"num_slots": 15, "iterations": 3}, precision="bfloat16"),
        make_result(grouper="kmeans"),
    ]
    assert told(results) == [
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
    assert told(same) == [""]
    assert told([*same, with_weights("a.safetensors", "cd" * 32)])[1] == "grouper.weights=cdcdcdcd"


def test_coverage_is_the_least_of_the_seeds(make_result):
    short = make_result(seed=1, coverage={"clips": 48, "done": 36, "skipped": {"decode": 12}})
    rows, _ = rows_of([make_result(), short])
    assert coverage_of(rows["done"].iloc[0]) == 0.75


def test_a_consensus_of_seeds_is_one_result_apart_from_single_seeds(make_result):
    several = make_result(seeds=[0, 1, 2], consensus=[3, 10])
    assert told([make_result(), several])[1] == "consensus=[3, 10], seeds merged=3"
