from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ovvol_bench.data.json_videos import NO_FRAMES, CocoVid
from ovvol_bench.data.truth_index import CROWD
from ovvol_bench.errors import DataError
from ovvol_bench.naming.vocabulary import imagenet_vid

SIZE = (40, 60)


def image(number: int, video_id: int, frame: int) -> dict[str, Any]:
    return {
        "id": number,
        "video_id": video_id,
        "frame_id": frame,
        "file_name": f"val/v{video_id}/{frame:06d}.JPEG",
        "height": SIZE[0],
        "width": SIZE[1],
    }


def thing(number: int, image_id: int, box: list[float], **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image_id, "category_id": 9, "bbox": box, "instance_id": 4, **more}


def content() -> dict[str, Any]:
    """Video 2: frames 0 to 3, listed backwards, with a moving dog; video 1: frames 0 and 1, empty."""
    images = [image(100 + t, 2, t) for t in (3, 2, 1, 0)] + [image(50 + t, 1, t) for t in range(2)]
    return {
        "videos": [{"id": 1, "name": "val/empty"}, {"id": 2, "name": "val/dog"}],
        "images": images,
        "categories": [{"id": 9, "name": "dog"}, {"id": 4, "name": "zebra"}],
        "annotations": [thing(t, 100 + t, [t, 6, 21, 25]) for t in range(4)],
    }


def vid(data: dict[str, Any]) -> dict[str, Any]:
    """As MMTracking converts ImageNet-VID: widths are differences, flags are there."""
    for t, annotation in enumerate(data["annotations"]):
        annotation["bbox"] = [t, 6, 20, 24]
        annotation |= {"occluded": t == 1, "generated": int(t == 2), "iscrowd": False}
    return data


def build(root: Path, data: dict[str, Any], **settings: Any):
    root.mkdir(parents=True, exist_ok=True)
    path = root / "vid.json"
    path.write_text(json.dumps(data))
    defaults = {"frames_per_clip": 2, "short_side": 32, "cache": str(root / "cache")}
    return CocoVid(path=path, **{**defaults, **settings})


def test_clips_follow_frame_ids_with_truth(tmp_path):
    dataset = build(tmp_path, content())
    infos = [dataset.info(i) for i in range(len(dataset))]
    assert [info.id for info in infos] == ["val/empty/000000", "val/dog/000000", "val/dog/000002"]
    truth = infos[2].truth[1]
    assert truth.boxes.tolist() == [[3, 6, 23, 30]]
    assert (truth.class_ids.tolist(), truth.track_ids.tolist(), truth.masks) == ([1], [4], None)
    assert 0.7 < truth.motion_iou[0] < 1
    assert dataset.vocabulary.names[1:] == ("dog", "zebra")
    ids = dataset.file_ids()
    assert (ids.videos, ids.classes) == ({1: "val/empty", 2: "val/dog"}, {9: 1, 4: 2})
    assert ids.frames[103] == ("val/dog", 3)
    assert ids.frames[51] == ("val/empty", 1)


def test_converted_imagenet_vid_has_inclusive_ends_and_flags(tmp_path):
    dataset = build(tmp_path, vid(content()))
    assert np.array_equal(dataset.index.boxes, build(tmp_path / "coco", content()).index.boxes)
    assert dataset.index.occluded.tolist() == [False, True, False, False]
    assert dataset.index.generated.tolist() == [False, False, True, False]
    exclusive = build(tmp_path, vid(content()), box_ends="exclusive")
    assert exclusive.index.boxes[0].tolist() == [0, 6, 19, 29]
    inclusive = build(tmp_path / "coco", content(), box_ends="inclusive")
    assert inclusive.index.boxes[0].tolist() == [0, 6, 21, 31]


def test_the_names_of_imagenet_vid_bring_its_vocabulary(tmp_path):
    data = content()
    names = [item.name for item in imagenet_vid().classes]
    data["categories"] = [{"id": i, "name": name} for i, name in enumerate(names, 1)]
    dataset = build(tmp_path, data)
    assert dataset.vocabulary == imagenet_vid()
    assert dataset.vocabulary.names[dataset.index.class_ids[0]] == "dog" == names[8]


def test_masks_are_read_and_of_all_objects_or_of_none(tmp_path):
    data = content()
    for t, annotation in enumerate(data["annotations"]):
        annotation["segmentation"] = [[t, 6, t + 21, 6, t + 21, 31, t, 31]]
    dataset = build(tmp_path, data)
    assert dataset.info(1).truth[1].masks.boxes().tolist() == [[1, 6, 21, 30]]
    data["annotations"][1]["segmentation"] = []
    with pytest.raises(DataError, match=r"annotations\[1\] \(id 1\): an object has a box but no mask"):
        build(tmp_path, data)
    assert build(tmp_path, data, masks=False).info(1).truth[1].masks is None


