"""Speed of the metrics on seeded synthetic predictions.

``OVVOL_BENCH_FRAMES`` sets the size (176126 is the full ImageNet-VID validation set):

    OVVOL_BENCH_FRAMES=176126 pytest benchmarks/test_metrics_speed.py --benchmark-enable
"""

import os
import resource

import numpy as np
import pytest

from ovvol_bench.metrics import default_metrics, evaluate, evaluate_pieces
from ovvol_bench.metrics.accumulators import CorLoc, DetectionRate, VidAP
from ovvol_bench.metrics.columns import build_columns
from ovvol_bench.metrics.protocols import PROTOCOLS
from ovvol_bench.metrics.truth import TruthTable
from ovvol_bench.predictions import Predictions
from ovvol_bench.ragged import offsets_of
from ovvol_bench.runs.predictions import PredictionWriter, read_pieces, read_predictions
from ovvol_bench.types import ClipInfo, FrameTruth

FRAMES = int(os.environ.get("OVVOL_BENCH_FRAMES", "2000"))
CLIP, CLASSES, SLOTS, GRID, SIZE = 8, 30, 15, (14, 25), (224, 400)


def boxes_on_the_grid(rng, count):
    low = rng.integers(0, (22, 11), (count, 2))
    high = np.minimum(low + rng.integers(2, 10, (count, 2)), (24, 13))
    return np.concatenate([16 * low, 16 * high + 15], axis=1).astype(np.float32)


def synthetic(frames=FRAMES, seed=0):
    """Predictions and truth: 3 to 7 segments a clip, some of them near one of 0 to 3 objects a frame."""
    rng = np.random.default_rng(seed)
    clips = max(frames // CLIP, 1)
    objects = rng.integers(0, 4, clips)
    segments = rng.integers(3, 8, clips)
    starts = offsets_of(objects)
    truth_boxes, labels = boxes_on_the_grid(rng, starts[-1]), rng.integers(1, CLASSES + 1, starts[-1])
    base = boxes_on_the_grid(rng, segments.sum())
    logits = rng.normal(0, 2, (segments.sum(), CLASSES + 1))
    near = offsets_of(segments)[:-1][objects > 0]
    base[near] = truth_boxes[starts[:-1][objects > 0]]
    logits[near, labels[starts[:-1][objects > 0]]] += rng.uniform(0, 8, len(near))
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows = np.concatenate([np.tile(np.arange(a, b), CLIP) for a, b in zip(*bounds(segments), strict=True)])
    boxes = base[rows] + 16 * rng.integers(-1, 2, (len(rows), 1))
    infos = [info_of(rng, clip, truth_boxes, labels, starts) for clip in range(clips)]
    predictions = Predictions(
        clip_ids=tuple(info.id for info in infos),
        videos=tuple(info.video for info in infos),
        frame_counts=np.full(clips, CLIP),
        segment_counts=segments,
        slot_counts=np.full(clips, SLOTS),
        grids=np.tile(GRID, (clips, 1)),
        frame_sizes=np.tile(SIZE, (clips, 1)),
        input_sizes=np.tile(SIZE, (clips, 1)),
        frame_indices=np.concatenate([info.frame_indices for info in infos]),
        boxes=boxes.astype(np.float32),
        present=rng.random(len(rows)) < 0.95,
        probabilities=scores.astype(np.float32),
        slot_map=np.zeros(clips * CLIP * GRID[0] * GRID[1], np.int16),
        segment_of_slot=np.zeros(clips * SLOTS, np.int16),
    )
    return predictions, {info.id: info for info in infos}


def bounds(counts):
    offsets = offsets_of(counts)
    return offsets[:-1], offsets[1:]


def info_of(rng, clip, boxes, labels, starts):
    own = slice(starts[clip], starts[clip + 1])
    count = starts[clip + 1] - starts[clip]
    truth = FrameTruth(
        boxes=boxes[own],
        class_ids=labels[own],
        track_ids=np.arange(count),
        occluded=np.zeros(count, bool),
        generated=rng.random(count) < 0.2,
        motion_iou=rng.uniform(0.4, 1, count).astype(np.float32),
    )
    indices = tuple(range(CLIP * clip, CLIP * clip + CLIP))
    return ClipInfo(f"clip {clip:06d}", f"video {clip // 40:04d}", indices, SIZE, (truth,) * CLIP)


@pytest.fixture(scope="module")
def data():
    return synthetic()


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    predictions, _ = data
    writer = PredictionWriter(tmp_path_factory.mktemp("predictions"))
    for start in range(0, len(predictions), 64):
        clips = np.arange(start, min(start + 64, len(predictions)))
        writer.write(list(predictions.select(clips)))
    return writer.folder


def numbers(extent):
    name = "vid-reference"
    precision = VidAP(name, motion=extent != "ap50", sweep=extent == "sweep")
    return [precision, CorLoc(name), DetectionRate(name)]


def test_all_metrics_of_both_protocols(benchmark, data):
    predictions, truth = data
    results = benchmark.pedantic(
        evaluate, setup=lambda: ((predictions, truth, default_metrics()), {}), rounds=3
    )
    assert 0 < results["ap50@vid-reference"].value < 1
    benchmark.extra_info["frames"] = len(predictions.frame_indices)
    benchmark.extra_info["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


@pytest.mark.parametrize("ties", ["group", "reference"])
def test_vid_ap_of_the_reference(benchmark, data, ties):
    predictions, truth = data
    protocol = PROTOCOLS["vid-reference"]
    columns = build_columns(predictions, list(truth.values()), protocol)
    metric = VidAP(protocol.name, ties=ties, motion=False)
    results = benchmark.pedantic(metric.score, (columns,), rounds=3)
    assert 0 < results["ap50"].value < 1


def test_columns(benchmark, data):
    predictions, truth = data
    columns = benchmark(build_columns, predictions, list(truth.values()), PROTOCOLS["vid-reference"])
    assert len(columns) == len(predictions.frame_indices)


def test_reading_a_run_of_shards(benchmark, data, folder):
    predictions, _ = data
    got = benchmark(read_predictions, folder)
    assert got.clip_ids == predictions.clip_ids


@pytest.mark.parametrize("extent", ["ap50", "motion", "sweep"])
def test_from_file_to_numbers(benchmark, data, folder, extent):
    """Reading included; the truth is a table already. The first round loads the kernels."""
    table = TruthTable.of(list(data[1].values()))
    results = benchmark.pedantic(
        lambda: evaluate(read_predictions(folder, masks=False), table, numbers(extent)), rounds=3
    )
    assert 0 < results["ap50@vid-reference"].value < 1


def test_from_file_to_numbers_in_pieces(benchmark, data, folder):
    _, truth = data
    results = benchmark.pedantic(
        lambda: evaluate_pieces(lambda: read_pieces(folder), truth, numbers("motion")), rounds=3
    )
    assert 0 < results["ap50@vid-reference"].value < 1
