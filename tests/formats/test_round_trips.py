"""What a format can hold comes back to the last bit; what it can't is what it says."""

from dataclasses import replace

import numpy as np
import pytest
from formats.samples import CONTENT, detections, one
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ovvol_bench.errors import DataError, SettingError
from ovvol_bench.formats import FORMATS, coco, coco_vid, detect, format_of, mot, vid_devkit, youtube_vis
from ovvol_bench.masks import RleMasks

COLUMNS = ("frame", "boxes", "class_ids", "scores", "tracks")
MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def round_trip(form, found, folder):
    path = folder / f"{form}{FORMATS[form].suffix}"
    FORMATS[form].write(found, CONTENT, path)
    if len(found):
        assert detect(path).name == form
    again, report = FORMATS[form].read(path, CONTENT, "fail")
    assert report.detections == len(again)
    assert not report.dropped
    return again


def assert_same(found, again, columns=COLUMNS):
    for name in columns:
        first, second = getattr(found, name), getattr(again, name)
        assert first.dtype == second.dtype or name == "boxes", name  # files say them in any precision
        assert np.array_equal(first, second), name


@pytest.fixture
def folder(tmp_path_factory):
    return lambda: tmp_path_factory.mktemp("file")


FOLDER = settings(MANY, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("form", [coco.NAME, coco_vid.NAME])
@pytest.mark.parametrize("masks", [False, True])
@FOLDER
@given(data=st.data())
def test_coco_holds_boxes_tracks_and_masks(form, masks, data, folder):
    found = data.draw(detections(masks=masks))
    again = round_trip(form, found, folder())
    assert_same(found, again)
    assert again.masks == (found.masks or None)


@FOLDER
@given(found=detections())
def test_the_devkit_holds_boxes(found, folder):
    again = round_trip(vid_devkit.NAME, found, folder())
    assert_same(found, again, COLUMNS[:4])
    assert (again.tracks == -1).all()


@FOLDER
@given(found=detections())
def test_mot_holds_boxes_and_tracks(found, folder):
    assert_same(found, round_trip(mot.NAME, found, folder()))


@FOLDER
@given(found=detections(masks=True))
def test_youtube_vis_holds_tracks_of_one_class_and_score(found, folder):
    score_of = {}
    track = np.where(found.tracks < 0, 100 + np.arange(len(found)), found.tracks)
    keys = list(zip(found.video.tolist(), track.tolist(), found.class_ids.tolist(), strict=True))
    scores = [score_of.setdefault(key, score) for key, score in zip(keys, found.scores.tolist(), strict=True)]
    found = replace(found, scores=np.array(scores, np.float64))
    again = round_trip(youtube_vis.NAME, found, folder())
    new = again.tracks.tolist()
    ours = sorted(zip(found.frame.tolist(), keys, found.scores.tolist(), found.masks, strict=True))
    back = dict(zip(sorted(set(keys), key=lambda key: key[:3]), range(len(keys)), strict=False))
    theirs = sorted(zip(again.frame.tolist(), new, again.scores.tolist(), again.masks or (), strict=True))
    assert sorted((f, back[key], score, mask) for f, key, score, mask in ours) == theirs
    order = np.lexsort((again.tracks, again.frame))
    mine = np.lexsort(([back[key] for key in keys], found.frame))
    assert np.array_equal(found.boxes[mine], again.boxes[order])
    assert np.array_equal(found.class_ids[mine], again.class_ids[order])


def test_scores_of_a_track_become_their_mean(tmp_path):
    found = one(
        frame=np.array([0, 1]),
        boxes=np.array([[0, 0, 0, 0]] * 2, np.float32),
        class_ids=np.array([1, 1]),
        scores=np.array([0.25, 0.75]),
        tracks=np.array([5, 5]),
    )
    pixels = np.zeros((2, 12, 20), np.bool_)
    pixels[:, 0, 0] = True
    again = round_trip(youtube_vis.NAME, replace(found, masks=RleMasks.of(pixels).counts), tmp_path)
    assert again.scores.tolist() == [0.5, 0.5]
    assert again.tracks.tolist() == [0, 0]


def test_youtube_vis_needs_masks(tmp_path):
    with pytest.raises(SettingError, match=r"there are none. Add --masks"):
        youtube_vis.write(one(), CONTENT, tmp_path / "tracks.json")


def test_mot_files_are_not_added_to_others(tmp_path):
    mot.write(one(), CONTENT, tmp_path / "mot")
    assert (tmp_path / "mot/val/first.txt").read_text() == "1,3,1,2,5,5,0.5,6,-1,-1\n"
    assert (tmp_path / "mot/second.txt").read_text() == ""
    with pytest.raises(SettingError, match="has text files already"):
        mot.write(one(), CONTENT, tmp_path / "mot")


def test_boxes_are_in_each_formats_convention(tmp_path):
    vid_devkit.write(one(), CONTENT, tmp_path / "d.txt")
    assert (tmp_path / "d.txt").read_text() == "10 6 0.5 1 2 5 6\n"
    coco.write(one(), CONTENT, tmp_path / "c.json")
    assert (
        '"image_id": 10, "category_id": 6, "bbox": [1.0, 2.0, 5.0, 5.0]' in (tmp_path / "c.json").read_text()
    )


def test_a_frame_without_a_number_is_named(tmp_path):
    bare = replace(CONTENT, ids=replace(CONTENT.ids, frames={10: ("val/first", 0)}))
    with pytest.raises(DataError, match="no number for frame 1 of video 'val/first'"):
        coco.write(one(), bare, tmp_path / "c.json")


@pytest.mark.parametrize("text", ["", "[]", "{}", "1 2 3\n", '[{"id": 1}]', "\x00\x01"])
def test_a_format_that_is_unclear_is_asked_for(tmp_path, text):
    path = tmp_path / "file"
    path.write_text(text)
    with pytest.raises(DataError, match=r"can't tell its format. Say it with --input-format"):
        detect(path)
    with pytest.raises(DataError, match="can't be read"):
        detect(tmp_path / "missing")


def test_formats_are_asked_for_by_name():
    assert format_of("mot").suffix == ""
    with pytest.raises(Exception, match="Did you mean 'coco-vid'"):
        format_of("coco_vid")
