"""AP of tracks against TrackEval's TrackMAP, and overlaps against a plain oracle."""

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tracked_scenes import CLASSES, HEIGHT, WIDTH, detections_near, own_prediction, truth_of

from ovvol_bench.data.shapes.dataset import Shapes
from ovvol_bench.detections import Frames, detections_of
from ovvol_bench.errors import DataError
from ovvol_bench.masks import RleMasks
from ovvol_bench.metrics import evaluate, evaluate_detections, tube_ap
from ovvol_bench.metrics.truth import TruthTable
from ovvol_bench.metrics.tube_ap import TubeAP
from ovvol_bench.metrics.tubes import Tubes, found_items, samples_of, true_items, tube_overlaps
from ovvol_bench.predictions import pack

SMALL = ((0, 1e10), (0, 8**2), (8**2, 13**2), (13**2, 1e10))
"""Ranges that fit frames of 20 x 24 pixels."""


def scene(seed, per_track_score=True, videos=4):
    rng = np.random.default_rng(seed)
    infos = truth_of(rng, videos)
    return infos, detections_near(infos, rng, per_track_score)


def scored(found, infos, **settings):
    results = evaluate_detections(found, infos, [TubeAP(**settings)])
    return {key.split("@")[0]: value for key, value in results.items()}


# --- TrackEval -----------------------------------------------------------------------------------


def xywh(box):
    x1, y1, x2, y2 = map(float, box)
    return [x1, y1, x2 - x1 + 1, y2 - y1 + 1]


def tracks_of(rows, iou_type):
    """Rows of (sample, track, class, frame, box, runs, score) in TrackEval's form, by sample and class."""
    tracks = defaultdict(lambda: defaultdict(lambda: ({}, [])))
    for sample, track, class_id, frame, box, runs, score in rows:
        shapes, scores = tracks[sample, class_id][track]
        shapes[frame] = xywh(box) if iou_type == "box" else {"size": [HEIGHT, WIDTH], "counts": runs}
        scores.append((score, area(box, runs, iou_type)))
    return tracks


def area(box, runs, iou_type):
    if iou_type == "mask":
        return int(RleMasks((HEIGHT, WIDTH), (runs,)).areas()[0])
    _, _, width, height = xywh(box)
    return width * height


def sequence(found, truth, iou_type):
    """What TrackEval's YouTube-VIS data set gives its metric for one sample and class."""
    order = sorted(found, key=lambda track: -found[track][1][0][0])
    return {
        "gt_tracks": [shapes for shapes, _ in truth.values()],
        "dt_tracks": [found[track][0] for track in order],
        "gt_track_ids": list(range(1, len(truth) + 1)),
        "dt_track_ids": list(range(1, len(order) + 1)),
        "gt_track_areas": [np.mean([each for _, each in items]) for _, items in truth.values()],
        "dt_track_areas": [np.mean([each for _, each in found[track][1]]) for track in order],
        "gt_track_iscrowd": [0] * len(truth),
        "dt_track_scores": np.array([found[track][1][0][0] for track in order]),
        "iou_type": "bbox" if iou_type == "box" else "mask",
    }


def trackeval_values(found, truth, samples, iou_type):
    from trackeval.metrics import TrackMAP

    config = {
        "IOU_THRESHOLDS": np.linspace(0.5, 0.95, 10),
        "USE_TIME_RANGES": False,
        "AREA_RANGES": [list(bounds) for bounds in SMALL[1:]],
        "AREA_RANGE_LABELS": ["small", "medium", "large"],
        "PRINT_CONFIG": False,
    }
    by_class = defaultdict(list)
    for class_id in range(1, CLASSES + 1):
        for limit in (1, 10, 100):
            metric = TrackMAP({**config, "MAX_DETECTIONS": limit})
            parts = {
                sample: metric.eval_sequence(
                    sequence(found[sample, class_id], truth[sample, class_id], iou_type)
                )
                for sample in range(samples)
            }
            result = metric.combine_sequences(parts)
            by_class[f"tube_ar{limit}"].append(np.mean(result["AR_all"]))
        by_class["tube_ap"].append(np.mean(result["AP_all"]))
        by_class["tube_ap50"].append(result["AP_all"][0])
        by_class["tube_ap75"].append(result["AP_all"][5])
        for size in ("small", "medium", "large"):
            by_class[f"tube_ap_{size}"].append(np.mean(result[f"AP_{size}"]))
            by_class[f"tube_ar_{size}"].append(np.mean(result[f"AR_{size}"]))
    return {name: mean_of_defined(values) for name, values in by_class.items()}


