"""Files about datasets that come from a JSON file themselves: its numbers, its names, its frames."""

import json

import numpy as np
import pytest

from ovvol_bench.data.json_videos import CocoVid, YoutubeVis
from ovvol_bench.detections import Detections, Frames, in_order
from ovvol_bench.errors import DataError
from ovvol_bench.formats import FORMATS, coco
from ovvol_bench.formats.entries import Content
from ovvol_bench.masks import RleMasks
from ovvol_bench.metrics import evaluate_detections
from ovvol_bench.metrics.tube_ap import TubeAP

SIZE = (12, 20)


def mask(left):
    pixels = np.zeros((1, *SIZE), np.bool_)
    pixels[0, 2:7, left : left + 4] = True
    return {"size": list(SIZE), "counts": RleMasks.of(pixels).counts[0].decode()}


def youtube_vis(path):
    """Every fifth frame is annotated; category 11 is a dog, 2 a cat."""
    video = {
        "id": 7,
        "height": 12,
        "width": 20,
        "length": 3,
        "file_names": [f"a/{5 * t:05d}.jpg" for t in range(3)],
    }
    tracks = [
        {
            "id": number,
            "video_id": 7,
            "category_id": category,
            "iscrowd": 0,
            "segmentations": [mask(left), mask(left + 1), None],
            "bboxes": [[left, 2, 4, 5], [left + 1, 2, 4, 5], None],
        }
        for number, category, left in ((1, 11, 0), (2, 2, 10))
    ]
    categories = [{"id": 11, "name": "dog"}, {"id": 2, "name": "cat"}]
    path.write_text(json.dumps({"videos": [video], "annotations": tracks, "categories": categories}))
    return YoutubeVis(path=path, frames_per_clip=3, cache=str(path.parent / "cache"))


def coco_vid(path):
    """Images are numbered from 50, listed backwards."""
    images = [
        {"id": 50 + t, "video_id": 4, "frame_id": t, "file_name": f"{t}.jpg", "height": 12, "width": 20}
        for t in (2, 1, 0)
    ]
    things = [
        {
            "id": t,
            "image_id": 50 + t,
            "category_id": 9,
            "bbox": [t, 2, 4, 5],
            "instance_id": 1,
            "segmentation": mask(t),
        }
        for t in range(2)
    ]
    videos, categories = [{"id": 4, "name": "val/dog"}], [{"id": 9, "name": "dog"}]
    content = {"videos": videos, "images": images, "annotations": things, "categories": categories}
    path.write_text(json.dumps(content))
    return CocoVid(path=path, frames_per_clip=3, cache=str(path.parent / "cache"))


def perfect(clips, classes):
    truths = [truth for clip in clips for truth in clip.truth]
    counts = [len(truth) for truth in truths]
    return Detections(
        Frames.of(clips),
        np.repeat(np.arange(len(truths)), counts),
        np.concatenate([truth.boxes for truth in truths]),
        np.concatenate([truth.class_ids for truth in truths]),
        np.ones(sum(counts)),
        np.concatenate([truth.track_ids for truth in truths]),
        classes,
        tuple(counts for truth in truths for counts in truth.runs.counts),
    )


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (youtube_vis, "youtube-vis"),
        (youtube_vis, "mot"),
        (coco_vid, "coco"),
        (coco_vid, "coco-vid"),
        (coco_vid, "vid-devkit"),
    ],
)
def test_perfect_predictions_find_their_truth(tmp_path, build, name):
    dataset = build(tmp_path / "truth.json")
    clips = in_order(dataset.info(index) for index in range(len(dataset)))
    content, path = Content.of(dataset), tmp_path / "found"
    FORMATS[name].write(perfect(clips, content.classes), content, path)
    found, report = FORMATS[name].read(path, content, "fail")
    assert not report.dropped
    if name == "vid-devkit":
        assert found.boxes.tolist() == [[0, 2, 3, 6], [1, 2, 4, 6]]
        return
    kind = "box" if found.masks is None else "mask"
    values = evaluate_detections(found, clips, [TubeAP(iou_type=kind)])
    assert values[f"tube_ap_clip@ytvis-{kind}"].value == pytest.approx(1)


def test_numbers_are_those_of_the_truth(tmp_path):
    dataset, path = coco_vid(tmp_path / "truth.json"), tmp_path / "found.json"
    entry = {"image_id": 51, "category_id": 9, "bbox": [1, 2, 4, 5], "score": 0.5}
    path.write_text(json.dumps([entry]))
    found, _ = coco.read(path, Content.of(dataset))
    assert (found.frame.tolist(), found.frames.index[1]) == ([1], 1)
    assert dataset.vocabulary.names[found.class_ids[0]] == "dog"
    path.write_text(json.dumps([entry | {"image_id": 2}]))
    with pytest.raises(DataError, match="unknown frame number 2; the dataset has 50 to 52"):
        coco.read(path, Content.of(dataset))


def test_a_dataset_without_numbers_of_frames_says_so(tmp_path):
    content = Content.of(youtube_vis(tmp_path / "truth.json"))
    path = tmp_path / "found.json"
    path.write_text(json.dumps([{"image_id": 1, "category_id": 2, "bbox": [1, 2, 4, 5], "score": 0.5}]))
    with pytest.raises(DataError, match="unknown frame number 1; the dataset has none"):
        coco.read(path, content)
    with pytest.raises(DataError, match="the dataset has no number for frame 0 of video 'a'"):
        coco.write(Detections(*[content.frames, *[np.zeros(0, np.int64)] * 5], 1), content, path)
