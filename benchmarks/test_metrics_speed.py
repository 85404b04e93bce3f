"""Speed of the metrics on seeded synthetic predictions.

``OVVOL_BENCH_FRAMES`` sets the size (176126 is the full ImageNet-VID validation set):

    OVVOL_BENCH_FRAMES=176126 pytest benchmarks/test_metrics_speed.py --benchmark-enable
"""

import os
import resource

import pytest
from synthetic_vid import synthetic, write_shards

from ovvol_bench.metrics import default_metrics, evaluate
from ovvol_bench.metrics.by_video import by_video
from ovvol_bench.metrics.columns import build_columns
from ovvol_bench.metrics.corloc import CorLoc
from ovvol_bench.metrics.detrate import DetectionRate
from ovvol_bench.metrics.errors import Errors
from ovvol_bench.metrics.protocols import PROTOCOLS
from ovvol_bench.metrics.truth import TruthTable
from ovvol_bench.metrics.vid_ap import VidAP
from ovvol_bench.runs.predictions import read_predictions

FRAMES = int(os.environ.get("OVVOL_BENCH_FRAMES", "2000"))


@pytest.fixture(scope="module")
def data():
    return synthetic(FRAMES)


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    predictions, _ = data
    return write_shards(predictions, tmp_path_factory.mktemp("predictions"))


def numbers(extent, ties="earlier"):
    name = "vid-reference"
    precision = VidAP(protocol=name, ties=ties, motion=extent != "ap50", sweep=extent == "sweep")
    return [precision, CorLoc(protocol=name), DetectionRate(protocol=name)]


def test_all_metrics_of_both_protocols(benchmark, data):
    predictions, truth = data
    results = benchmark.pedantic(
        evaluate, setup=lambda: ((predictions, truth, default_metrics()), {}), rounds=3
    )
    assert 0 < results["ap50@vid-reference"].value < 1
    benchmark.extra_info["frames"] = len(predictions.frame_indices)
    benchmark.extra_info["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


@pytest.mark.parametrize("ties", ["earlier", "group", "reference"])
def test_vid_ap_of_the_reference(benchmark, data, ties):
    predictions, truth = data
    protocol = PROTOCOLS["vid-reference"]
    columns = build_columns(predictions, list(truth.values()), protocol)
    metric = VidAP(protocol=protocol.name, ties=ties, motion=False)
    results = benchmark.pedantic(metric.score, (columns,), rounds=3)
    assert 0 < results["ap50"].value < 1


def test_columns(benchmark, data):
    predictions, truth = data
    columns = benchmark(build_columns, predictions, list(truth.values()), PROTOCOLS["vid-reference"])
    assert len(columns) == len(predictions.frame_indices)


@pytest.mark.parametrize("extent", ["ap50", "motion", "sweep"])
def test_from_file_to_numbers(benchmark, data, folder, extent):
    """Reading included; the truth is a table already."""
    table = TruthTable.of(list(data[1].values()))
    results = benchmark.pedantic(
        lambda: evaluate(read_predictions(folder, masks=False), table, numbers(extent)), rounds=3
    )
    assert 0 < results["ap50@vid-reference"].value < 1


def test_numbers_by_video(benchmark, data):
    predictions, truth = data
    table, metrics = TruthTable.of(list(truth.values())), numbers("motion")
    found = benchmark.pedantic(by_video, (predictions, table, metrics), rounds=3)
    assert found.terms["ap50@vid-reference"].value > 0


@pytest.mark.parametrize("gains", [False, True])
def test_error_causes(benchmark, data, gains):
    predictions, truth = data
    metric = Errors(protocol="vid-reference", gains=gains)
    columns = build_columns(predictions, list(truth.values()), PROTOCOLS[metric.protocol])
    results = benchmark.pedantic(metric.score, (columns,), rounds=3)
    assert 0 < results["right_objects"].value < 1
