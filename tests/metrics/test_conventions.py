"""Conventions of published evaluations of masks against plain implementations, on small random masks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score

from ovvol_bench.errors import DataError, SettingError
from ovvol_bench.masks import bilinear_winners
from ovvol_bench.metrics.ari import ForegroundAdjustedRand
from ovvol_bench.metrics.mbo import MatchedIoU, MeanBestOverlap
from ovvol_bench.types import ClipInfo, FrameTruth, Localization

FRAMES, OBJECTS, SLOTS = 3, 3, 4
SIZE, GRID = (6, 8), (3, 4)


def random_clip(seed):
    """Labels (T, H, W), 0 for the background, and slots (T, h, w); some frames show nothing."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, OBJECTS + 1, (FRAMES, *SIZE)) * (rng.random((FRAMES, 1, 1)) < 0.7)
    return labels, rng.integers(0, SLOTS, (FRAMES, *GRID))


def clip_of(labels, slots, name):
    none = np.zeros(OBJECTS, np.bool_)
    truth = tuple(
        FrameTruth(
            np.zeros((OBJECTS, 4), np.float32),
            np.ones(OBJECTS, np.int64),
            np.arange(OBJECTS),
            none,
            none,
            np.ones(OBJECTS, np.float32),
            frame == np.arange(1, OBJECTS + 1)[:, None, None],
        )
        for frame in labels
    )
    found = Localization(
        np.zeros((FRAMES, SLOTS, 4), np.float32),
        np.zeros((FRAMES, SLOTS), np.bool_),
        np.zeros((SLOTS, 2), np.float32),
        slots.astype(np.int16),
        np.arange(SLOTS, dtype=np.int16),
    )
    return found, ClipInfo(name, name, tuple(range(FRAMES)), SIZE, truth)


def score(metric, clips):
    for number, clip in enumerate(clips):
        metric.update(*clip_of(*clip, f"v{number}"))
    ((name, value),) = metric.compute().items()
    return f"{name}@{metric.protocol}", value.value


def pixels(slots):
    return slots.repeat(2, axis=-2).repeat(2, axis=-1)


def iou(one, other):
    return (one & other).sum() / (one | other).sum() if (one | other).any() else 0.0


SEEDS = [[0, 1], [2, 3], [4, 5, 6]]


@pytest.mark.parametrize("seeds", SEEDS)
def test_frames_without_objects_count_as_one(seeds):
    """SAVi's ARI of no points is 1, and OCL and VideoSAUR average over such frames too."""
    clips = [random_clip(seed) for seed in seeds]
    values = []
    for labels, slots in clips:
        for truth, found in zip(labels, pixels(slots), strict=True):
            shown = truth > 0
            values.append(adjusted_rand_score(truth[shown], found[shown]) if shown.any() else 1.0)
    assert 1.0 in values
    name, value = score(ForegroundAdjustedRand(unit="image", empty="one"), clips)
    assert name == "fg_ari_image@slots-frame-empty1"
    assert value == pytest.approx(np.mean(values), abs=1e-12)


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("unit", ["image", "clip"])
def test_the_background_counts_as_an_object(seeds, unit):
    clips = [random_clip(seed) for seed in seeds]
    best, matched = [], []
    for labels, slots in clips:
        parts = zip(labels, pixels(slots), strict=True) if unit == "image" else [(labels, pixels(slots))]
        for truth, found in parts:
            rows = [truth == label for label in range(OBJECTS + 1) if (truth == label).any()]
            table = np.array([[iou(row, found == slot) for slot in range(SLOTS)] for row in rows])
            best.append(table.max(axis=1).mean())
            matched.append(table[linear_sum_assignment(-table)].sum() / len(rows))
    for metric, expected in ((MeanBestOverlap, best), (MatchedIoU, matched)):
        name, value = score(metric(unit=unit, background="object"), clips)
        assert name.endswith(f"_{unit}@slots-frame-background")
        assert value == pytest.approx(np.mean(expected), abs=1e-12)


@pytest.mark.parametrize("seeds", SEEDS)
def test_iou_by_frame_is_matched_once_a_video(seeds):
    """SOLV: mean over frames where object or slot shows, Hungarian on these, all all objects alike."""
    clips = [random_clip(seed) for seed in seeds]
    values = []
    for labels, slots in clips:
        found = pixels(slots)
        objects = [label for label in range(1, OBJECTS + 1) if (labels == label).any()]
        table = np.zeros((len(objects), SLOTS))
        for row, label in enumerate(objects):
            for slot in range(SLOTS):
                either = [t for t in range(FRAMES) if (labels[t] == label).any() or (found[t] == slot).any()]
                table[row, slot] = np.mean([iou(labels[t] == label, found[t] == slot) for t in either])
        values += [*table[linear_sum_assignment(-table)], *[0.0] * max(0, len(objects) - SLOTS)]
    name, value = score(MatchedIoU(unit="video", iou="frames"), clips)
    assert name == "miou_video@slots-frame-perframe"
    assert value == pytest.approx(np.mean(values), abs=1e-12)


def soft_clip(seed):
    rng = np.random.default_rng(seed)
    labels, _ = random_clip(seed)
    return labels, rng.integers(0, 256, (FRAMES, SLOTS, *GRID)).astype(np.uint8)


