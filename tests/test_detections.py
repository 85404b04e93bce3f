"""Detections, and our own predictions in that form."""

from dataclasses import replace

import numpy as np
import pytest

from ovvol_bench.data.shapes.dataset import Shapes
from ovvol_bench.detections import Frames, detections_of, in_order
from ovvol_bench.errors import DataError, SettingError
from ovvol_bench.formats import FORMATS
from ovvol_bench.formats.entries import Content
from ovvol_bench.metrics import evaluate, evaluate_detections
from ovvol_bench.metrics.coco_ap import CocoAP
from ovvol_bench.metrics.corloc import BoxesPerFrame, CorLoc
from ovvol_bench.metrics.detrate import DetectionRate
from ovvol_bench.metrics.naming import CalibrationError, Confusion, NamingAccuracy
from ovvol_bench.metrics.slots import SlotDiagnostics
from ovvol_bench.metrics.vid_ap import VidAP
from ovvol_bench.predictions import ClipPrediction, pack
from ovvol_bench.types import Localization


def predicted(info, rng, segments=3):
    """Random blocks of patches as segments of a clip."""
    frames = len(info.frame_indices)
    slot_map = (
        rng.integers(0, segments + 1, (frames, 3, 4)).repeat(4, axis=1).repeat(4, axis=2).astype(np.int16)
    )
    present = np.stack([(slot_map == n).any((1, 2)) for n in range(segments)], axis=1)
    boxes = np.zeros((frames, segments, 4), np.float32)
    for t, n in np.argwhere(present):
        rows, columns = np.nonzero(slot_map[t] == n)
        boxes[t, n] = [8 * columns.min(), 8 * rows.min(), 8 * columns.max() + 7, 8 * rows.max() + 7]
    scores = rng.dirichlet(np.ones(17), segments).astype(np.float32)
    kept = np.array([*range(segments), -1], np.int16)
    return ClipPrediction(info, (96, 128), Localization(boxes, present, scores, slot_map, kept, (96, 128)))


@pytest.fixture(scope="module")
def infos():
    dataset = Shapes("val", videos=3)
    return [dataset.info(index) for index in range(len(dataset))]


@pytest.fixture(scope="module")
def predictions(infos):
    rng = np.random.default_rng(0)
    return pack([predicted(info, rng) for info in infos])


def test_frames_are_found_by_video_and_position(infos):
    frames = Frames.of(infos[::-1])
    assert len(frames) == 72
    assert np.array_equal(np.unique(frames.video), [0, 1, 2])
    rows = frames.rows(np.array([0, 2, 1, 1]), np.array([0, 23, 24, -1]))
    assert rows.tolist() == [0, 71, -1, -1]
    assert frames.videos[0] == infos[-1].video
    assert frames.name(71) == f"frame 23 of video '{infos[0].video}'"


def test_frames_of_no_clips():
    frames = Frames.of([])
    assert frames.rows(np.array([0]), np.array([3])).tolist() == [-1]


def test_overlapping_clips_and_changing_sizes_are_refused(infos):
    with pytest.raises(DataError, match="is in two clips"):
        Frames.of([infos[0], replace(infos[0], id="again")])
    with pytest.raises(DataError, match="expected one size"):
        Frames.of([infos[0], replace(infos[1], frame_size=(9, 9))])


@pytest.mark.parametrize("labels", ["all", "top1"])
def test_predictions_as_detections_score_the_same(infos, predictions, labels):
    """``vid-devkit`` counts no absent segment and compares in original pixels, so that nothing is lost."""
    metrics = [CorLoc(protocol="vid-devkit"), DetectionRate(protocol="vid-devkit")]
    metrics += [VidAP(protocol="vid-devkit")] if labels == "all" else []
    clips = in_order(infos)
    found = detections_of(predictions, Frames.of(clips), labels)
    ours = evaluate(predictions, {info.id: info for info in infos}, metrics)
    theirs = evaluate_detections(found, clips, metrics)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert value.value == pytest.approx(theirs[name].value, abs=1e-12, nan_ok=True), name


def written_and_read(name, found, tmp_path):
    dataset = Shapes("val", videos=3)
    content = Content(found.frames, dataset.file_ids(), dataset.vocabulary.names)
    path = tmp_path / f"found{FORMATS[name].suffix}"
    FORMATS[name].write(found, content, path)
    return FORMATS[name].read(path, content, "fail")[0]