def mean_of_defined(values):
    known = [value for value in values if value > -1]
    return np.mean(known) if known else np.nan


@pytest.mark.parametrize("unit", ["clip", "video"])
@pytest.mark.parametrize("iou_type", ["box", "mask"])
@pytest.mark.parametrize("seed", range(4))
def test_numbers_are_those_of_trackeval(monkeypatch, seed, iou_type, unit):
    pytest.importorskip("trackeval", reason="the extra 'tracking' is not installed")
    monkeypatch.setattr(tube_ap, "AREAS", SMALL)
    infos, found = scene(seed, videos=12)
    table = TruthTable.of(infos)
    samples = samples_of(table, unit)
    truth_rows = [
        (samples[row], track, class_id, row, box, runs, 1)
        for row, frame in enumerate(table.truths)
        for track, class_id, box, runs in zip(
            frame.track_ids, frame.class_ids, frame.boxes, frame.runs.counts, strict=True
        )
    ]
    columns = (found.tracks, found.class_ids, found.frame, found.boxes, found.masks, found.scores)
    found_rows = [(samples[row[2]], *row) for row in zip(*columns, strict=True)]
    expected = trackeval_values(
        tracks_of(found_rows, iou_type), tracks_of(truth_rows, iou_type), samples.max() + 1, iou_type
    )
    ours = scored(found, infos, iou_type=iou_type, unit=unit)
    assert set(ours) == {f"{name}_{unit}" for name in expected}
    for name, value in expected.items():
        assert ours[f"{name}_{unit}"].value == pytest.approx(value, abs=1e-12, nan_ok=True), name
    assert ours[f"tube_ar100_{unit}"].value > 0


# --- the plain oracle ----------------------------------------------------------------------------


def volumes(frames, tracks, classes, masks, samples):
    """Sets of pixels (frame, y, x) by sample, track and class, in the order in which they come."""
    tubes = defaultdict(set)
    for frame, track, class_id, mask in zip(frames, tracks, classes, masks, strict=True):
        tubes[samples[frame], track, class_id] |= {(frame, *point) for point in np.argwhere(mask).tolist()}
    return tubes


def box_mask(box):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    x1, y1, x2, y2 = map(int, box)
    mask[y1 : y2 + 1, x1 : x2 + 1] = True
    return mask


@given(st.integers(0, 2**32 - 1), st.sampled_from(["clip", "video"]), st.sampled_from(["box", "mask"]))
@settings(max_examples=30, deadline=None)
def test_overlaps_are_those_of_sets_of_pixels(seed, unit, iou_type):
    infos, found = scene(seed, per_track_score=bool(seed % 2))
    table = TruthTable.of(infos)
    samples = samples_of(table, unit)
    number = int(samples.max()) + 1
    ours = Tubes.of(found_items(found, samples, iou_type), number, class_agnostic=False)
    true = Tubes.of(true_items(table, samples, iou_type), number, class_agnostic=False)
    if iou_type == "box":
        found_masks, true_masks = map(box_mask, found.boxes), map(box_mask, table.boxes)
    else:
        found_masks = RleMasks((HEIGHT, WIDTH), found.masks).decode()
        true_masks = [mask for frame in table.truths for mask in frame.masks]
    first = volumes(found.frame, found.tracks, found.class_ids, found_masks, samples)
    second = volumes(table.frame, table.tracks, table.classes, true_masks, samples)
    assert [len(pixels) for pixels in first.values()] == ours.volume.tolist()
    tables = tube_overlaps(found, table, ours, true, iou_type)
    for sample in range(number):
        expected = [
            [len(a & b) / len(a | b) for place, b in second.items() if place[0] == sample]
            for place, a in first.items()
            if place[0] == sample
        ]
        assert tables[sample].shape[0] == len(expected)
        assert tables[sample].ravel().tolist() == pytest.approx(np.ravel(expected).tolist(), abs=1e-12)


# --- worked cases --------------------------------------------------------------------------------


