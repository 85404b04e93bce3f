"""Mask metrics against independent implementations, on random label maps."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score

from ovvol_bench.data.shapes.dataset import Shapes
from ovvol_bench.errors import ContractError, DataError
from ovvol_bench.masks import nearest_cells
from ovvol_bench.metrics import evaluate
from ovvol_bench.metrics.ari import AdjustedRand, ForegroundAdjustedRand
from ovvol_bench.metrics.contingency import label_map
from ovvol_bench.metrics.mbo import MatchedIoU, MeanBestOverlap
from ovvol_bench.metrics.slots import SlotDiagnostics, SplitsAndMerges
from ovvol_bench.predictions import ClipPrediction, pack
from ovvol_bench.types import ClipInfo, FrameTruth, Localization

UNITS = ("image", "clip", "video")
ALL = (AdjustedRand, ForegroundAdjustedRand, MeanBestOverlap, MatchedIoU, SplitsAndMerges)
HEIGHT, WIDTH, SLOTS = 6, 8, 4
SEEDS = st.integers(0, 2**32 - 1)


# --- random clips --------------------------------------------------------------------------------


def frame_truth(labels, classes):
    """One frame from a label map: 0 background, i object of track i - 1 and class classes[i - 1]."""
    present = [label for label in np.unique(labels) if label]
    count = len(present)
    return FrameTruth(
        boxes=np.zeros((count, 4), np.float32),
        class_ids=np.array([classes[label - 1] for label in present], np.int64),
        track_ids=np.array(present, np.int64) - 1,
        occluded=np.zeros(count, bool),
        generated=np.zeros(count, bool),
        motion_iou=np.full(count, np.nan, np.float32),
        masks=np.array([labels == label for label in present], bool).reshape(count, *labels.shape),
    )


def clip_of(labels, slot_map, segment_of_slot=None, name="clip0", video="video", classes=(1, 2, 2, 1)):
    """A clip from label maps (T, H, W) and slots (T, h, w)."""
    frames = len(labels)
    slots = int(slot_map.max()) + 1 if segment_of_slot is None else len(segment_of_slot)
    owner = np.arange(slots) if segment_of_slot is None else np.array(segment_of_slot)
    segments = int(owner.max(initial=-1)) + 1
    found = Localization(
        boxes=np.zeros((frames, segments, 4), np.float32),
        present=np.zeros((frames, segments), bool),
        probabilities=np.zeros((segments, 3), np.float32),
        slot_map=slot_map.astype(np.int16),
        segment_of_slot=owner.astype(np.int16),
    )
    truth = tuple(frame_truth(frame, classes) for frame in labels)
    start = 10 * int(name[4:])
    return found, ClipInfo(name, video, tuple(range(start, start + frames)), labels.shape[1:], truth)


def random_clips(seed):
    rng = np.random.default_rng(seed)
    clips = []
    for index in range(int(rng.integers(1, 5))):
        frames = int(rng.integers(1, 4))
        labels = rng.integers(0, 5, (frames, HEIGHT, WIDTH)) * (rng.random((frames, 1, 1)) < 0.8)
        slot_map = rng.integers(0, SLOTS, (frames, HEIGHT // 2, WIDTH // 2))
        owner = rng.permutation([0, 1, 1, -1])
        clips.append(clip_of(labels, slot_map, owner, f"clip{index}", f"video{index % 2}"))
    return clips


def scored(metric, clips):
    for clip in clips:
        metric.update(*clip)
    return {name: value.value for name, value in metric.compute().items()}


def only(metric, *clips):
    (value,) = scored(metric, clips).values()
    return value


# --- the slow implementations --------------------------------------------------------------------


def samples_of(clips, unit, groups, by="track"):
    """Per sample: a list of (true label or 0, group) of every pixel, with groups apart by clip."""
    samples = {}
    for found, info in clips:
        for t, objects in enumerate(info.truth):
            key = {"image": (info.id, t), "clip": info.id, "video": info.video}[unit]
            points = samples.setdefault(key, [])
            for y in range(HEIGHT):
                for x in range(WIDTH):
                    slot = found.slot_map[t, y // 2, x // 2]
                    group = slot if groups == "slots" else found.segment_of_slot[slot]
                    rows = np.flatnonzero(objects.masks[:, y, x])
                    names = objects.class_ids if by == "class" else objects.track_ids + 1
                    points.append(
                        (names[rows[0]] if len(rows) else 0, "dropped" if group < 0 else (info.id, group))
                    )
    return [sample for sample in samples.values() if any(label for label, _ in sample)]


def slow_rand(clips, unit, groups, foreground):
    values = []
    for sample in samples_of(clips, unit, groups):
        points = [point for point in sample if point[0] or not foreground]
        truth, found = zip(*points, strict=True)
        values.append(adjusted_rand_score(list(map(str, truth)), list(map(str, found))))
    return np.mean(values)


def slow_ious(sample):
    labels = sorted({label for label, _ in sample} - {0})
    groups = sorted({group for _, group in sample} - {"dropped"})
    table = np.zeros((len(labels), len(groups)))
    for i, label in enumerate(labels):
        for j, group in enumerate(groups):
            one = [point[0] == label for point in sample]
            other = [point[1] == group for point in sample]
            table[i, j] = np.logical_and(one, other).sum() / np.logical_or(one, other).sum()
    return table


def slow_best(clips, unit, groups, by):
    tables = [slow_ious(sample) for sample in samples_of(clips, unit, groups, by)]
    return np.mean([np.mean([max(row, default=0) for row in table]) for table in tables])


def slow_matched(clips, unit, groups):
    tables = [slow_ious(sample) for sample in samples_of(clips, unit, groups)]
    return np.mean([table[linear_sum_assignment(-table)].sum() / len(table) for table in tables])


def slow_splits(clips, unit, groups):
    over, under = [], []
    for sample in samples_of(clips, unit, groups):
        labels = sorted({label for label, _ in sample} - {0})
        columns = sorted({group for label, group in sample if label}, key=str)
        counts = np.array([[sample.count((label, group)) for group in columns] for label in labels])
        share = counts / counts.sum(axis=1, keepdims=True)
        held = share.sum(axis=0) ** 2 / (share**2).sum(axis=0)
        over.append(np.mean(1 / (share**2).sum(axis=1)))
        under.append(np.mean(share @ held))
    return np.mean(over), np.mean(under)


# --- agreement -----------------------------------------------------------------------------------


def shows_objects(clips):
    return any(len(frame) for _, info in clips for frame in info.truth)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("groups", ["slots", "segments"])
@given(seed=SEEDS)
@settings(max_examples=5, deadline=None)
def test_every_number_is_that_of_an_independent_implementation(unit, groups, seed):
    clips, chosen = random_clips(seed), {"groups": groups, "unit": unit}
    if not shows_objects(clips):
        return
    foreground = only(ForegroundAdjustedRand(**chosen), *clips)
    assert foreground == pytest.approx(slow_rand(clips, unit, groups, True), abs=1e-12)
    assert only(AdjustedRand(**chosen), *clips) == pytest.approx(
        slow_rand(clips, unit, groups, False), abs=1e-12
    )
    for of, by in (("instance", "track"), ("class", "class")):
        best = only(MeanBestOverlap(of=of, **chosen), *clips)
        assert best == pytest.approx(slow_best(clips, unit, groups, by), abs=1e-12)
    assert only(MatchedIoU(**chosen), *clips) == pytest.approx(slow_matched(clips, unit, groups), abs=1e-12)
    splits = scored(SplitsAndMerges(**chosen), clips)
    assert list(splits.values()) == pytest.approx(slow_splits(clips, unit, groups), abs=1e-9)


# --- properties ----------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", UNITS)
@given(seed=SEEDS)
@settings(max_examples=5, deadline=None)
def test_the_order_of_slots_means_nothing(unit, seed):
    clips, order = random_clips(seed), np.random.default_rng(seed).permutation(SLOTS)
    permuted = []
    for found, info in clips:
        owner = np.empty_like(found.segment_of_slot)
        owner[order] = found.segment_of_slot
        slot_map = order[found.slot_map].astype(np.int16)
        permuted.append((replace(found, slot_map=slot_map, segment_of_slot=owner), info))
    for kind in ALL:
        expected = scored(kind(unit=unit), clips)
        assert scored(kind(unit=unit), permuted) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("unit", UNITS)
@given(seed=SEEDS, cut=st.integers(0, 4))
@settings(max_examples=5, deadline=None)
def test_order_and_repeats_change_nothing(unit, seed, cut):
    clips = random_clips(seed)
    for kind in ALL:
        one, whole = kind(unit=unit), kind(unit=unit)
        scored(whole, clips)
        scored(one, [*clips[cut:], *clips[:cut][::-1], *clips[:1]])
        assert repr(one.compute()) == repr(whole.compute())


@pytest.mark.parametrize("resolution", ["frame", "patch"])
@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_perfect_slots_score_one(resolution, seed):
    """Objects of whole patches, each with a slot of its own."""
    slot_map = np.random.default_rng(seed).integers(0, 4, (2, 3, 4))
    slot_map.flat[:4] = range(4)
    labels = slot_map.repeat(2, axis=1).repeat(2, axis=2)
    for kind in ALL:
        values = scored(kind(resolution=resolution), [clip_of(labels, slot_map)])
        assert list(values.values()) == pytest.approx([1] * len(values))


@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_a_single_slot_has_no_foreground_agreement(seed):
    labels = np.random.default_rng(seed).integers(0, 4, (2, HEIGHT, WIDTH))
    labels.flat[:2] = (1, 2)
    clip = clip_of(labels, np.zeros((2, 3, 4), int))
    assert only(ForegroundAdjustedRand(), clip) == 0
    objects = len(np.unique(labels)) - 1
    splits = scored(SplitsAndMerges(), [clip])
    assert splits == pytest.approx({"over_segmentation_clip": 1, "under_segmentation_clip": objects})


# --- conventions ---------------------------------------------------------------------------------


def halves():
    """Object 1 on the left, object 2 on the right, and a slot for each."""
    labels = np.array([[1, 1, 2, 2]] * 2)[None]
    return labels, np.array([[[0, 1]]])


def test_names_say_the_unit_and_protocols_what_is_compared_where():
    metric = ForegroundAdjustedRand(groups="segments", resolution="patch", unit="video")
    metric.update(*clip_of(*halves()))
    assert list(metric.compute()) == ["fg_ari_video"]
    assert metric.protocol == "segments-patch"
    assert list(MeanBestOverlap(of="class").compute()) == ["mbo_class_clip"]
    assert MeanBestOverlap().protocol == "slots-frame"


def test_without_data_every_number_is_undefined():
    for kind in ALL:
        for unit in UNITS:
            for value in kind(unit=unit).compute().values():
                assert math.isnan(value.value)
                assert value.count == 0


def test_samples_without_objects_are_left_out_and_counted():
    labels, slot_map = halves()
    two = np.concatenate([labels, np.zeros_like(labels)]), slot_map.repeat(2, axis=0)
    for kind in ALL:
        metric = kind(unit="image")
        metric.update(*clip_of(*two))
        for value in metric.compute().values():
            assert (value.value, value.count, value.notes["without_objects"]) == (1, 1, 1)


def test_a_frame_with_one_object_is_all_or_nothing():
    labels = np.array([[[1, 1, 0, 0]] * 2])
    metric = ForegroundAdjustedRand()
    metric.update(*clip_of(labels, np.array([[[0, 1]]])))
    value = metric.compute()["fg_ari_clip"]
    assert (value.value, value.notes["single_object"]) == (1, 1)
    split = clip_of(labels, np.array([[[0, 1, 2, 2]]]))
    assert only(ForegroundAdjustedRand(), split) == pytest.approx(0)


def test_pixels_of_several_objects_are_in_no_table():
    labels, slot_map = halves()
    found, info = clip_of(labels, slot_map)
    masks = np.array(info.truth[0].masks)
    masks[0, :, 2] = True
    info = replace(info, truth=(replace(info.truth[0], masks=masks),))
    metric = MatchedIoU()
    metric.update(found, info)
    value = metric.compute()["miou_clip"]
    assert (value.value, value.notes["shared_points"]) == (1, 2)


def test_objects_between_the_centres_of_patches_are_counted_as_unseen():
    labels = np.array([[[1, 1, 1, 2], [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]])
    metric = MatchedIoU(resolution="patch")
    metric.update(*clip_of(labels, np.zeros((1, 2, 2), int)))
    value = metric.compute()["miou_clip"]
    assert (value.value, value.notes["unseen_objects"]) == (1, 1)


def test_what_naming_dropped_is_one_cluster_and_no_candidate():
    labels, slot_map = halves()
    clip = clip_of(labels, slot_map, [0, -1])
    assert only(ForegroundAdjustedRand(groups="segments"), clip) == 1
    assert only(MeanBestOverlap(groups="segments"), clip) == 0.5
    assert only(MatchedIoU(groups="segments"), clip) == 0.5
    assert only(MatchedIoU(groups="slots"), clip) == 1


def test_slots_of_different_clips_are_different_groups_of_a_video():
    clips = [clip_of(*halves(), name=f"clip{index}") for index in range(2)]
    assert only(MeanBestOverlap(unit="clip"), *clips) == 1
    assert only(MeanBestOverlap(unit="video"), *clips) == 0.5


def test_classes_are_joined():
    labels, _ = halves()
    clip = clip_of(labels, np.zeros((1, 1, 2), int), classes=(2, 2))
    assert only(MeanBestOverlap(of="instance"), clip) == 0.5
    assert only(MeanBestOverlap(of="class"), clip) == 1


def test_frames_need_not_be_a_multiple_of_the_patches():
    assert nearest_cells(3, 7).tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert nearest_cells(7, 3).tolist() == [1, 3, 5]
    labels = nearest_cells(3, 7)[None, None].repeat(5, axis=1) + 1
    assert only(MatchedIoU(), clip_of(labels, np.arange(3)[None, None])) == 1


def test_no_objects_are_background():
    assert label_map(np.zeros((0, 2, 3), bool)).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_stored_predictions_of_shapes_are_scored():
    """Slots cut from the true masks, at a resolution of 2 pixels."""
    dataset, metrics = (
        Shapes("val", videos=1),
        [ForegroundAdjustedRand(), MatchedIoU(), SlotDiagnostics()],
    )
    infos = [dataset.info(index) for index in range(len(dataset))]
    stored = []
    for info in infos:
        maps = [label_map(frame.pixels)[::2, ::2] for frame in info.truth]
        tracks = [np.concatenate([[0], frame.track_ids + 1]) for frame in info.truth]
        slot_map = np.stack([track[labels] for track, labels in zip(tracks, maps, strict=True)])
        found, _ = clip_of(np.zeros((len(maps), 2, 2), int), slot_map)
        stored.append(ClipPrediction(replace(info, truth=None), info.frame_size, found))
    results = evaluate(pack(stored), {info.id: info for info in infos}, metrics)
    assert {"fg_ari_clip@slots-frame", "miou_clip@slots-frame", "active_slots@slots-patch"} <= set(results)
    assert results["fg_ari_clip@slots-frame"].count == len(infos)
    assert results["fg_ari_clip@slots-frame"].value > 0.9
    assert results["miou_clip@slots-frame"].value > 0.8


# --- bad input -----------------------------------------------------------------------------------


def test_truth_without_masks_is_refused():
    found, info = clip_of(*halves())
    bare = replace(info, truth=(replace(info.truth[0], masks=None),))
    with pytest.raises(DataError, match="fg_ari: clip 'clip0', frame 0: the truth has no masks"):
        ForegroundAdjustedRand().update(found, bare)
    with pytest.raises(DataError, match="'clip0' has no truth; mbo needs a dataset with true masks"):
        MeanBestOverlap().update(found, replace(info, truth=None))


def test_masks_of_another_size_are_refused():
    found, info = clip_of(*halves())
    with pytest.raises(DataError, match=r"masks of shape \(2, 2, 4\); expected \(2, 4, 8\)"):
        MatchedIoU().update(found, replace(info, frame_size=(4, 8)))


def test_unknown_tracks_are_refused_unless_images_are_scored():
    found, info = clip_of(*halves())
    lost = replace(info, truth=(replace(info.truth[0], track_ids=np.array([-1, -1])),))
    with pytest.raises(DataError, match="unknown track"):
        MatchedIoU(unit="clip").update(found, lost)
    assert only(MatchedIoU(unit="image"), (found, lost)) == 1
    assert only(MeanBestOverlap(of="class"), (found, lost)) == 1


def test_slot_maps_that_do_not_fit_are_refused():
    found, info = clip_of(*halves())
    with pytest.raises(ContractError, match=r"values 0 to 1; expected 0 to 0"):
        MatchedIoU().update(replace(found, segment_of_slot=np.zeros(1, np.int16)), info)
    with pytest.raises(ContractError, match="Mask metrics need to know the slot of every patch"):
        MatchedIoU().update(replace(found, slot_map=np.zeros((1, 0, 0), np.int16)), info)


def test_a_clip_with_two_results_is_refused():
    metric = MatchedIoU()
    metric.update(*clip_of(*halves()))
    metric.update(*clip_of(*halves()))
    labels, slot_map = halves()
    with pytest.raises(DataError, match="'clip0' was added twice with different results"):
        metric.update(*clip_of(labels, 0 * slot_map))
