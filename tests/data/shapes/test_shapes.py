"""The rendered world: deterministic, honest about its splits, the same from memory and from disk."""

from __future__ import annotations

import hashlib
import pickle
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from ovvol_bench import DataError, SettingError
from ovvol_bench.data.shapes.dataset import Shapes, VideoTruth, open_shapes
from ovvol_bench.data.shapes.storage import write_split
from ovvol_bench.data.shapes.world import (
    BACKGROUNDS,
    HELD_OUT,
    SPLITS,
    WORLD_VERSION,
    _paint,
    _reach,
    draw_scene,
    render,
    shapes_vocabulary,
)


def names_in(split, videos=150):
    classes = shapes_vocabulary().classes
    return {classes[o.class_id - 1].name for i in range(videos) for o in draw_scene(split, i).objects}


def test_same_arguments_same_pixels():
    first, again = (render(draw_scene("test", 3)) for _ in range(2))
    assert np.array_equal(first.frames, again.frames)
    assert not np.array_equal(first.frames, render(draw_scene("test", 3, seed=1)).frames)


def test_a_change_of_the_world_needs_a_new_version():
    digest = hashlib.sha256()
    for split in SPLITS:
        for truth in render(draw_scene(split, 0)).truth:
            digest.update(truth.boxes.tobytes() + truth.class_ids.tobytes())
    assert (WORLD_VERSION, digest.hexdigest()[:16]) == (1, "34c46394f0ae8038")


def test_held_out_names_are_seen_in_test_only():
    assert not names_in("train") & HELD_OUT
    assert not names_in("val") & HELD_OUT
    assert names_in("test") >= HELD_OUT
    held_words = {word for name in HELD_OUT for word in name.split()}
    assert held_words <= {word for name in names_in("train") for word in name.split()}


def test_splits_share_no_hue_period_or_angle():
    angles = {
        s: {round(draw_scene(s, i).background.angle / np.pi * 12 - 0.5) for i in range(200)} for s in SPLITS
    }
    assert not angles["train"] & angles["test"]
    assert not angles["val"] & angles["test"]
    assert set(BACKGROUNDS["test"]) - set(BACKGROUNDS["train"])


def test_boxes_enclose_the_visible_masks():
    for index in range(4):
        for truth in render(draw_scene("test", index)).truth:
            for box, mask in zip(truth.boxes, truth.masks, strict=True):
                rows, columns = np.nonzero(mask)
                assert box.tolist() == [columns.min(), rows.min(), columns.max(), rows.max()]


def test_there_is_occlusion_entering_and_one_to_four_objects():
    videos = [render(draw_scene("test", i)) for i in range(20)]
    counts = [len(truth) for video in videos for truth in video.truth]
    assert max(counts) > 1
    assert any(truth.occluded.any() for video in videos for truth in video.truth)
    assert any(len(set(map(len, video.truth))) > 1 for video in videos)
    assert {len(draw_scene("test", i).objects) for i in range(50)} == {1, 2, 3, 4}


def test_objects_move_and_so_does_the_background():
    video = render(draw_scene("test", 1))
    background = (video.masks[0] == 0) & (video.masks[-1] == 0)
    moved = np.abs(video.source[0].astype(int) - video.source[-1])[background]
    assert moved.mean() > 1


def test_motion_iou_of_a_still_object_is_one_and_of_moving_ones_less():
    values = np.concatenate([t.motion_iou for i in range(10) for t in render(draw_scene("test", i)).truth])
    assert np.isfinite(values).all()
    assert 0 <= values.min() < 0.7 < values.max() <= 1


def test_clips_cover_every_frame_once():
    dataset = Shapes("val", videos=2)
    frames = [(dataset.info(i).video, t) for i in range(len(dataset)) for t in dataset.info(i).frame_indices]
    assert len(frames) == len(set(frames)) == 48
    clip = dataset.clip(4)
    assert clip.frames.shape == (8, 96, 128, 3)
    assert clip.frames.dtype == np.float32
    assert 0 <= clip.frames.min() < clip.frames.max() <= 1
    with pytest.raises(IndexError):
        dataset.info(6)


@pytest.fixture
def rendered_scenes(monkeypatch):
    """The scenes that the dataset renders, as it does."""
    scenes = []

    def counted(scene):
        scenes.append(scene)
        return render(scene)

    monkeypatch.setattr("ovvol_bench.data.shapes.dataset.render", counted)
    return scenes


def test_clips_are_listed_before_anything_is_rendered(rendered_scenes):
    dataset = Shapes("val", videos=12)
    infos = [dataset.info(index) for index in range(len(dataset))]
    assert all(len(info.truth) == 8 for info in infos)
    assert not rendered_scenes
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(dataset.clip, range(len(dataset))))
    assert len(rendered_scenes) == 12, "one rendering a video, although two threads read its clips"
    truths = [tuple(info.truth) for info in infos]
    assert len(rendered_scenes) == 12, "truth of clips that were listed comes with their pixels"
    assert len(truths[4]) == 8
    assert np.array_equal(truths[4][0].boxes, render(draw_scene("val", 1)).truth[8].boxes)