def with_tracks_of_truth(seed=3):
    """Detections that are the truth."""
    infos, found = scene(seed)
    table = TruthTable.of(infos)
    runs = tuple(counts for frame in table.truths for counts in frame.runs.counts)
    count = len(table.boxes)
    return infos, replace(
        found,
        frame=table.frame,
        boxes=table.boxes,
        class_ids=table.classes,
        tracks=table.tracks,
        scores=np.linspace(1, 0.5, count),
        masks=runs,
    )


@pytest.mark.parametrize("iou_type", ["box", "mask"])
@pytest.mark.parametrize("unit", ["clip", "video"])
def test_the_truth_itself_scores_one(iou_type, unit):
    infos, found = with_tracks_of_truth()
    values = scored(found, infos, iou_type=iou_type, unit=unit)
    assert values[f"tube_ap_{unit}"].value == pytest.approx(1)
    assert values[f"tube_ap_{unit}"].notes["objects"] == values[f"tube_ap_{unit}"].notes["detections"]


def test_tracks_that_end_with_their_clip_lose_in_videos_only():
    infos, found = with_tracks_of_truth()
    samples = samples_of(TruthTable.of(infos), "clip")
    cut = replace(found, tracks=found.tracks + 100 * samples[found.frame])
    assert scored(cut, infos, unit="clip")["tube_ap_clip"].value == pytest.approx(1)
    assert scored(cut, infos, unit="video")["tube_ap_video"].value < 0.7


def test_without_classes_a_track_is_one_tube_whatever_it_is_called():
    infos, found = with_tracks_of_truth()
    renamed = replace(found, class_ids=np.arange(len(found)) % (CLASSES + 1))
    value = scored(renamed, infos, class_agnostic=True)["tube_ap_clip_agnostic"]
    assert value.value == pytest.approx(1)
    assert value.notes["detections"] == value.notes["objects"]
    assert scored(renamed, infos)["tube_ap_clip"].value < 1


def test_no_detections_miss_everything_and_no_truth_is_undefined():
    infos, found = with_tracks_of_truth()
    nothing = found.keep(np.zeros(len(found), bool))
    assert scored(nothing, infos)["tube_ap_clip"].value == 0
    assert np.isnan(TubeAP().compute()["tube_ap_clip"].value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: {"tracks": np.full(len(found), -1)}, "has no track"),
        (
            lambda found: {"tracks": np.full(len(found), 4)},
            "track 4 has several detections; expected one in a",
        ),
        (lambda found: {"masks": None}, "boxes but no masks"),
        (lambda found: {"classes": 0}, "expected 1 to 0"),
    ],
)
def test_detections_that_are_no_tracks_are_refused(change, message):
    infos, found = with_tracks_of_truth()
    broken = replace(found, class_ids=np.ones(len(found), np.int64))
    with pytest.raises(DataError, match=message):
        scored(replace(broken, **change(found)), infos, iou_type="mask")


def test_truth_of_unknown_tracks_is_refused():
    infos, found = with_tracks_of_truth()
    at = next(row for row, info in enumerate(infos) if len(info.truth[0]))
    frame = infos[at].truth[0]
    frames = (replace(frame, track_ids=np.full(len(frame), -1)), *infos[at].truth[1:])
    infos[at] = replace(infos[at], truth=frames)
    with pytest.raises(DataError, match=f"clip '{infos[at].id}', frame .* object of unknown track"):
        scored(found, infos)


def test_our_own_segments_are_tracks_of_their_clips():
    dataset = Shapes("val", videos=2)
    infos = [dataset.info(index) for index in range(len(dataset))]
    rng = np.random.default_rng(0)
    predictions = pack([own_prediction(info, rng) for info in infos])
    for iou_type in ("box", "mask"):
        metric = TubeAP(iou_type=iou_type)
        ours = evaluate(predictions, {info.id: info for info in infos}, [metric])
        found = detections_of(predictions, Frames.of(infos), "all", masks=iou_type == "mask")
        theirs = evaluate_detections(found, infos, [metric])
        values = {name: value.value for name, value in theirs.items()}
        assert {name: value.value for name, value in ours.items()} == pytest.approx(values, nan_ok=True)
        assert ours[f"tube_ap_clip@ytvis-{iou_type}"].notes["detections"] == 2 * 16 * len(infos)
