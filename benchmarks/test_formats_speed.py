"""Speed of reading and writing files of other programs, on seeded random boxes.

``OVVOL_BENCH_DETECTIONS`` sets how many boxes a file has:

    OVVOL_BENCH_DETECTIONS=1000000 pytest benchmarks/test_formats_speed.py --benchmark-enable
"""

import os
import resource

import numpy as np
import pytest

from ovvol_bench.data.base import FileIds
from ovvol_bench.detections import Detections, Frames
from ovvol_bench.formats import FORMATS
from ovvol_bench.formats.entries import Content
from ovvol_bench.masks import RleMasks

COUNT = int(os.environ.get("OVVOL_BENCH_DETECTIONS", "2000"))
VIDEOS, LENGTH, CLASSES, SIZE = 50, 240, 30, (375, 500)
BOXES = tuple(name for name in FORMATS if name != "youtube-vis")


@pytest.fixture(scope="module")
def content():
    names = tuple(f"val/{video:08d}" for video in range(VIDEOS))
    frames = Frames(
        names,
        np.tile(SIZE, (VIDEOS, 1)),
        np.arange(VIDEOS).repeat(LENGTH),
        np.tile(np.arange(LENGTH), VIDEOS),
    )
    places = [(name, index) for name in names for index in range(LENGTH)]
    classes = range(1, CLASSES + 1)
    ids = FileIds(
        dict(enumerate(names, 1)), dict(enumerate(places, 1)), dict(zip(classes, classes, strict=True))
    )
    return Content(frames, ids, ("none", *(f"class {each}" for each in classes)))


@pytest.fixture(scope="module")
def found(content):
    rng = np.random.default_rng(0)
    corners = np.sort(rng.uniform(0, 1, (COUNT, 2, 2)), axis=1) * (SIZE[1] - 2, SIZE[0] - 2)
    frame = np.sort(rng.integers(0, len(content.frames), COUNT))
    return Detections(
        content.frames,
        frame,
        (corners + np.array([[0, 0], [1, 1]])).reshape(COUNT, 4).astype(np.float32),
        rng.integers(1, CLASSES + 1, COUNT),
        rng.uniform(0, 1, COUNT),
        np.arange(COUNT),
        CLASSES,
    )


@pytest.fixture(scope="module")
def masked(found):
    """A tenth of the detections, with masks of filled boxes."""
    from pycocotools import mask

    some = found.keep(np.arange(0, COUNT, 10))
    x1, y1, x2, y2 = some.boxes.astype(np.float64).T
    drawn = mask.frPyObjects(np.stack([x1, y1, x2 - x1 + 1, y2 - y1 + 1], axis=1), *SIZE)
    runs = tuple(each["counts"] for each in drawn)
    return Detections(
        some.frames, some.frame, RleMasks(SIZE, runs).boxes(), *vars_of(some), some.classes, runs
    )


def vars_of(some):
    return some.class_ids, some.scores, some.tracks


def measure(benchmark, what, count):
    result = benchmark.pedantic(what, rounds=1)
    benchmark.extra_info["detections"] = count
    benchmark.extra_info["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return result


@pytest.mark.parametrize("name", BOXES)
def test_reading_boxes(benchmark, tmp_path, content, found, name):
    path = tmp_path / "found"
    FORMATS[name].write(found, content, path)
    again, _ = measure(benchmark, lambda: FORMATS[name].read(path, content, "fail"), COUNT)
    assert len(again) == COUNT


@pytest.mark.parametrize("name", BOXES)
def test_writing_boxes(benchmark, tmp_path, content, found, name):
    path = tmp_path / "found"
    measure(benchmark, lambda: FORMATS[name].write(found, content, path), COUNT)
    assert path.exists()


@pytest.mark.parametrize("name", ["coco", "coco-vid", "youtube-vis"])
def test_reading_masks(benchmark, tmp_path, content, masked, name):
    path = tmp_path / "found"
    FORMATS[name].write(masked, content, path)
    again, _ = measure(benchmark, lambda: FORMATS[name].read(path, content, "fail"), len(masked))
    assert len(again) == len(masked)