@pytest.mark.parametrize("name", [name for name, form in FORMATS.items() if form.absent])
@pytest.mark.parametrize("protocol", ["vid-reference", "vid-devkit"])
def test_complete_files_score_as_the_run(infos, predictions, tmp_path, name, protocol):
    """Segments that their frame doesn't show and class 0 come back too, in any protocol."""
    clips = in_order(infos)
    assert not predictions.present.all()
    metrics = [
        CorLoc(protocol=protocol),
        CorLoc(protocol=protocol, box="top1"),
        DetectionRate(protocol=protocol),
        BoxesPerFrame(protocol=protocol),
    ]
    metrics += [
        VidAP(protocol=protocol, ties="reference"),
        NamingAccuracy(protocol=protocol),
        CalibrationError(protocol=protocol),
    ]
    metrics += [
        VidAP(protocol=protocol, labels="top1"),
        VidAP(protocol=protocol, class_agnostic=True),
    ]
    metrics += [Confusion(protocol=protocol), CocoAP()]
    found = detections_of(predictions, Frames.of(clips), "all", complete=True)
    again = written_and_read(name, found, tmp_path)
    ours = evaluate(predictions, {info.id: info for info in infos}, metrics)
    theirs = evaluate_detections(again, clips, metrics, lambda size: size)
    for key, value in ours.items():
        assert theirs[key].value == pytest.approx(value.value, abs=1e-15, nan_ok=True), key


def test_boxes_of_the_best_name_or_the_background_are_the_published_single_mode(infos, predictions, tmp_path):
    clips = in_order(infos)
    found = detections_of(predictions, Frames.of(clips), "top1", complete=True)
    assert 0 < (found.class_ids == 0).sum() < len(found) == len(predictions.present)
    metric = VidAP(protocol="vid-reference", ties="reference")
    again = evaluate_detections(written_and_read("coco", found, tmp_path), clips, [metric], lambda size: size)
    single = VidAP(protocol="vid-reference", ties="reference", labels="top1")
    ours = evaluate(predictions, {info.id: info for info in infos}, [single])
    assert again["ap50@vid-reference"].value == pytest.approx(
        ours["ap50_top1@vid-reference"].value, abs=1e-15
    )


def test_masks_are_the_segments_in_pixels(infos, predictions):
    frames = Frames.of(infos)
    found = detections_of(predictions, frames, masks=True)
    first = predictions[0].localization
    rows = np.flatnonzero(found.frame == 0)
    pixels = found.masks_of(rows, (96, 128)).decode()
    shown = np.flatnonzero(first.present[0])
    assert np.array_equal(pixels, first.masks[shown, 0].repeat(8, axis=1).repeat(8, axis=2))
    assert np.array_equal(found.masks_of(rows, (96, 128)).boxes(), found.boxes[rows])


def test_tracks_are_segments_of_clips(infos, predictions):
    found = detections_of(predictions, Frames.of(infos))
    assert len(np.unique(found.tracks)) == predictions.present.reshape(-1, 8, 3).any(1).sum()
    for track in np.unique(found.tracks):
        assert len(np.unique(found.video[found.tracks == track])) == 1


def test_detections_can_be_chosen(infos, predictions):
    found = detections_of(predictions, Frames.of(infos))
    some = found.keep(found.scores > 0.2)
    assert 0 < len(some) < len(found)
    assert np.array_equal(
        some.counts, np.bincount(found.frame[found.scores > 0.2], minlength=len(found.frames))
    )
    assert np.array_equal(found.keep(np.array([5, 0])).frame, found.frame[[0, 5]])


def test_predictions_outside_the_dataset_are_refused(infos, predictions):
    with pytest.raises(DataError, match="is not in the dataset"):
        detections_of(predictions, Frames.of(infos[:3]))
    with pytest.raises(DataError, match="frame 8 has a prediction"):
        detections_of(predictions, Frames.of([infos[0], infos[3], infos[6]]))


def test_metrics_of_slots_refuse_detections(infos, predictions):
    with pytest.raises(SettingError, match="looks at slots"):
        evaluate_detections(
            detections_of(predictions, Frames.of(infos)), in_order(infos), [SlotDiagnostics()]
        )


def test_default_numbers_follow_the_clips():
    ids = Shapes("val", videos=2).file_ids()
    assert ids.videos == {1: "shapes_val_00000000", 2: "shapes_val_00000001"}
    assert ids.frames[25] == ("shapes_val_00000001", 0)
    assert ids.classes[16] == 16
