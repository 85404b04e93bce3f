"""``ovvol_bench.localize``: a red square that moves over grey, found by tiny components."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import ovvol_bench as ovb
from ovvol_bench.data.readers import ArrayFrames
from ovvol_bench.data.sampling import ClipSettings
from ovvol_bench.data.videos import OneVideo
from ovvol_bench.errors import DataError, SettingError, UnknownNameError
from ovvol_bench.naming.vocabulary import ForegroundClass, Vocabulary
from ovvol_bench.testing import check_dataset

RUNS = Path(__file__).parents[1] / "runs"
WORDS = ["red", "green"]
SMALL = {"dataset.short_side": 32, "dataset.multiple": 8, "dataset.frames_per_clip": 4}


def square(frames):
    """(T, 64, 96, 3): a red square of 32 pixels, 2 further to the right in each frame."""
    rng = np.random.default_rng(0)
    video = rng.integers(50, 120, (frames, 64, 96, 3), dtype=np.uint8)
    for time, frame in enumerate(video):
        frame[16:48, 16 + 2 * time : 48 + 2 * time] = (230, 25, 25)
    return video


@pytest.fixture
def localize(tmp_path, monkeypatch):
    monkeypatch.setenv("OVVOL_PLUGINS", "metrics,data")
    monkeypatch.chdir(tmp_path)

    def call(video, vocabulary=WORDS, options=SMALL, **others):
        asked = {"preset": RUNS / "tiny.yaml", "plugins": RUNS / "tiny_plugin.py", "progress": False}
        return ovb.localize(video, vocabulary, options=options, **asked, **others)

    return call


@pytest.fixture
def found(localize):
    return localize(square(10))


def test_each_frame_has_named_boxes_and_masks_in_pixels_of_the_video(found):
    assert len(found) == 10 and found.frame_indices == tuple(range(10))
    for frame in found:
        best = int(frame.scores.argmax())
        assert frame.names[best] == "red"
        x1, _, x2, _ = frame.boxes[best]
        assert abs(x1 - 16 - 2 * frame.frame) <= 16 and abs(x2 - 47 - 2 * frame.frame) <= 16
        assert frame.masks.shape == (len(frame), 64, 96)
        rows, columns = np.nonzero(frame.masks[best])
        assert (columns.min(), rows.min(), columns.max(), rows.max()) == tuple(frame.boxes[best])


def test_tracks_go_on_over_clips(found):
    best = [frame.tracks[frame.scores.argmax()] for frame in found]
    assert len(set(best)) == 1


def test_the_frame_has_a_row_an_object_and_frame(found):
    frame = found.to_pandas()
    assert list(frame) == ["frame", "name", "score", "x1", "y1", "x2", "y2", "track"]
    assert len(frame) == len(found.detections)
    assert set(frame.name) <= set(WORDS)


def test_nothing_is_kept_on_disk_and_nothing_printed(found, tmp_path, capfd):
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_pictures_show_the_frame_with_boxes_and_masks(found):
    picture = found.show(frame=3, width=192)
    assert picture.size == (192, 128)
    plain = np.asarray(found.show(frame=3, width=192, min_score=1.1))
    assert np.abs(plain.astype(int) - cv2.resize(square(10)[3], (192, 128))).mean() < 20
    without = np.asarray(found.show(frame=3, width=192, masks=False))
    assert (plain != without).any() and (without != np.asarray(picture)).any()
    assert found._repr_png_().startswith(b"\x89PNG")


def test_a_file_is_written_that_can_be_scored(found, tmp_path):
    content = json.loads(found.save(tmp_path / "found.json").read_text())
    assert {each["name"] for each in content["categories"]} == set(WORDS)
    assert len(content["images"]) == 10
    assert len(content["annotations"]) == len(found.detections)
    found.save(tmp_path / "found.txt", format="vid-devkit")
    assert len((tmp_path / "found.txt").read_text().splitlines()) == len(found.detections)
    with pytest.raises(UnknownNameError, match="Did you mean 'coco-vid'"):
        found.save(tmp_path / "found.json", format="coco-vido")


def test_what_was_found_is_evaluated_like_a_file(localize):
    squares = ovb.dataset("squares", plugins=RUNS / "tiny_plugin.py", clips=1)
    pixels = (255 * squares.clip(0).frames).round().astype(np.uint8)
    found = localize(pixels, squares.vocabulary, name=squares.info(0).video)
    with pytest.raises(SettingError, match="is no run folder; say what its truth is"):
        ovb.evaluate(found)
    scored = ovb.evaluate(found, squares, metrics="coco_ap")
    assert scored.name == squares.info(0).video
    assert scored.coverage.detections == len(found.detections)


@pytest.mark.parametrize("frames", [1, 3])
def test_a_video_shorter_than_a_clip_is_localized_too(localize, frames):
    found = localize(square(frames))
    assert found.frame_indices == tuple(range(frames))
    assert found[0].names[found[0].scores.argmax()] == "red"


def test_only_every_nth_frame_is_localized_if_asked(localize):
    found = localize(square(17), options={**SMALL, "dataset.stride": 2})
    assert found.frame_indices == tuple(range(0, 17, 2))
    with pytest.raises(
        DataError, match="frame 3 of 'video' was not localized; expected one from 0 to 16 in steps of 2"
    ):
        found.show(frame=3)


def test_a_folder_of_frames_and_a_vocabulary_are_taken(localize, tmp_path):
    for index, frame in enumerate(square(5)):
        cv2.imwrite(str(tmp_path / f"{index:03d}.png"), frame[..., ::-1])
    found = localize(str(tmp_path), Vocabulary("reds", (ForegroundClass("red"), ForegroundClass("green"))))
    assert (found.name, len(found), found.class_names) == (tmp_path.name, 5, ("red", "green"))
    np.testing.assert_array_equal(found.show(frame=4, min_score=1.1, width=96), square(5)[4])


def test_a_video_file_is_taken(localize, tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "a.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (96, 64))
    for frame in square(6):
        writer.write(frame[..., ::-1])
    writer.release()
    found = localize(tmp_path / "a.mp4")
    assert (found.name, len(found)) == ("a.mp4", 6)
    assert found.show(frame=5, width=96).size == (96, 64)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"video": "nothing.mp4"}, DataError, "nothing.mp4 does not exist"),
        (
            {"video": np.zeros((4, 64, 96, 3))},
            DataError,
            r"type float64; expected frames \(T, H, W, 3\) of uint8",
        ),
        ({"video": np.zeros((64, 96, 3), np.uint8)}, DataError, r"shape \(64, 96, 3\)"),
        ({"video": np.zeros((0, 64, 96, 3), np.uint8)}, DataError, r"shape \(0, 64, 96, 3\)"),
        ({"vocabulary": []}, DataError, "at least one class"),
        ({"vocabulary": "redd"}, UnknownNameError, "Unknown vocabulary 'redd'"),
        ({"vocabulary": ["red", "Red"]}, DataError, "red"),
        ({"grouper": "randomcutt"}, UnknownNameError, "Did you mean 'randomcut'"),
        ({"grouper": "brokencut"}, Exception, "fell over"),
        ({"options": {"dataset.path": "x"}}, SettingError, r"dataset\.path: localize takes it"),
        ({"options": {"dataset.strid": 2}}, SettingError, "Did you mean 'stride'"),
        ({"options": {"dataset.stride": 0}}, SettingError, "stride=0"),
        ({"device": "gpu"}, SettingError, "device is 'gpu'; expected one of auto, cpu, cuda"),
        ({"background": "coco"}, DataError, "no word list 'coco'"),
    ],
)
def test_wrong_input_is_an_error_that_names_it(localize, arguments, error, message):
    with pytest.raises(error, match=message):
        localize(**{"video": square(4), **arguments})


def test_an_open_video_keeps_the_contract_of_datasets():
    words = Vocabulary("reds", (ForegroundClass("red"),))
    clips = ClipSettings(frames=4, short_side=32, multiple=8)
    check_dataset(OneVideo("a", ArrayFrames(square(10)), words, clips)).raise_if_broken()
