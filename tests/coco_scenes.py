"""Random COCO files with crowds, areas, tiny boxes and empty masks, and what pycocotools says of them."""

import copy
import io
from contextlib import redirect_stdout
from typing import Any

import numpy as np
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

File = dict[str, Any]
SIZE = (200, 260)
NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100")


def filled(box: list[float]) -> dict[str, Any]:
    x, y, width, height = (int(side) for side in box)
    pixels = np.zeros(SIZE, np.uint8, order="F")
    pixels[y : y + height, x : x + width] = 1
    rle = mask.encode(pixels)
    return {"size": list(SIZE), "counts": rle["counts"].decode()}


def scene(images: int = 12, masks: bool = False, seed: int = 0) -> tuple[File, list[File]]:
    """Contents of an annotation file and of a result file; ids start at 0 and are in no order."""
    rng = np.random.default_rng(seed)
    ids = rng.permutation(images * 3)[:images].tolist()
    truth: dict[str, Any] = {
        "images": [
            {"id": n, "file_name": f"{n}.jpg", "height": SIZE[0], "width": SIZE[1], "license": 1} for n in ids
        ],
        "categories": [{"id": n, "name": f"thing {n}", "supercategory": "things"} for n in (3, 7)],
        "annotations": [],
    }
    found = []
    for image in ids:
        for _ in range(rng.integers(1, 7)):
            corner, sides = rng.integers(0, 100, 2), (rng.integers(1, 150), rng.integers(1, 95))
            box = [float(value) for value in (*corner, *sides)]
            if rng.random() < 0.1:
                box[2] = float(rng.choice([0.4, 0.0]))
            crowd, category = int(rng.random() < 0.25), int(rng.choice([3, 7]))
            area = float(box[2] * box[3] * rng.uniform(0.5, 1.5))  # another than the box's
            shape = {"segmentation": filled(box)} if masks else {}
            entry = {"id": len(truth["annotations"]) + 1, "image_id": image, "category_id": category}
            truth["annotations"].append({**entry, "bbox": box, "area": area, "iscrowd": crowd, **shape})
            for _ in range(rng.integers(0, 4)):
                moved = [max(0.0, value + float(rng.integers(-6, 7))) for value in box]
                moved[2:] = [min(max(moved[2], 1.0), 150.0), min(max(moved[3], 1.0), 94.0)]
                shape = {"segmentation": filled(moved)} if masks else {}
                score = float(rng.integers(0, 9)) / 8  # equal ones are the rule
                found.append(
                    {"image_id": image, "category_id": category, "bbox": moved, "score": score, **shape}
                )
    return truth, found


def pycocotools_numbers(truth: File, found: list[File], iou_type: str) -> dict[str, float]:
    truth, found = copy.deepcopy((truth, found))
    with redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = truth
        known.createIndex()
        evaluation = COCOeval(known, known.loadRes(found), iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(NAMES, evaluation.stats, strict=False))


class YoutubeVisEval(COCOeval):
    """YouTube-VIS's evaluation of masks as its published code has it: COCO's, by whole tracks."""

    def __init__(self, truth: File, found: list[File]) -> None:
        truth, found = copy.deepcopy((truth, found))
        known, ours = COCO(), COCO()
        truth["images"] = truth.pop("videos")
        ours.dataset = {**truth, "annotations": found}
        known.dataset = truth
        for number, each in enumerate([*truth["annotations"], *found]):
            masks = [m for m in each["segmentations"] if m]
            areas = [a for a in each.get("areas", [mask.area(m) for m in masks]) if a]
            each |= {"image_id": each["video_id"], "area": float(np.mean(areas)) if areas else 0.0}
            each |= {"iscrowd": each.get("iscrowd", 0), "id": number + 1}
        with redirect_stdout(io.StringIO()):
            known.createIndex()
            ours.createIndex()
            super().__init__(known, ours, "segm")
            self.params.areaRng = [[0, 1e10], [0, 128**2], [128**2, 256**2], [256**2, 1e10]]
            self.evaluate()
            self.accumulate()
            self.summarize()

    def _prepare(self) -> None:
        self.params.iouType = "bbox"  # masks are there already; pycocotools would look for one "segmentation"
        super()._prepare()

    def computeIoU(self, imgId: int, catId: int) -> Any:
        true, found = self._gts[imgId, catId], self._dts[imgId, catId]
        found = [found[at] for at in np.argsort([-each["score"] for each in found], kind="mergesort")]
        return (
            np.array([[_iou(d["segmentations"], g["segmentations"]) for g in true] for d in found])
            if (true and found)
            else []
        )


def _iou(first: list[Any], second: list[Any]) -> float:
    shared = union = 0.0
    for d, g in zip(first, second, strict=True):
        both = [each for each in (d, g) if each]
        union += float(mask.area(mask.merge(both))) if both else 0.0
        shared += float(mask.area(mask.merge(both, intersect=True))) if len(both) == 2 else 0.0
    return shared / union if union else 0.0


def tracked(videos: int = 4, length: int = 3, seed: int = 0) -> tuple[File, list[File]]:
    """Contents of a YouTube-VIS file with crowds and areas, and of results with tracks that show nothing."""
    rng = np.random.default_rng(seed)
    truth: File = {
        "videos": [
            {
                "id": number,
                "length": length,
                "height": SIZE[0],
                "width": SIZE[1],
                "file_names": [f"v{number}/{t:05d}.jpg" for t in range(length)],
            }
            for number in range(1, videos + 1)
        ],
        "categories": [{"id": 3, "name": "dog"}, {"id": 7, "name": "cat"}],
        "annotations": [],
    }
    found: list[File] = []
    for video in range(1, videos + 1):
        for _ in range(rng.integers(2, 6)):
            box = [*rng.integers(0, 90, 2).tolist(), *rng.integers(20, 90, 2).tolist()]
            own = {"video_id": video, "category_id": int(rng.choice([3, 7]))}
            shapes = [filled(box) if rng.random() < 0.8 else None for _ in range(length)]
            shapes[0] = filled(box)
            areas = [each and float(rng.integers(100, 40_000)) for each in shapes]
            entry = {"id": len(truth["annotations"]) + 1, "iscrowd": int(rng.random() < 0.3), **own}
            boxes = [each and [float(side) for side in box] for each in shapes]
            truth["annotations"].append({**entry, "segmentations": shapes, "areas": areas, "bboxes": boxes})
            for _ in range(rng.integers(0, 4)):
                near = [max(1, side + int(rng.integers(-3, 4))) for side in box]
                guess = [filled(near) if rng.random() < 0.9 else None for _ in range(length)]
                score = float(rng.integers(0, 10**6)) / 1e6
                found.append({**own, "score": score, "segmentations": guess})
    nothing = {"video_id": 1, "category_id": 3, "score": 1.0}
    found.append({**nothing, "segmentations": [filled([0, 0, 0, 0])] * length})
    found.append({**nothing, "segmentations": [None] * length})
    return truth, found
