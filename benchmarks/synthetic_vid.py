"""Seeded predictions and truth of any size, up to ImageNet-VID's validation set, and their files.

    python benchmarks/synthetic_vid.py FRAMES FOLDER [tree]

writes ``FOLDER/predictions`` and ``FOLDER/truth.npz``, and with ``tree`` also ``FOLDER/tree``, a tree in
the ILSVRC-VID layout with the truth as XML (its frames are empty files: they are counted, never decoded).
"""

import sys
from pathlib import Path

import numpy as np

from ovvol_bench.arrays import offsets_of
from ovvol_bench.naming.vocabulary import imagenet_vid
from ovvol_bench.predictions import Predictions
from ovvol_bench.runs.predictions import PredictionWriter
from ovvol_bench.types import ClipInfo, FrameTruth

FULL, VIDEOS = 176_126, 555
WORDS = imagenet_vid().classes
CLIP, CLASSES, SLOTS, GRID, SIZE = 8, len(WORDS), 15, (14, 25), (224, 400)

OBJECT = """\t<object>
\t\t<trackid>{track}</trackid>
\t\t<name>{code}</name>
\t\t<bndbox>
\t\t\t<xmax>{x2:.0f}</xmax>
\t\t\t<xmin>{x1:.0f}</xmin>
\t\t\t<ymax>{y2:.0f}</ymax>
\t\t\t<ymin>{y1:.0f}</ymin>
\t\t</bndbox>
\t\t<occluded>0</occluded>
\t\t<generated>{generated}</generated>
\t</object>
"""
ANNOTATION = """<annotation>
\t<folder>{folder}</folder>
\t<filename>{frame:06d}</filename>
\t<source>
\t\t<database>ILSVRC_2015</database>
\t</source>
\t<size>
\t\t<width>400</width>
\t\t<height>224</height>
\t</size>
{objects}</annotation>
"""


def boxes_on_the_grid(rng, count):
    low = rng.integers(0, (22, 11), (count, 2))
    high = np.minimum(low + rng.integers(2, 10, (count, 2)), (24, 13))
    return np.concatenate([16 * low, 16 * high + 15], axis=1).astype(np.float32)


def synthetic(frames, seed=0):
    """Predictions and truth: 3 to 7 segments a clip, some of them near one of 0 to 3 objects a frame."""
    rng = np.random.default_rng(seed)
    clips = max(frames // CLIP, 1)
    objects = rng.integers(0, 4, clips)
    segments = rng.integers(3, 8, clips)
    starts = offsets_of(objects)
    truth_boxes, labels = boxes_on_the_grid(rng, starts[-1]), rng.integers(1, CLASSES + 1, starts[-1])
    base = boxes_on_the_grid(rng, segments.sum())
    logits = rng.normal(0, 2, (segments.sum(), CLASSES + 1))
    near = offsets_of(segments)[:-1][objects > 0]
    base[near] = truth_boxes[starts[:-1][objects > 0]]
    logits[near, labels[starts[:-1][objects > 0]]] += rng.uniform(0, 8, len(near))
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows = np.concatenate([np.tile(np.arange(a, b), CLIP) for a, b in zip(*bounds(segments), strict=True)])
    boxes = base[rows] + 16 * rng.integers(-1, 2, (len(rows), 1))
    videos = np.arange(clips) * min(VIDEOS, clips) // clips
    places = np.arange(clips) - np.searchsorted(videos, videos)
    infos = [
        info_of(rng, f"val/{video:08d}", CLIP * place, truth_boxes[a:b], labels[a:b])
        for video, place, a, b in zip(videos.tolist(), places.tolist(), *bounds(objects), strict=True)
    ]
    predictions = Predictions(
        clip_ids=tuple(info.id for info in infos),
        videos=tuple(info.video for info in infos),
        frame_counts=np.full(clips, CLIP),
        segment_counts=segments,
        slot_counts=np.full(clips, SLOTS),
        grids=np.tile(GRID, (clips, 1)),
        frame_sizes=np.tile(SIZE, (clips, 1)),
        input_sizes=np.tile(SIZE, (clips, 1)),
        frame_indices=np.concatenate([info.frame_indices for info in infos]),
        boxes=boxes.astype(np.float32),
        present=rng.random(len(rows)) < 0.95,
        probabilities=scores.astype(np.float32),
        slot_map=np.zeros(clips * CLIP * GRID[0] * GRID[1], np.int16),
        segment_of_slot=np.zeros(clips * SLOTS, np.int16),
        soft_counts=np.zeros(clips, np.int64),
        soft=np.zeros(0, np.uint8),
    )
    return predictions, {info.id: info for info in infos}


def bounds(counts):
    offsets = offsets_of(counts)
    return offsets[:-1], offsets[1:]


def info_of(rng, video, first, boxes, labels):
    """A clip whose objects stand still."""
    count = len(boxes)
    truth = FrameTruth(
        boxes=boxes,
        class_ids=labels,
        track_ids=np.arange(count),
        occluded=np.zeros(count, bool),
        generated=rng.random(count) < 0.2,
        motion_iou=rng.uniform(0.4, 1, count).astype(np.float32),
    )
    indices = tuple(range(first, first + CLIP))
    return ClipInfo(f"{video}/{first:06d}", video, indices, SIZE, (truth,) * CLIP)


def write_shards(predictions, folder, clips=64):
    """As a run writes them, 64 clips at a time."""
    writer = PredictionWriter(folder)
    for start in range(0, len(predictions), clips):
        some = np.arange(start, min(start + clips, len(predictions)))
        writer.write(list(predictions.select(some)))
    return writer.folder


def write_truth(infos, path):
    """All frames as the columns of a ``FrameTable``, and the ids of the clips."""
    frames = [frame for info in infos for frame in info.truth]
    names = ("boxes", "class_ids", "track_ids", "occluded", "generated", "motion_iou")
    columns = {name: np.concatenate([getattr(frame, name) for frame in frames]) for name in names}
    offsets = offsets_of(np.array([len(frame) for frame in frames]))
    np.savez(path, **columns, offsets=offsets, clips=[info.id for info in infos])


def write_tree(infos, root):
    """A tree in the ILSVRC-VID layout whose clips of 8 frames are ``infos``."""
    for info in infos:
        frames, annotations = (root / part / "VID" / info.video for part in ("Data", "Annotations"))
        for folder in (frames, annotations):
            folder.mkdir(parents=True, exist_ok=True)
        for frame, truth in zip(info.frame_indices, info.truth, strict=True):
            (frames / f"{frame:06d}.JPEG").touch()
            text = ANNOTATION.format(folder=frames.name, frame=frame, objects="".join(objects_of(truth)))
            (annotations / f"{frame:06d}.xml").write_text(text)
    return root


def objects_of(truth):
    for row, (x1, y1, x2, y2) in enumerate(truth.boxes.tolist()):
        code, generated = WORDS[truth.class_ids[row] - 1].code, int(truth.generated[row])
        yield OBJECT.format(track=row, code=code, x1=x1, y1=y1, x2=x2, y2=y2, generated=generated)


if __name__ == "__main__":
    made, truth = synthetic(int(sys.argv[1]))
    write_shards(made, Path(sys.argv[2]) / "predictions")
    write_truth(list(truth.values()), Path(sys.argv[2]) / "truth.npz")
    if "tree" in sys.argv[3:]:
        write_tree(truth.values(), Path(sys.argv[2]) / "tree")
