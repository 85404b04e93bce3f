"""Speed of the predictions file: shards as a run writes them, and parquet.

``OVVOL_BENCH_FRAMES`` sets the size (176126 is the full ImageNet-VID validation set):

    OVVOL_BENCH_FRAMES=176126 pytest benchmarks/test_predictions_speed.py --benchmark-enable
"""

import os
from itertools import count

import numpy as np
import pytest
from synthetic_vid import synthetic, write_shards

from ovvol_bench.predictions import same_content
from ovvol_bench.runs.predictions import read_predictions, to_parquet

FRAMES = int(os.environ.get("OVVOL_BENCH_FRAMES", "2000"))
ROUNDS = 3


@pytest.fixture(scope="module")
def predictions():
    return synthetic(FRAMES)[0]


@pytest.fixture(scope="module")
def folder(predictions, tmp_path_factory):
    return write_shards(predictions, tmp_path_factory.mktemp("predictions"))


def assert_equal(got, expected):
    assert got.clip_ids == expected.clip_ids
    some = np.arange(0, len(expected), max(1, len(expected) // 20))
    pairs = zip(got.select(some), expected.select(some), strict=True)
    assert all(same_content(one, other) for one, other in pairs)


def note_size(benchmark, paths):
    benchmark.extra_info["bytes a frame"] = sum(path.stat().st_size for path in paths) / FRAMES


def test_writing_shards(benchmark, predictions, tmp_path):
    rounds = count()
    setup = lambda: ((predictions, tmp_path / str(next(rounds))), {})  # noqa: E731
    written = benchmark.pedantic(write_shards, setup=setup, rounds=ROUNDS)
    assert_equal(read_predictions(written), predictions)
    note_size(benchmark, written.glob("*.safetensors"))


@pytest.mark.parametrize("masks", [True, False])
def test_reading_shards(benchmark, predictions, folder, masks):
    got = benchmark(read_predictions, folder, masks)
    if masks:
        assert_equal(got, predictions)
    assert np.array_equal(got.boxes, predictions.boxes)


def test_writing_parquet(benchmark, predictions, tmp_path):
    path = tmp_path / "predictions.parquet"
    benchmark.pedantic(to_parquet, (predictions, path), rounds=ROUNDS)
    assert_equal(read_predictions(path), predictions)
    note_size(benchmark, [path])


def test_reading_parquet(benchmark, predictions, tmp_path):
    path = tmp_path / "predictions.parquet"
    to_parquet(predictions, path)
    assert_equal(benchmark(read_predictions, path), predictions)
