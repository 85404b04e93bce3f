"""Boxes of the truth that reach out of their frame: kept as COCO's and trackers' tools do, cut or refused."""

import json

import numpy as np
import pytest

from ovvol_bench.data.json_videos import Coco, CocoVid, YoutubeVis
from ovvol_bench.errors import DataError

BOX, OUTSIDE = [90, -5, 20, 30], [200, 10, 10, 10]
CUT = [90, 0, 99, 24]


def of_images(boxes, videos):
    """One image, a frame of a video where there are any."""
    image = {"id": 1, "file_name": "a.jpg", "width": 100, "height": 80, "video_id": 1, "frame_id": 0}
    annotations = [
        {"id": number, "image_id": 1, "category_id": 1, "bbox": box, "instance_id": number}
        for number, box in enumerate(boxes)
    ]
    lists = {"videos": [{"id": 1, "name": "v"}]} if videos else {}
    return lists | {"images": [image], "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}


def of_tracks(boxes):
    video = {"id": 1, "file_names": ["v/0.jpg"], "length": 1, "width": 100, "height": 80}
    annotations = [
        {"id": number, "video_id": 1, "category_id": 1, "bboxes": [box], "segmentations": [None]}
        for number, box in enumerate(boxes, 1)
    ]
    return {"videos": [video], "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}


READERS = {
    "coco": (Coco, lambda boxes: of_images(boxes, videos=False)),
    "coco-vid": (CocoVid, lambda boxes: of_images(boxes, videos=True)),
    "youtube-vis": (YoutubeVis, of_tracks),
}


@pytest.fixture
def opened(tmp_path):
    def call(reader, boxes, **settings):
        build, content = READERS[reader]
        path = tmp_path / "truth.json"
        path.write_text(json.dumps(content(boxes)))
        if reader != "coco":
            settings["frames_per_clip"] = 1
        return build(path=path, cache=str(tmp_path / "cache"), **settings)

    return call


@pytest.mark.parametrize("reader", READERS)
def test_boxes_stay_as_the_file_has_them(opened, reader):
    dataset = opened(reader, [BOX, OUTSIDE])
    assert dataset.out_of_frame == "keep"
    (frame,) = dataset.info(0).truth
    np.testing.assert_array_equal(frame.boxes, [[90, -5, 109, 24], [200, 10, 209, 19]])


@pytest.mark.parametrize("reader", READERS)
def test_boxes_may_be_cut(opened, reader):
    """Another setting on the same file is not answered from the cache; what nothing is left of is counted."""
    opened(reader, [BOX, OUTSIDE])
    dataset = opened(reader, [BOX, OUTSIDE], out_of_frame="clip")
    assert dataset.out_of_frame == "clip"
    (frame,) = dataset.info(0).truth
    np.testing.assert_array_equal(frame.boxes, [CUT])
    assert sum(dataset.skipped.values()) == 1


@pytest.mark.parametrize("reader", READERS)
def test_boxes_may_be_refused(opened, reader):
    with pytest.raises(DataError, match=r"annotations\[1\].*reaches out of its frame of 100 x 80"):
        opened(reader, [[0, 0, 101, 80], BOX], out_of_frame="refuse")
    opened(reader, [[0, 0, 101, 80]], out_of_frame="refuse")
