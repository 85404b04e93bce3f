"""COCO's numbers against a run of pycocotools on files, and the packages against each other."""

import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from tracked_scenes import CLASSES, HEIGHT, WIDTH, detections, detections_near, own_prediction, truth_of

from ovvol_bench.data.shapes.dataset import Shapes
from ovvol_bench.detections import Frames, detections_of
from ovvol_bench.errors import DataError, SettingError
from ovvol_bench.metrics import evaluate, evaluate_detections
from ovvol_bench.metrics.coco_ap import CocoAP
from ovvol_bench.predictions import pack

STATS = (
    *("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    *("ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large"),
)


def scored(found, infos, **settings):
    metric = CocoAP(**{"backend": "pycocotools", **settings})
    return {key.split("@")[0]: value for key, value in evaluate_detections(found, infos, [metric]).items()}


def plain(values):
    return {key: value.value for key, value in values.items()}


# --- the other way to the same numbers: files, as COCO's own example has it ----------------------


def write_files(folder, infos, found, mask):
    from pycocotools import mask as coco_mask

    annotations, images = [], []
    for info in infos:
        for truth in info.truth:
            images.append({"id": len(images) + 1, "width": WIDTH, "height": HEIGHT})
            for class_id, box, pixels in zip(truth.class_ids, truth.boxes, truth.masks, strict=True):
                x1, y1, x2, y2 = map(float, box)
                runs = coco_mask.encode(np.asfortranarray(pixels.astype(np.uint8)))
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": len(images),
                        "category_id": int(class_id),
                        "bbox": [x1, y1, x2 - x1 + 1, y2 - y1 + 1],
                        "area": int(pixels.sum()) if mask else (x2 - x1 + 1) * (y2 - y1 + 1),
                        "segmentation": {"size": runs["size"], "counts": runs["counts"].decode()},
                        "iscrowd": 0,
                    }
                )
    results = []
    for row in range(len(found)):
        x1, y1, x2, y2 = map(float, found.boxes[row])
        shape = {"bbox": [x1, y1, x2 - x1 + 1, y2 - y1 + 1]}
        if mask:
            shape = {"segmentation": {"size": [HEIGHT, WIDTH], "counts": found.masks[row].decode()}}
        where = {"image_id": int(found.frame[row]) + 1, "category_id": int(found.class_ids[row])}
        results.append({**where, "score": float(found.scores[row]), **shape})
    categories = [{"id": each, "name": str(each)} for each in range(1, CLASSES + 1)]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results))


def official(folder, iou_type, use_cats):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO(str(folder / "truth.json"))
    run = COCOeval(truth, truth.loadRes(str(folder / "results.json")), iou_type)
    run.params.useCats = use_cats
    run.evaluate()
    run.accumulate()
    run.summarize()
    return dict(zip(STATS, np.where(run.stats < 0, np.nan, run.stats), strict=True))


@pytest.mark.parametrize("mask", [False, True], ids=["box", "mask"])
@pytest.mark.parametrize("class_agnostic", [False, True], ids=["by class", "class-agnostic"])
@pytest.mark.parametrize("seed", range(3))
def test_numbers_are_those_of_pycocotools_on_files(tmp_path, capsys, mask, class_agnostic, seed):
    rng = np.random.default_rng(seed)
    infos = truth_of(rng, videos=4)
    found = detections_near(infos, rng)
    write_files(tmp_path, infos, found, mask)
    expected = official(tmp_path, "segm" if mask else "bbox", int(not class_agnostic))
    capsys.readouterr()
    ours = scored(found, infos, iou_type="mask" if mask else "box", class_agnostic=class_agnostic)
    assert capsys.readouterr().out == ""
    suffix = "_agnostic" if class_agnostic else ""
    assert set(ours) == {f"{name}{suffix}" for name in STATS}
    for name, value in expected.items():
        assert ours[f"{name}{suffix}"].value == pytest.approx(value, abs=1e-12, nan_ok=True), name


