"""COCO's AP by pycocotools and by the package of the extra ``coco``, on seeded synthetic predictions.

``OVVOL_BENCH_FRAMES`` sets the size, ``OVVOL_BENCH_LABELS`` whether boxes come once for ``all`` classes or
for the best one (``top1``). One backend at a time, as memory is measured too:

    OVVOL_BENCH_FRAMES=50000 pytest benchmarks/test_coco_speed.py --benchmark-enable -k hotcoco
"""

import os
import resource

import pytest
from synthetic_vid import synthetic

from ovvol_bench.detections import Frames, detections_of
from ovvol_bench.metrics.coco_ap import CocoAP
from ovvol_bench.metrics.truth import TruthTable

LABELS = os.environ.get("OVVOL_BENCH_LABELS", "top1")


@pytest.fixture(scope="module")
def data():
    predictions, truth = synthetic(int(os.environ.get("OVVOL_BENCH_FRAMES", "2000")))
    table = TruthTable.of(list(truth.values()))
    return detections_of(predictions, Frames.of(table.infos), LABELS), table


@pytest.mark.parametrize("backend", ["pycocotools", "hotcoco"])
def test_coco_ap(benchmark, data, backend):
    if backend != "pycocotools":
        pytest.importorskip(backend, reason="the extra 'coco' is not installed")
    detections, table = data
    metric = CocoAP(backend=backend)
    results = benchmark.pedantic(metric.score, (detections, table), rounds=1)
    assert 0 < results["ap50"].value < 1
    benchmark.extra_info["detections"] = len(detections)
    benchmark.extra_info["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
