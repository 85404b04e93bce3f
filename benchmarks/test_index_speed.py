"""Speed of the index of an ILSVRC-VID tree: the first start parses all XML files, later ones look at each.

``OVVOL_BENCH_FRAMES`` sets the size (176126 is the full ImageNet-VID validation set):

    OVVOL_BENCH_FRAMES=176126 pytest benchmarks/test_index_speed.py --benchmark-enable
"""

import os

import pytest
from synthetic_vid import synthetic, write_tree

from ovvol_bench.data.imagenet_vid.dataset import find_frames, load_index
from ovvol_bench.data.imagenet_vid.tree import find_tree, read_videos
from ovvol_bench.naming.vocabulary import imagenet_vid

FRAMES = int(os.environ.get("OVVOL_BENCH_FRAMES", "200"))


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    infos = synthetic(FRAMES)[1].values()
    lines = [f"{info.video}/{frame:06d}\n" for info in infos for frame in info.frame_indices]
    (root / "ImageSets/VID").mkdir(parents=True)
    (root / "ImageSets/VID/frames.txt").write_text("".join(lines))
    return find_tree(write_tree(infos, root), "val")


def start(tree, cache, listed):
    source = tree.lists / "frames.txt" if listed else None
    videos = find_frames(tree, read_videos(tree, source).videos)
    return load_index(tree, videos, imagenet_vid(), cache)


def test_first_start(benchmark, tree, tmp_path_factory):
    def setup():
        return (tree, tmp_path_factory.mktemp("cache"), False), {}

    index = benchmark.pedantic(start, setup=setup, rounds=3)
    assert len(index.frame_numbers) == FRAMES // 8 * 8
    if benchmark.stats:
        benchmark.extra_info["files a second"] = FRAMES / benchmark.stats.stats.median


@pytest.mark.parametrize("listed", [False, True], ids=["folders", "list"])
def test_later_start(benchmark, tree, tmp_path_factory, listed):
    cache = tmp_path_factory.mktemp("cache")
    first = start(tree, cache, listed)
    again = benchmark.pedantic(start, (tree, cache, listed), rounds=5)
    assert (again.boxes == first.boxes).all()