def test_what_is_left_out_is_counted(tmp_path):
    data = content()
    data["videos"].append({"id": 3, "name": "val/nothing"})
    data["annotations"][0]["iscrowd"] = 1
    dataset = build(tmp_path, data)
    assert dataset.skipped == {NO_FRAMES: 1, CROWD: 1}
    assert len(dataset.index.boxes) == 3


def test_unknown_tracks_and_sparse_frames_have_no_motion(tmp_path):
    data = content()
    for annotation in data["annotations"]:
        del annotation["instance_id"]
    dataset = build(tmp_path, data)
    assert set(dataset.index.track_ids.tolist()) == {-1}
    assert np.isnan(dataset.index.motion_iou).all()
    data = content()
    for each in data["images"]:
        each["frame_id"] *= 5
    sparse = build(tmp_path / "sparse", data)
    assert sparse.info(1).frame_indices == (0, 5)
    assert np.isnan(sparse.index.motion_iou).all()


def test_frames_lie_below_the_frames_folder(tmp_path):
    data = content()
    for each in data["images"]:
        file = tmp_path / "frames" / each["file_name"]
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), np.full((*SIZE, 3), 10 * each["frame_id"], np.uint8))
    clip = build(tmp_path, data, frames=tmp_path / "frames").clip(2)
    assert np.allclose(clip.frames.mean((1, 2, 3)) * 255, [20, 30], atol=1)
    with pytest.raises(DataError, match=r"6 of 6 frames are missing .*dataset\.frames"):
        build(tmp_path, data).clip(2)


def broken(part: str, row: int, **values: Any) -> dict[str, Any]:
    data = content()
    data[part][row] |= values
    return data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (broken("annotations", 1, image_id=7), r"annotations\[1\] \(id 1\): image_id 7 is none of the ids"),
        (broken("annotations", 1, category_id=7), r"annotations\[1\] \(id 1\): category_id 7 is none"),
        (broken("annotations", 1, id=0), r"annotations\[1\] \(id 0\): the id 0 is used twice"),
        (
            broken("annotations", 1, bbox=[0, 0, 5]),
            r"annotations\[1\] \(id 1\): bbox is \[0, 0, 5\]; expected",
        ),
        (broken("annotations", 1, bbox=None), r"annotations\[1\] \(id 1\): bbox is nothing; expected a list"),
        (broken("images", 1, video_id=7), r"images\[1\] \(id 102\): video_id 7 is none"),
        (
            broken("images", 1, frame_id=3),
            r"images\[1\] \(id 102\): its video has another image of frame_id 3",
        ),
        (broken("images", 1, frame_id=-1), r"images\[1\] \(id 102\): frame_id is -1"),
        (broken("images", 1, id=103), r"images\[1\] \(id 103\): the id 103 is used twice"),
        (broken("images", 1, height=41), r"frame size changes within 1 videos, first: val/dog"),
        (broken("videos", 1, name="val/empty"), r'videos\[1\] \(id 2\): the name "val/empty" is used twice'),
    ],
)
def test_mistakes_name_the_entry(tmp_path, data, message):
    with pytest.raises(DataError, match=message):
        build(tmp_path, data)


def test_windows_separators_other_track_fields_and_float_ids_are_read(tmp_path):
    data = content()
    for each in data["images"]:
        each["file_name"] = each["file_name"].replace("/", "\\")
        each["id"] = float(each["id"])
    for each in data["annotations"]:
        each["track_id"] = each.pop("instance_id")
    data["annotations"][0]["iscrowd"] = data["annotations"][0]["track_id"] = None
    dataset = build(tmp_path, data)
    assert dataset.index.track_ids.tolist() == [-1, 4, 4, 4]
    assert all("\\" not in name for name in dataset._annotations.files.tolist())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (broken("images", 1, id="103"), r'images\[1\].*id is "103"; expected a whole number'),
        (broken("images", 1, id=2**60), r"images\[1\].*at most 2\^53"),
        (broken("images", 1, height=10**9), r"images\[1\].*height and width"),
        (broken("images", 1, file_name="x" * 5000), r"images\[1\].*at most 1000"),
        (broken("annotations", 1, bbox=["1", "2", "3", "4"]), r"annotations\[1\].*bbox is"),
        (broken("annotations", 1, bbox=[1, 2, 10**400, 4]), r"annotations\[1\].*bbox is"),
        (broken("annotations", 1, bbox=[1, 2, float("nan"), 4]), r"annotations\[1\].*finite"),
        (broken("categories", 1, name="z" * 2000), r"categories\[1\].*at most 1000"),
        (broken("categories", 1, name=" "), r"categories\[1\].*name is blank"),
        (broken("categories", 1, name="c\x1bt"), r"categories\[1\].*name 'c\\x1bt' holds control characters"),
    ],
)
def test_numbers_and_names_beyond_reason_name_the_entry(tmp_path, data, message):
    with pytest.raises(DataError, match=message) as raised:
        build(tmp_path, data)
    assert len(str(raised.value)) < 500