def test_truth_that_a_run_keeps_takes_little_memory():
    rendered = render(draw_scene("val", 0)).truth
    truths = [VideoTruth(lambda: None) for _ in range(10)]
    tracemalloc.start()
    for truth in truths:
        truth.keep(rendered)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept / len(truths) < sum(frame.masks.nbytes for frame in rendered) / 30
    for frame, was in zip(truth.frames, rendered, strict=True):
        assert np.array_equal(frame.pixels, was.masks)
        assert np.array_equal(frame.boxes, was.boxes)


def test_truth_alone_is_rendered_when_it_is_looked_at(rendered_scenes):
    truth = Shapes("val", videos=2).info(1).truth
    assert truth[2:][0] is truth[2]
    assert len(rendered_scenes) == 1
    sent = pickle.loads(pickle.dumps(truth))
    assert [len(frame) for frame in sent] == [len(frame) for frame in truth]


def test_nothing_of_an_object_lies_outside_of_where_it_is_painted():
    """Pictures with painting confined to where an object can be are those of painting every pixel."""
    ys, xs = np.mgrid[:96, :128].astype(float)
    for index in range(30):
        for thing in draw_scene("test", index).objects:
            for t in (0, 12, 23):
                covered, _ = _paint(thing, t, xs, ys)
                covered[_reach(thing, t)] = 0
                assert not covered.any(), f"{thing.form} of video {index}, frame {t}"


def test_fingerprint_tells_datasets_apart():
    prints = {Shapes(s, videos=v, seed=d).fingerprint() for s in SPLITS for v in (1, 2) for d in (0, 1)}
    assert len(prints) == 12
    assert Shapes("val", 2).fingerprint() == Shapes("val", 2).fingerprint()


@pytest.mark.parametrize("bad", [{"videos": 0}, {"videos": 1, "frames_per_clip": 7}])
def test_numbers_out_of_range_name_the_setting(bad):
    with pytest.raises(SettingError, match=r"dataset\."):
        Shapes("test", **bad)


def test_written_tree_has_both_lists_masks_and_movies(tmp_path):
    assert list(write_split(tmp_path, "val", 2)) == ["shapes_val_00000000", "shapes_val_00000001"]
    lists = tmp_path / "ImageSets/VID"
    assert (lists / "VID_val_videos.txt").read_text().splitlines()[1] == "val/shapes_val_00000001 25 0 24"
    assert (lists / "val.txt").read_text().splitlines()[24] == "shapes_val_00000001/000000 25"
    assert len(list((tmp_path / "Masks/VID/val/shapes_val_00000001").iterdir())) == 24
    assert (tmp_path / "Videos/val/shapes_val_00000001.mp4").stat().st_size > 1000
    written = {file: file.stat().st_mtime_ns for file in (tmp_path / "Data").rglob("*.JPEG")}
    list(write_split(tmp_path, "val", 2))
    assert all(file.stat().st_mtime_ns == before for file, before in written.items())


def test_rendered_and_written_datasets_are_equal(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    list(write_split(tmp_path / "tree", "val", 2))
    written, rendered = open_shapes(path=tmp_path / "tree", split="val"), open_shapes(split="val", videos=2)
    assert len(written) == len(rendered)
    for index in range(len(rendered)):
        assert np.array_equal(written.clip(index).frames, rendered.clip(index).frames)
        for one, other in zip(written.info(index).truth, rendered.info(index).truth, strict=True):
            for field in ("boxes", "class_ids", "track_ids", "occluded", "generated", "motion_iou"):
                assert np.array_equal(getattr(one, field), getattr(other, field)), field
            assert np.array_equal(one.pixels, other.pixels)


def test_masks_of_a_written_tree_are_checked(tmp_path):
    list(write_split(tmp_path, "val", 1))
    settings = {"path": tmp_path, "split": "val", "cache": str(tmp_path / "cache")}
    before = open_shapes(**settings).fingerprint()
    file = tmp_path / "Masks/VID/val/shapes_val_00000000/000003.png"
    cv2.imwrite(str(file), np.zeros((96, 128), np.uint8))
    assert open_shapes(**settings).fingerprint() != before, "the cache follows the masks"
    cv2.imwrite(str(file), np.zeros((96, 120), np.uint8))
    with pytest.raises(DataError, match=r"000003\.png is 96 x 120 pixels .* expected 96 x 128"):
        len(open_shapes(**settings))
    cv2.imwrite(str(file), np.zeros((96, 128, 3), np.uint8))
    with pytest.raises(DataError, match=r"000003\.png has pixels of uint8 .* expected one channel"):
        len(open_shapes(**settings))
    file.unlink()
    with pytest.raises(DataError, match=r"000003\.png does not exist"):
        len(open_shapes(**settings))


def test_unwritable_folder_is_one_clear_error(tmp_path):
    (tmp_path / "taken").write_text("a file, no folder")
    with pytest.raises(DataError, match="taken"):
        list(write_split(tmp_path / "taken", "val", 1))
