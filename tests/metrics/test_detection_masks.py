"""Metrics of masks on detections: the same numbers as from segments, and a plain oracle for the rest."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score
from tracked_scenes import HEIGHT, WIDTH, detections, detections_near, truth_of

from ovvol_bench.data.shapes.dataset import Shapes
from ovvol_bench.detections import Frames, detections_of
from ovvol_bench.errors import DataError, SettingError
from ovvol_bench.masks import RleMasks
from ovvol_bench.metrics import evaluate, evaluate_detections
from ovvol_bench.metrics.ari import AdjustedRand, ForegroundAdjustedRand
from ovvol_bench.metrics.mbo import MatchedIoU, MeanBestOverlap
from ovvol_bench.metrics.slots import SplitsAndMerges
from ovvol_bench.predictions import ClipPrediction, pack
from ovvol_bench.types import Localization

UNITS = ("image", "clip", "video")


def all_metrics(unit):
    settings = {"groups": "segments", "resolution": "frame", "unit": unit}
    kinds = (AdjustedRand, ForegroundAdjustedRand, MatchedIoU, SplitsAndMerges)
    return [
        *(kind(**settings) for kind in kinds),
        *(MeanBestOverlap(of=of, **settings) for of in ("instance", "class")),
    ]


def scored(found, infos, *metrics):
    results = evaluate_detections(found, infos, metrics)
    return {key.split("@")[0]: value.value for key, value in results.items()}


def segments(info, rng):
    """Three segments of a random slot map, one of whose slots was dropped."""
    frames = len(info.frame_indices)
    slot_map = rng.integers(0, 4, (frames, 3, 4)).repeat(2, axis=1).repeat(2, axis=2).astype(np.int16)
    owner = np.array([0, 1, -1, 2], np.int16)
    present = np.stack([(owner[slot_map] == n).any((1, 2)) for n in range(3)], axis=1)
    boxes = np.zeros((frames, 3, 4), np.float32)
    scores = rng.dirichlet(np.ones(17), 3).astype(np.float32)
    return ClipPrediction(info, (96, 128), Localization(boxes, present, scores, slot_map, owner))


@pytest.mark.parametrize("unit", UNITS)
def test_segments_as_detections_score_the_same(unit):
    dataset = Shapes("val", videos=3)
    infos = [dataset.info(index) for index in range(len(dataset))]
    rng = np.random.default_rng(0)
    predictions = pack([segments(info, rng) for info in infos])
    ours = evaluate(predictions, {info.id: info for info in infos}, all_metrics(unit))
    found = detections_of(predictions, Frames.of(infos), masks=True)
    theirs = evaluate_detections(found, infos, all_metrics(unit))
    assert len(ours) == 7
    assert theirs.keys() == ours.keys()
    for name, value in ours.items():
        assert theirs[name].value == pytest.approx(value.value, abs=1e-12), name
        assert (theirs[name].count, theirs[name].notes) == (value.count, value.notes)


# --- the plain oracle ----------------------------------------------------------------------------


def points_of(found, infos, unit):
    """Per sample a list of (true track or 0, group) of every pixel that at most one object covers."""
    masks = RleMasks((HEIGHT, WIDTH), found.masks).decode()
    samples, row = {}, 0
    for info in infos:
        for frame in info.truth:
            own = sorted(np.flatnonzero(found.frame == row), key=lambda at: -found.scores[at])
            key = {"image": row, "clip": info.id, "video": info.video}[unit]
            points = samples.setdefault(key, [])
            for y, x in np.ndindex(HEIGHT, WIDTH):
                objects = np.flatnonzero(frame.masks[:, y, x])
                if len(objects) > 1:
                    continue
                top = next((at for at in own if masks[at, y, x]), None)
                group = (
                    "none"
                    if top is None
                    else (f"row {top}" if unit == "image" else f"track {found.tracks[top]}")
                )
                points.append((frame.track_ids[objects[0]] + 1 if len(objects) else 0, group))
            row += 1
    return [points for points in samples.values() if any(label for label, _ in points)]


def overlap_table(points):
    labels = sorted({label for label, _ in points} - {0})
    groups = sorted({group for _, group in points} - {"none"})
    table = np.zeros((len(labels), len(groups)))
    for i, label in enumerate(labels):
        for j, group in enumerate(groups):
            both = sum(point == (label, group) for point in points)
            table[i, j] = both / sum(a == label or b == group for a, b in points)
    return table


def slow(found, infos, unit):
    rand, best, matched = [], [], []
    for points in points_of(found, infos, unit):
        rand.append(adjusted_rand_score(*(list(map(str, each)) for each in zip(*points, strict=True))))
        table = overlap_table(points)
        best.append(table.max(axis=1, initial=0).mean())
        matched.append(table[linear_sum_assignment(table, maximize=True)].sum() / len(table))
    return {f"ari_{unit}": rand, f"mbo_instance_{unit}": best, f"miou_{unit}": matched}


@given(st.integers(0, 2**32 - 1), st.sampled_from(UNITS))
@settings(max_examples=10, deadline=None)
def test_numbers_are_those_of_a_plain_count(seed, unit):
    rng = np.random.default_rng(seed)
    infos = truth_of(rng)
    found = detections_near(infos, rng)
    ours = scored(found, infos, *all_metrics(unit))
    for name, values in slow(found, infos, unit).items():
        expected = np.mean(values) if values else np.nan
        assert ours[name] == pytest.approx(expected, abs=1e-12, nan_ok=True), name


# --- worked cases --------------------------------------------------------------------------------


def two_halves(first_score, second_score):
    """A true object on the left half, one detection of all pixels and one of the left half."""
    rng = np.random.default_rng(0)
    info = truth_of(rng, videos=1, clips=1)[0]
    left = np.zeros((1, HEIGHT, WIDTH), bool)
    left[..., : WIDTH // 2] = True
    truth = replace(
        info.truth[0],
        boxes=np.array([[0, 0, WIDTH // 2 - 1, HEIGHT - 1]], np.float32),
        class_ids=np.array([1]),
        track_ids=np.array([3]),
        occluded=np.zeros(1, bool),
        generated=np.zeros(1, bool),
        motion_iou=np.ones(1, np.float32),
        masks=left,
    )
    info = replace(info, frame_indices=(0,), truth=(truth,))
    box = (0, 0, 9, 9)
    found = detections(Frames.of([info]), [(0, 1, 1, box), (0, 2, 1, box)], [first_score, second_score], rng)
    masks = np.concatenate([np.ones((1, HEIGHT, WIDTH), bool), left])
    return replace(found, masks=RleMasks.of(masks).counts), [info]


@pytest.mark.parametrize(("scores", "expected"), [((0.2, 0.9), 1), ((0.9, 0.2), 0.5), ((0.5, 0.5), 0.5)])
def test_the_higher_score_keeps_the_pixel_and_the_earlier_of_equals(scores, expected):
    found, infos = two_halves(*scores)
    assert scored(found, infos, MatchedIoU(groups="segments", unit="image"))["miou_image"] == pytest.approx(
        expected
    )


def test_a_track_that_goes_through_the_video_is_one_group_there():
    rng = np.random.default_rng(4)
    infos = truth_of(rng, videos=2)
    found = detections_near(infos, rng)
    cut = replace(found, tracks=found.tracks + 100 * (found.frames.index[found.frame] > 3))
    metric = MatchedIoU(groups="segments", unit="video"), MatchedIoU(groups="segments", unit="clip")
    whole, parts = scored(found, infos, *metric), scored(cut, infos, *metric)
    assert whole["miou_clip"] == parts["miou_clip"]
    assert whole["miou_video"] > parts["miou_video"]


def test_no_detections_find_nothing():
    found, infos = two_halves(1, 1)
    nothing = found.keep(np.zeros(2, bool))
    assert scored(nothing, infos, MeanBestOverlap(groups="segments"))["mbo_instance_clip"] == 0


@pytest.mark.parametrize("groups_and_resolution", [("slots", "frame"), ("segments", "patch")])
def test_slots_and_patches_are_refused_with_what_to_do(groups_and_resolution):
    found, infos = two_halves(1, 1)
    with pytest.raises(SettingError, match=r"fg_ari under .* -o metric\.groups=segments"):
        scored(
            found,
            infos,
            ForegroundAdjustedRand(groups=groups_and_resolution[0], resolution=groups_and_resolution[1]),
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masks": None}, "miou: the predictions have boxes but no"),
        ({"tracks": np.array([1, -1])}, "miou: .* no track"),
    ],
)
def test_detections_without_masks_or_tracks_are_refused(change, message):
    found, infos = two_halves(1, 1)
    with pytest.raises(DataError, match=message):
        scored(replace(found, **change), infos, MatchedIoU(groups="segments"))


@pytest.mark.parametrize(
    ("masks", "message"),
    [(None, "the truth has no masks"), (np.zeros((1, 4, 4), bool), r"true masks of shape")],
)
def test_truth_without_masks_of_the_frame_is_refused(masks, message):
    found, infos = two_halves(1, 1)
    wrong = [replace(infos[0], truth=(replace(infos[0].truth[0], masks=masks),))]
    with pytest.raises(DataError, match=message):
        scored(found, wrong, MatchedIoU(groups="segments"))
    with pytest.raises(DataError, match="has no truth; miou needs a dataset with true masks"):
        scored(found, [replace(infos[0], truth=None)], MatchedIoU(groups="segments"))
