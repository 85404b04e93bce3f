"""AP of tracks, and HOTA with its kin, on synthetic predictions whose segments are tracks of their clips.

``OVVOL_BENCH_FRAMES`` sets the size:

    OVVOL_BENCH_FRAMES=10000 pytest benchmarks/test_tracks_speed.py --benchmark-enable
"""

import os
import resource

import pytest
from synthetic_vid import synthetic

from ovvol_bench.detections import Frames, detections_of
from ovvol_bench.metrics.tracking import Tracking
from ovvol_bench.metrics.truth import TruthTable
from ovvol_bench.metrics.tube_ap import TubeAP


@pytest.fixture(scope="module")
def data():
    predictions, truth = synthetic(int(os.environ.get("OVVOL_BENCH_FRAMES", "2000")))
    table = TruthTable.of(list(truth.values()))
    return predictions, Frames.of(table.infos), table


@pytest.mark.parametrize("labels", ["top1", "all"])
def test_tube_ap(benchmark, data, labels):
    predictions, frames, table = data
    detections = detections_of(predictions, frames, labels)
    results = benchmark.pedantic(TubeAP(labels=labels).score, (detections, table), rounds=1)
    assert 0 < next(iter(results.values())).value < 1
    report(benchmark, detections)


def test_tracking(benchmark, data):
    pytest.importorskip("trackeval", reason="the extra 'tracking' is not installed")
    predictions, frames, table = data
    detections = detections_of(predictions, frames)
    results = benchmark.pedantic(Tracking().score, (detections, table), rounds=1)
    assert 0 < results["hota_clip"].value < 1
    report(benchmark, detections)


def report(benchmark, detections):
    benchmark.extra_info["detections"] = len(detections)
    benchmark.extra_info["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