@pytest.mark.parametrize("iou_type", ["box", "mask"])
@pytest.mark.parametrize("class_agnostic", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_the_fast_package_gives_the_same_numbers(iou_type, class_agnostic, seed):
    pytest.importorskip("hotcoco", reason="the extra 'coco' is not installed")
    rng = np.random.default_rng(seed)
    infos = truth_of(rng, videos=4)
    found = detections_near(infos, rng)
    settings = {"iou_type": iou_type, "class_agnostic": class_agnostic, "ignore_generated": True}
    slow, fast = scored(found, infos, **settings), scored(found, infos, **settings, backend="hotcoco")
    assert plain(fast) == pytest.approx(plain(slow), abs=1e-9, nan_ok=True)
    assert (slow["ap_agnostic" if class_agnostic else "ap"].notes["backend"]) == "pycocotools"


def test_a_crowded_image_is_cut_at_100_and_says_so():
    infos = truth_of(np.random.default_rng(1))
    frames = Frames.of(infos)
    target = next(row for info in infos for row, truth in enumerate(info.truth) if len(truth))
    rows = [(target, -1, 1, (0, 0, 5, 5))] * 103 + [(target, -1, 2, (0, 0, 5, 5))] * 7
    found = detections(frames, rows, np.ones(110), np.random.default_rng(0))
    assert scored(found, infos)["ap"].notes["cut"] == 3
    agnostic = scored(found, infos, class_agnostic=True)["ap_agnostic"]
    assert agnostic.notes["cut"] == 10
    assert agnostic.notes["detections"] == 110


def one_object(generated=False):
    """A frame with one object and room for detections."""
    rng = np.random.default_rng(0)
    info = next(info for info in truth_of(rng, 8) if any(len(frame) for frame in info.truth))
    truth = next(frame for frame in info.truth if len(frame))
    first = {
        name: getattr(truth, name)[:1]
        for name in ("class_ids", "track_ids", "occluded", "motion_iou", "masks")
    }
    boxes = np.array([[0, 0, 9, 9]], np.float32)
    frame = replace(truth, **first, boxes=boxes, generated=np.array([generated]))
    return replace(info, frame_indices=(0,), truth=(frame,)), int(frame.class_ids[0])


def found_in(info, *rows):
    scores = np.linspace(1, 0.1, len(rows)) if rows else []
    return detections(Frames.of([info]), list(rows), scores, np.random.default_rng(0))


def test_numbers_without_data_are_undefined_and_missed_ones_zero():
    info, class_id = one_object()
    nothing = scored(found_in(info), [info])
    assert nothing["ap"].value == 0
    assert nothing["ap"].notes["per_class"] == {str(class_id): 0.0}
    assert (nothing["ap"].count, nothing["ap_large"].count) == (1, 0)
    assert np.isnan(nothing["ap_large"].value)
    perfect = scored(found_in(info, (0, 1, class_id, (0, 0, 9, 9))), [info])
    assert perfect["ap"].value == pytest.approx(1)
    bare = replace(info, truth=tuple(empty(frame) for frame in info.truth))
    assert np.isnan(scored(found_in(bare, (0, 1, class_id, (0, 0, 9, 9))), [bare])["ap"].value)


def empty(frame):
    names = ("boxes", "class_ids", "track_ids", "occluded", "generated", "motion_iou", "masks")
    return replace(frame, **{name: getattr(frame, name)[:0] for name in names})


def test_interpolated_truth_is_neither_found_nor_missed_if_ignored():
    info, class_id = one_object(generated=True)
    found = found_in(info, (0, 1, class_id, (0, 0, 9, 9)))
    assert scored(found, [info])["ap"].value == pytest.approx(1)
    (key, ignored), *_ = evaluate_detections(found, [info], [CocoAP(ignore_generated=True)]).items()
    assert key == "ap@coco-manual"
    assert np.isnan(ignored.value)
    assert ignored.notes["objects"] == 0


def test_without_classes_a_detection_of_none_may_find_anything():
    info, _ = one_object()
    found = found_in(info, (0, 1, 0, (0, 0, 9, 9)))
    assert scored(found, [info])["ap"].value == 0
    assert scored(found, [info], class_agnostic=True)["ap_agnostic"].value == pytest.approx(1)


def test_our_own_predictions_are_detections_of_every_class():
    dataset = Shapes("val", videos=2)
    infos = [dataset.info(index) for index in range(len(dataset))]
    rng = np.random.default_rng(0)
    predictions = pack([own_prediction(info, rng) for info in infos])
    truth = {info.id: info for info in infos}
    metrics = [CocoAP(), CocoAP(labels="top1"), CocoAP(class_agnostic=True)]
    metrics.append(CocoAP(iou_type="mask"))
    ours = evaluate(predictions, truth, metrics)
    frames = Frames.of(infos)
    for labels, key in [("all", "ap50@coco"), ("top1", "ap50_top1@coco"), ("top1", "ap50_agnostic@coco")]:
        found = detections_of(predictions, frames, labels)
        metric = CocoAP(class_agnostic="agnostic" in key, labels=labels)
        assert evaluate_detections(found, infos, [metric])[key] == ours[key]
    assert ours["ap50@coco"].notes["detections"] == 16 * ours["ap50_top1@coco"].notes["detections"]
    assert "ap50@coco-mask" in ours


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ({"masks": None}, {"iou_type": "mask"}, "boxes but no masks"),
        ({"classes": 0}, {}, "expected 1 to 0, the classes of the predictions"),
        ({"boxes": np.full((1, 4), [9, 9, 0, 0], np.float32)}, {}, "detection in frame 0 of video"),
    ],
)
def test_detections_that_cannot_be_scored_are_refused(change, settings, message):
    info, class_id = one_object()
    found = replace(found_in(info, (0, 1, class_id, (0, 0, 9, 9))), **change)
    with pytest.raises(DataError, match=message):
        scored(found, [info], **settings)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (None, "the truth has no masks"),
        (np.zeros((1, 4, 4), bool), r"shape \(1, 4, 4\); expected \(1, 20, 24\)"),
    ],
)
def test_truth_without_masks_of_the_frame_is_refused(masks, message):
    info, class_id = one_object()
    wrong = replace(info, truth=(replace(info.truth[0], masks=masks),))
    with pytest.raises(DataError, match=message):
        scored(found_in(info, (0, 1, class_id, (0, 0, 9, 9))), [wrong], iou_type="mask")


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    info, _ = one_object()
    monkeypatch.setattr("ovvol_bench.errors.find_spec", lambda name: None)
    with pytest.raises(SettingError, match=r"backend=hotcoco needs .* pip install 'ovvol-bench\[coco\]'"):
        scored(found_in(info), [info], backend="hotcoco")
    monkeypatch.setattr("ovvol_bench.metrics.coco_ap.find_spec", lambda name: None)
    assert CocoAP().compute()["ap"].notes["backend"] == "pycocotools"


def test_memory_does_not_grow_with_the_classes():
    """With 3,000 classes pycocotools would hold half a gigabyte of curves at once."""
    rng = np.random.default_rng(0)
    infos = truth_of(rng)
    found = detections_near(infos, rng)
    tracemalloc.start()
    many = plain(scored(replace(found, classes=3000), infos))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert many == pytest.approx(plain(scored(found, infos)), nan_ok=True)
    assert peak < 30e6
