"""Speed of every way to read clips of 224 x 400 from 720p, one worker; and that all of them read the same.

``OVVOL_BENCH_FRAMES`` sets the frames of a video; without it videos are short, small, and read once:

    OVVOL_BENCH_FRAMES=240 pytest benchmarks/test_reading_speed.py --benchmark-enable
"""

import os

import numpy as np
import pytest
from readers import SIZE, STORED, WAYS, clips, write_inputs

FRAMES = int(os.environ.get("OVVOL_BENCH_FRAMES", "0"))
COUNT = FRAMES or 40
CASES = [
    (way, name, pattern)
    for way in WAYS
    for name, pattern in (
        [("jpeg", "sequential"), ("jpeg", "random")]
        if way.of_jpegs
        else [(f"gop {gop}", pattern) for gop in (250, 12) for pattern in ("sequential", "random")]
    )
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_inputs(tmp_path_factory.mktemp("frames"), COUNT, STORED if FRAMES else (288, 512))


@pytest.fixture(scope="module")
def expected(inputs):
    """Frame 5, as the harness reads its JPEG."""
    return 255 * WAYS[0].open(inputs["jpeg"], COUNT)([5])[0]


@pytest.mark.parametrize(("way", "name", "pattern"), CASES, ids=lambda value: getattr(value, "name", value))
def test_reading(benchmark, inputs, expected, way, name, pattern):
    if not way.installed:
        pytest.skip(f"{way.needs} is not installed")
    todo = clips(pattern, COUNT)[: None if FRAMES else 2]
    read = way.open(inputs[name], COUNT)

    def read_all():
        return [read(places).shape for places in todo]

    shapes = benchmark.pedantic(read_all, rounds=3 if FRAMES else 1, warmup_rounds=1 if FRAMES else 0)
    assert set(shapes) == {(8, *SIZE, 3)}
    (frame,) = read([5])
    scale = 255 if frame.dtype == np.float32 else 1
    assert np.abs(scale * frame.astype(np.float32) - expected).mean() < 8, "another frame, or other colours"
    if benchmark.stats:
        benchmark.extra_info["frames a second"] = sum(map(len, todo)) / benchmark.stats.stats.median
