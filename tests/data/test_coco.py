"""COCO's protocol on COCO's own files: the same numbers as pycocotools on the same bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from coco_scenes import filled, pycocotools_numbers, scene

from ovvol_bench.data.json_videos import Coco, CocoVid
from ovvol_bench.data.truth_index import CROWD
from ovvol_bench.detections import Frames, in_order
from ovvol_bench.errors import DataError
from ovvol_bench.formats import coco
from ovvol_bench.formats.entries import Content
from ovvol_bench.metrics.coco_ap import coco_values
from ovvol_bench.metrics.truth import TruthTable


def numbers(folder: Path, build, truth: dict[str, Any], found: list[Any], iou_type: str) -> dict[str, float]:
    path, results = folder / "truth.json", folder / "found.json"
    path.write_text(json.dumps(truth))
    results.write_text(json.dumps(found))
    dataset = build(path=path, cache=str(folder / "cache"))
    infos = [dataset.info(index) for index in range(len(dataset))]
    content = Content(Frames.of(infos), dataset.file_ids(), dataset.vocabulary.names)
    detections, _ = coco.read(results, content)
    table = TruthTable.of(in_order(infos))
    values = coco_values(detections, table, iou_type, backend="pycocotools")
    return {name: value.value for name, value in values.items()}


def as_video(truth: dict[str, Any]) -> dict[str, Any]:
    """The images as frames of one video, in another order than that of their ids."""
    images = truth["images"]
    for frame, image in enumerate(images):
        image |= {"video_id": 1, "frame_id": frame}
    return {**truth, "images": images, "videos": [{"id": 1, "name": "v"}]}


@pytest.mark.parametrize("iou_type", ["box", "mask"])
@pytest.mark.parametrize("build", [Coco, CocoVid])
def test_crowds_areas_and_ids_as_pycocotools_has_them(tmp_path, build, iou_type):
    truth, found = scene(masks=iou_type == "mask")
    expected = pycocotools_numbers(truth, found, "bbox" if iou_type == "box" else "segm")
    ours = numbers(tmp_path, build, truth if build is Coco else as_video(truth), found, iou_type)
    assert expected["ap"] > 0.2
    assert {name: ours[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_one_image_with_a_crowd(tmp_path):
    """A detection on a crowd is no false positive, and a crowd that isn't found is no miss."""
    truth, _ = scene(images=1)
    entry = {"image_id": truth["images"][0]["id"], "category_id": 3}
    truth["annotations"] = [
        {**entry, "id": 1, "bbox": [10, 10, 30, 30], "area": 900, "iscrowd": 0},
        {**entry, "id": 2, "bbox": [60, 20, 60, 60], "area": 3600, "iscrowd": 1},
    ]
    found = [
        {**entry, "bbox": [10, 10, 30, 30], "score": 0.5},
        {**entry, "bbox": [65, 25, 40, 40], "score": 0.9},
    ]
    assert numbers(tmp_path, Coco, truth, found, "box")["ap"] == pytest.approx(1)
    dataset = Coco(path=tmp_path / "truth.json", cache=str(tmp_path / "cache"))
    assert dataset.skipped == {CROWD: 1}
    truth["annotations"][1]["iscrowd"] = 0
    assert dataset.fingerprint() != _fingerprint(tmp_path, truth)


def _fingerprint(folder: Path, truth: dict[str, Any]) -> str:
    (folder / "other.json").write_text(json.dumps(truth))
    return Coco(path=folder / "other.json", cache=str(folder / "cache")).fingerprint()


def test_empty_masks_and_tiny_boxes_are_false_ones_as_for_pycocotools(tmp_path):
    truth, found = scene(masks=True, seed=3)
    nothing = {"size": filled([0, 0, 1, 1])["size"], "counts": filled([0, 0, 0, 0])["counts"]}
    image = truth["images"][0]["id"]
    found.append({"image_id": image, "category_id": 3, "segmentation": nothing, "score": 1.0})
    found.append({**found[-1], "category_id": 7})
    whole = [{**each, "bbox": each.get("bbox", [0, 0, 0, 0])} for each in found]  # pycocotools wants one
    expected = pycocotools_numbers(truth, whole, "segm")["ap"]
    assert numbers(tmp_path, Coco, truth, found, "mask")["ap"] == pytest.approx(expected, abs=1e-12)
    for each in found:
        each.pop("segmentation")
        each.setdefault("bbox", [5.0, 5.0, 0.4, 3.0])
    expected = pycocotools_numbers(truth, found, "bbox")["ap"]
    assert numbers(tmp_path, Coco, truth, found, "box")["ap"] == pytest.approx(expected, abs=1e-12)


def test_images_of_one_file_name_are_told_apart_by_their_ids(tmp_path):
    truth, _ = scene(images=2)
    for image in truth["images"]:
        image["file_name"] = "same.jpg"
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    dataset = Coco(path=tmp_path / "truth.json", cache=str(tmp_path / "cache"))
    assert dataset.index.videos.tolist() == sorted((str(each["id"]) for each in truth["images"]), key=int)


def test_coco_vid_says_which_dataset_reads_images_without_videos(tmp_path):
    (tmp_path / "truth.json").write_text(json.dumps(scene(images=1)[0]))
    with pytest.raises(DataError, match="by the dataset 'coco'"):
        CocoVid(path=tmp_path / "truth.json", cache=str(tmp_path / "cache"))


def test_areas_are_numbers_from_0(tmp_path):
    truth, _ = scene(images=1)
    for wrong in (-1, "12", float("nan"), 10**400):
        truth["annotations"][0]["area"] = wrong
        (tmp_path / "truth.json").write_text(json.dumps(truth))
        with pytest.raises(DataError, match=r"annotations\[0\].*area is"):
            Coco(path=tmp_path / "truth.json", cache=str(tmp_path / "cache"))
