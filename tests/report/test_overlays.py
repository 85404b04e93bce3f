"""Strips and videos of a run."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from ovvol_bench.data.shapes.dataset import Shapes
from ovvol_bench.errors import DataError, OvvolError, SettingError
from ovvol_bench.predictions import ClipPrediction
from ovvol_bench.report.overlays import spread, write_overlays
from ovvol_bench.types import Localization

RUN = Path("runs/shapes/videomae+slot_attention+pacl/0123456789abcdef")


@pytest.fixture
def dataset():
    return Shapes("test", videos=2, frames_per_clip=4)


def predict(dataset, index, context=0):
    """One segment over the left half of all frames but the context."""
    info = replace(dataset.info(index), truth=None)
    frames = len(info.frame_indices) - context
    slots = np.zeros((frames, 6, 8), np.int16)
    slots[:, :, 4:] = 1
    probabilities = np.full((1, len(dataset.vocabulary.classes) + 1), 0.01, np.float32)
    boxes = np.tile(np.array([0, 0, 63, 95], np.float32), (frames, 1, 1))
    found = Localization(boxes, np.ones((frames, 1), bool), probabilities, slots, np.array([0, -1], np.int16))
    return ClipPrediction(replace(info, context=context), (96, 128), found)


def frames_of(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    return frames


def test_each_chosen_clip_gets_a_strip_and_its_video_an_mp4(dataset, tmp_path):
    predictions = [predict(dataset, index) for index in (7, 6, 1, 0)]
    paths = write_overlays(RUN, dataset, predictions, tmp_path / "out", clips=2)
    assert [path.name for path in paths] == [
        "shapes_test_00000000_000000.png",
        "shapes_test_00000001_000004.png",
        "shapes_test_00000000.mp4",
        "shapes_test_00000001.mp4",
    ]
    assert sorted(tmp_path.joinpath("out").iterdir()) == sorted(paths)
    strip = cv2.imread(str(paths[0]))
    assert strip.shape[1] > 5 * 320
    assert len(frames_of(paths[2])) == 8


def test_frames_of_a_video_are_in_order(dataset, tmp_path):
    predictions = [predict(dataset, index) for index in (2, 0, 1)]
    *_, path = write_overlays(RUN, dataset, predictions, tmp_path, clips=1)
    for index, page in enumerate(frames_of(path)):
        clip = dataset.clip(index // 4)
        shown = cv2.resize(page[34:274, 8:328, ::-1], (128, 96), interpolation=cv2.INTER_AREA)
        errors = [np.abs(shown[:80] - 255 * frame[:80]).mean() for frame in clip.frames]
        assert errors[index % 4] < 12


def test_pictures_alone(dataset, tmp_path):
    paths = write_overlays(RUN, dataset, [predict(dataset, 0)], tmp_path, video=False)
    assert [path.suffix for path in paths] == [".png"]


def test_without_truth_there_are_four_panels(dataset, tmp_path, monkeypatch):
    full = dataset.clip(0)
    monkeypatch.setattr(dataset, "clip", lambda index: replace(full, info=replace(full.info, truth=None)))
    (path,) = write_overlays(RUN, dataset, [predict(dataset, 0)], tmp_path, video=False)
    assert cv2.imread(str(path)).shape[1] < 5 * 320


def test_frames_of_an_earlier_clip_are_not_drawn_twice(dataset, tmp_path, monkeypatch):
    full = dataset.clip(0)
    monkeypatch.setattr(dataset, "clip", lambda index: replace(full, info=replace(full.info, context=3)))
    *_, path = write_overlays(RUN, dataset, [predict(dataset, 0, context=3)], tmp_path)
    assert len(frames_of(path)) == 1


def test_clips_are_spread_evenly():
    assert spread(100, 4) == [0, 33, 66, 99]
    assert spread(3, 8) == [0, 1, 2]


def test_nothing_to_draw_and_foreign_clips_are_refused(dataset, tmp_path):
    with pytest.raises(OvvolError, match="no predictions to draw"):
        write_overlays(RUN, dataset, [], tmp_path)
    foreign = predict(dataset, 0)
    foreign = replace(foreign, info=replace(foreign.info, id="elsewhere/0"))
    with pytest.raises(DataError, match="'elsewhere/0' is not in the dataset"):
        write_overlays(RUN, dataset, [foreign], tmp_path)


def test_an_unwritable_folder_is_refused(dataset, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="can't write"):
        write_overlays(RUN, dataset, [predict(dataset, 0)], tmp_path / "file" / "out")


def test_a_failure_midway_leaves_nothing_half_written(dataset, tmp_path, monkeypatch):
    predictions = [predict(dataset, 0), predict(dataset, 1)]
    read = dataset.clip
    monkeypatch.setattr(dataset, "clip", lambda index: read(index) if index == 0 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_overlays(RUN, dataset, predictions, tmp_path, clips=1)
    assert [path.name for path in tmp_path.iterdir()] == ["shapes_test_00000000_000000.png"]