def enlarged(soft):
    """The winner at each pixel, as PyTorch enlarges masks."""
    planes = torch.from_numpy(soft).double()
    return F.interpolate(planes, size=SIZE, mode="bilinear", align_corners=False).argmax(dim=1).numpy()


@pytest.mark.parametrize("seed", range(3))
def test_soft_masks_are_enlarged_before_the_winner_is_taken(seed):
    labels, soft = soft_clip(seed)
    found, info = clip_of(labels, soft.argmax(axis=1), "v0")
    winners, values = enlarged(soft), []
    for truth, group in zip(labels, winners, strict=True):
        if (truth > 0).any():
            values.append(adjusted_rand_score(truth[truth > 0], group[truth > 0]))
    metric = ForegroundAdjustedRand(unit="image", upsampling="bilinear")
    metric.update(replace(found, soft=soft), info)
    assert "soft masks" in metric.needs
    assert metric.protocol == "slots-frame-bilinear"
    assert metric.compute()["fg_ari_image"].value == pytest.approx(np.mean(values), abs=1e-12)
    nearest = ForegroundAdjustedRand(unit="image")
    nearest.update(found, info)
    assert nearest.compute()["fg_ari_image"].value != pytest.approx(np.mean(values), abs=1e-3)


@pytest.mark.parametrize(("grid", "size"), [((3, 4), (7, 9)), ((1, 5), (6, 5)), ((8, 8), (3, 5))])
def test_any_grid_is_enlarged_as_pytorch_does(grid, size):
    soft = np.random.default_rng(0).integers(0, 256, (5, *grid)).astype(np.uint8)
    planes = torch.from_numpy(soft)[None].double()
    expected = F.interpolate(planes, size=size, mode="bilinear", align_corners=False)[0].argmax(dim=0)
    np.testing.assert_array_equal(bilinear_winners(soft, size), expected)


def test_soft_masks_that_were_not_kept_are_asked_for():
    metric = ForegroundAdjustedRand(upsampling="bilinear")
    with pytest.raises(DataError, match=r"fg_ari: clip 'v0' was stored without soft masks, .*--soft-masks"):
        metric.update(*clip_of(*random_clip(0), "v0"))
    with pytest.raises(SettingError, match="expected resolution=frame"):
        ForegroundAdjustedRand(resolution="patch", upsampling="bilinear")


def with_crowds(info, regions):
    """The clip with a region (H, W) a frame that stands for a crowd."""
    truth = tuple(
        replace(frame, crowds=replace(clip_crowd(frame), masks=region[None]))
        for frame, region in zip(info.truth, regions, strict=True)
    )
    return replace(info, truth=truth)


def clip_crowd(frame):
    columns = ("boxes", "class_ids", "track_ids", "occluded", "generated", "motion_iou")
    return FrameTruth(*(getattr(frame, name)[:1] for name in columns))


@pytest.mark.parametrize("seed", range(3))
def test_points_in_crowds_are_left_out(seed):
    labels, slots = random_clip(seed)
    found, info = clip_of(labels, slots, "v0")
    regions = np.random.default_rng(seed).random(labels.shape) < 0.3
    info = with_crowds(info, regions)
    ari, best = [], []
    for all_labels, all_slots, void in zip(labels, pixels(slots), regions, strict=True):
        truth, group = all_labels[~void], all_slots[~void]
        rows = [truth == label for label in range(1, OBJECTS + 1) if (truth == label).any()]
        if rows:
            ari.append(adjusted_rand_score(truth[truth > 0], group[truth > 0]))
            best.append(np.mean([max(iou(row, group == slot) for slot in range(SLOTS)) for row in rows]))
    for metric, expected in ((ForegroundAdjustedRand, ari), (MeanBestOverlap, best)):
        ignoring = metric(unit="image", ignore="crowds")
        ignoring.update(found, info)
        ((_, value),) = ignoring.compute().items()
        assert ignoring.protocol == "slots-frame-nocrowds"
        assert value.value == pytest.approx(np.mean(expected), abs=1e-12)
        assert value.notes["ignored_points"] == regions.sum()


def test_crowds_are_looked_up_at_the_centres_of_patches():
    labels, slots = random_clip(1)
    found, info = clip_of(labels, slots, "v0")
    metric = MeanBestOverlap(resolution="patch", ignore="crowds")
    metric.update(found, with_crowds(info, np.ones(labels.shape, np.bool_)))
    (value,) = metric.compute().values()
    assert np.isnan(value.value)
    assert value.notes["ignored_points"] == slots.size


def test_objects_without_a_group_of_their_own_have_no_overlap_by_frame():
    labels, slots = random_clip(7)
    clips = [(labels, np.zeros_like(slots))]
    _, value = score(MatchedIoU(unit="clip", iou="frames"), clips)
    every = np.ones(SIZE, np.bool_)
    best = max(np.mean([iou(frame == label, every) for frame in labels]) for label in range(1, OBJECTS + 1))
    assert value == pytest.approx(best / len(set(np.unique(labels)) - {0}), abs=1e-12)


def test_iou_by_frame_needs_several_frames():
    with pytest.raises(SettingError, match="iou=frames"):
        MatchedIoU(unit="image", iou="frames")
