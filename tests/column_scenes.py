"""Columns for tests of metrics: random frames that are full of doubt, and scenes drawn by hand."""

import numpy as np
import pytest
from hypothesis import strategies as st

from ovvol_bench.metrics.columns import Columns, TruthColumns
from ovvol_bench.metrics.protocols import PROTOCOLS
from ovvol_bench.metrics.scores import ScoreList, ScoreTable

CLASSES = 3
SEEDS = st.integers(0, 2**32 - 1)
BOTH = pytest.mark.parametrize("protocol", list(PROTOCOLS))


def columns_of(protocol, counts, boxes, scores, truth):
    return Columns(PROTOCOLS[protocol], np.array(counts), np.array(boxes, np.float32), scores, truth)


def random_boxes(rng, count):
    """Close together, some of them padding or without area."""
    low = rng.integers(-1, 5, (count, 2))
    return np.concatenate([low, low + rng.integers(0, 7, (count, 2))], axis=1).astype(np.float32)


def random_columns(seed, protocol):
    rng = np.random.default_rng(seed)
    counts, objects = rng.integers(0, 5, (2, int(rng.integers(0, 5))))
    boxes, true = int(counts.sum()), int(objects.sum())
    levels = [0.1, 0.2, 0.4]
    table = ScoreTable(
        rng.choice(levels, (boxes + 1, CLASSES + 1)).astype(np.float32), rng.integers(0, boxes + 1, boxes)
    )
    scores = ScoreList(rng.integers(0, CLASSES + 1, boxes), rng.choice(levels, boxes), CLASSES)
    truth = TruthColumns(
        counts=objects,
        boxes=random_boxes(rng, true),
        classes=rng.integers(1, CLASSES + 1, true),
        ignored=(rng.random(true) < 0.3) & (protocol == "vid-devkit"),
        motion=np.full(true, np.nan, np.float32),
    )
    chosen = table if rng.random() < 0.5 else scores
    return columns_of(protocol, counts, random_boxes(rng, boxes), chosen, truth)


def scene(boxes, objects, protocol="vid-devkit"):
    """One frame: boxes are (corners, name[, score]), objects (corners, class[, ignored])."""
    boxes = [(*box, 0.5)[:3] for box in boxes]
    objects = [(*each, False)[:3] for each in objects]
    corners, labels, ignored = zip(*objects, strict=True) if objects else ((), (), ())
    truth = TruthColumns(
        counts=np.array([len(objects)]),
        boxes=np.array(corners, np.float32).reshape(-1, 4),
        classes=np.array(labels, np.int64),
        ignored=np.array(ignored, bool),
        motion=np.full(len(objects), np.nan, np.float32),
    )
    places, names, scores = zip(*boxes, strict=True) if boxes else ((), (), ())
    found = ScoreList(np.array(names, np.int64), np.array(scores), CLASSES)
    return columns_of(protocol, [len(boxes)], np.array(places, np.float32).reshape(-1, 4), found, truth)
