from __future__ import annotations

import pickle
from multiprocessing import get_context

import numpy as np
import pytest

from ovvol_bench import DataError
from ovvol_bench.data.shapes import storage
from ovvol_bench.data.shapes.storage import RenderedWorld, World, render_world
from ovvol_bench.data.shapes.world import draw_scene, render

WORLD = World("val", 3, seed=5)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    render_world(WORLD, folder)
    return folder


def assert_rendered(stored: RenderedWorld, world: World) -> None:
    for index in range(world.videos):
        scene = draw_scene(world.split, index, world.seed)
        video = render(scene)
        assert np.array_equal(stored.frames[index], video.frames)
        assert np.array_equal(stored.masks[index], video.masks)
        ids = [thing.class_id for thing in scene.objects]
        assert stored.classes[index].tolist() == [0, *ids, *[0] * (4 - len(ids))]
        assert stored.backgrounds[index] == scene.background.kind


def refuse(*_):
    raise AssertionError("rendered again")


def test_what_is_stored_equals_what_is_rendered(cache, monkeypatch):
    monkeypatch.setattr(storage, "render", refuse)
    stored = render_world(WORLD, cache)
    monkeypatch.undo()
    assert stored.frames.shape == (3, 24, 96, 128, 3)
    assert_rendered(stored, WORLD)
    assert not stored.frames.flags.writeable


def test_a_copy_in_another_process_is_mapped_not_sent(cache):
    stored = render_world(WORLD, cache)
    sent = pickle.dumps(stored)
    assert len(sent) < 1000
    assert np.array_equal(pickle.loads(sent).frames, stored.frames)


def test_rendering_goes_on_where_it_stopped(tmp_path, monkeypatch):
    calls = []

    def fail_at_third(scene):
        calls.append(scene)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return render(scene)

    monkeypatch.setattr(storage, "render", fail_at_third)
    with pytest.raises(KeyboardInterrupt):
        render_world(WORLD, tmp_path)
    assert not (tmp_path / WORLD.key).exists(), "what has its name is whole"
    assert_rendered(render_world(WORLD, tmp_path), WORLD)
    assert len(calls) == 4
    assert [path.name for path in tmp_path.iterdir()] == [WORLD.key]


def test_several_processes_may_render_the_same_world(tmp_path):
    context = get_context("fork")
    others = [context.Process(target=render_world, args=(WORLD, tmp_path, 1)) for _ in range(2)]
    for other in others:
        other.start()
    assert_rendered(render_world(WORLD, tmp_path, 1), WORLD)
    for other in others:
        other.join()
        assert other.exitcode == 0
    assert [path.name for path in tmp_path.iterdir()] == [WORLD.key]


def test_helpers_render_too(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_WORTH_A_PROCESS", 1)
    assert_rendered(render_world(WORLD, tmp_path, 2), WORLD)


def test_other_arguments_are_another_world(cache):
    keys = {
        World(split, videos, seed).key for split in ("train", "val") for videos in (3, 4) for seed in (0, 5)
    }
    assert len(keys) == 8
    assert not np.array_equal(
        render_world(World("val", 1), cache).frames[0], render_world(WORLD, cache).frames[0]
    )


def test_a_damaged_file_is_named(tmp_path):
    render_world(World("val", 1), tmp_path)
    masks = tmp_path / World("val", 1).key / "masks.npy"
    masks.write_bytes(masks.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"masks\.npy can't be read .*Remove the folder"):
        render_world(World("val", 1), tmp_path)


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"4 MB, can't be written there .*Set dataset\.cache"):
        render_world(WORLD, tmp_path / "file")
