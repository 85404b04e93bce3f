"""Random scenes with tracks and masks, and detections near them, for metrics that look at whole videos."""

import numpy as np

from ovvol_bench.detections import Detections, Frames
from ovvol_bench.masks import RleMasks
from ovvol_bench.predictions import ClipPrediction
from ovvol_bench.types import ClipInfo, FrameTruth, Localization

HEIGHT, WIDTH, FRAMES, CLASSES = 20, 24, 4, 3


def rectangle(rng):
    x1, y1 = rng.integers(0, WIDTH - 4), rng.integers(0, HEIGHT - 4)
    return [x1, y1, rng.integers(x1 + 1, WIDTH), rng.integers(y1 + 1, HEIGHT)]


def moved(box, rng, by=2):
    x1, y1, x2, y2 = np.array(box) + rng.integers(-by, by + 1, 4)
    x1, x2 = sorted(np.clip([x1, x2], 0, WIDTH - 1))
    y1, y2 = sorted(np.clip([y1, y2], 0, HEIGHT - 1))
    return [x1, y1, x2, y2]


def filled(box, rng):
    """The box as a mask with some pixels missing, its corners kept so that it stays the mask's box."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    x1, y1, x2, y2 = box
    mask[y1 : y2 + 1, x1 : x2 + 1] = rng.random((y2 - y1 + 1, x2 - x1 + 1)) < 0.9
    mask[y1, x1] = mask[y2, x2] = True
    return mask


def frame_truth(objects, rng):
    """A frame of (track, class, box)."""
    tracks, classes, boxes = zip(*objects, strict=True) if objects else ((), (), ())
    masks = np.array([filled(box, rng) for box in boxes], bool).reshape(-1, HEIGHT, WIDTH)
    return FrameTruth(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        class_ids=np.array(classes, np.int64),
        track_ids=np.array(tracks, np.int64),
        occluded=np.zeros(len(boxes), bool),
        generated=rng.random(len(boxes)) < 0.2,
        motion_iou=np.full(len(boxes), np.nan, np.float32),
        masks=masks,
    )


def truth_of(rng, videos=2, clips=2):
    """Clips in order, with up to three tracks a video, each of which may be away at times."""
    infos = []
    for video in range(videos):
        tracks = [(7 * number + 1, int(rng.integers(1, CLASSES + 1)), rectangle(rng)) for number in range(3)]
        tracks = tracks[: rng.integers(0, 4)]
        for clip in range(clips):
            frames = []
            for _ in range(FRAMES):
                tracks = [(track, class_id, moved(box, rng)) for track, class_id, box in tracks]
                frames.append(frame_truth([each for each in tracks if rng.random() < 0.8], rng))
            indices = tuple(range(FRAMES * clip, FRAMES * clip + FRAMES))
            infos.append(
                ClipInfo(f"v{video}-{clip}", f"video {video}", indices, (HEIGHT, WIDTH), tuple(frames))
            )
    return infos


def detections_near(infos, rng, per_track_score=False):
    """Detections around true boxes and elsewhere; the tracks of a video are shared by its clips."""
    frames = Frames.of(infos)
    truths = [frame for info in infos for frame in info.truth]
    rows = []
    for row, truth in enumerate(truths):
        for track, class_id, box in zip(truth.track_ids, truth.class_ids, truth.boxes, strict=True):
            if rng.random() < 0.9:
                right = class_id if rng.random() < 0.9 or per_track_score else rng.integers(1, CLASSES + 1)
                rows.append((row, track + 10 * (rng.random() < 0.1), right, moved(box.astype(int), rng, 1)))
        if rng.random() < 0.4:
            rows.append((row, 50, 1 if per_track_score else rng.integers(1, CLASSES + 1), rectangle(rng)))
    if per_track_score:
        levels = rng.integers(1, 9, 100) / 8
        scores = [levels[track] for _, track, _, _ in rows]
    else:
        scores = rng.integers(1, 9, len(rows)) / 8
    return detections(frames, rows, scores, rng)


def detections(frames, rows, scores, rng):
    """Detections of (frame, track, class, box)."""
    frame, tracks, classes, boxes = zip(*rows, strict=True) if rows else ((), (), (), ())
    masks = np.array([filled(box, rng) for box in boxes], bool).reshape(-1, HEIGHT, WIDTH)
    return Detections(
        frames,
        np.array(frame, np.int64),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(classes, np.int64),
        np.array(scores, np.float64),
        np.array(tracks, np.int64),
        CLASSES,
        RleMasks.of(masks).counts if len(masks) else (),
    )


def own_prediction(info, rng):
    """Boxes of two objects of the first frame in all frames, over a slot map of halves."""
    frames = len(info.frame_indices)
    boxes = np.tile(info.truth[0].boxes[:2], (frames, 1, 1))
    slot_map = np.tile(np.arange(2, dtype=np.int16)[:, None], (frames, 1, 2))
    scores = rng.dirichlet(np.ones(17), 2).astype(np.float32)
    present = np.ones((frames, 2), bool)
    return ClipPrediction(
        info, (96, 128), Localization(boxes, present, scores, slot_map, np.arange(2, dtype=np.int16))
    )
