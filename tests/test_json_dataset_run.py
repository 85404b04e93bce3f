"""The whole way on a tiny YouTube-VIS folder: run, masks scored, and a results file of it read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from click.testing import CliRunner
from pycocotools import mask as coco

from ovvol_bench.cli import main

SIZE, FRAMES = (64, 96), 8


def ovvol_bench(*arguments: object) -> str:
    outcome = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    return outcome.stdout


def segmentation(left: int) -> dict[str, Any]:
    pixels = np.zeros(SIZE, np.uint8)
    pixels[10:40, left : left + 30] = 1
    rle = coco.encode(np.asfortranarray(pixels))
    return {"size": list(SIZE), "counts": rle["counts"].decode()}


def write_dataset(root: Path) -> None:
    """Two videos of 8 frames with one object each."""
    rng = np.random.default_rng(0)
    videos, annotations = [], []
    for number, name in ((4, "one"), (9, "two")):
        names = [f"{name}/{5 * t:05d}.jpg" for t in range(FRAMES)]
        videos.append(
            {"id": number, "height": SIZE[0], "width": SIZE[1], "length": FRAMES, "file_names": names}
        )
        annotations.append({"id": number, "video_id": number, "category_id": 6, "iscrowd": 0})
        annotations[-1]["segmentations"] = [segmentation(t) for t in range(FRAMES)]
        for frame in names:
            (root / "train/JPEGImages" / name).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / "train/JPEGImages" / frame), rng.integers(0, 255, (*SIZE, 3), np.uint8))
    categories = [{"id": 6, "name": "sedan"}, {"id": 2, "name": "owl"}]
    content = {"videos": videos, "categories": categories, "annotations": annotations}
    (root / "train.json").write_text(json.dumps(content))


def test_run_and_score_masks_of_a_json_dataset(tmp_path):
    write_dataset(tmp_path)
    dataset = ("-o", f"dataset.path={tmp_path}", "-o", f"dataset.cache={tmp_path / 'cache'}")
    ovvol_bench(
        *("run", "--preset", "tiny", "--dataset", "youtube-vis", *dataset, "-o", "dataset.short_side=64"),
        *("-o", "encoder.weights=none", "-o", "grouper.weights=none", "-o", "labeler.weights=none"),
        *("--output", tmp_path / "runs"),
    )
    (file,) = (tmp_path / "runs").rglob("result.json")
    ovvol_bench("eval", file.parent, "--metrics", "corloc,fg_ari,mbo")
    metrics = {name: value["value"] for name, value in json.loads(file.read_text())["metrics"].items()}
    scored = {name for name in metrics if name.startswith(("fg_ari", "mbo", "corloc"))}
    assert len(scored) >= 3
    assert all(value is not None and np.isfinite(value) for name, value in metrics.items() if name in scored)


def test_a_perfect_results_file_is_scored_with_the_files_own_numbers(tmp_path):
    write_dataset(tmp_path)
    truth = json.loads((tmp_path / "train.json").read_text())["annotations"]
    keys = ("video_id", "category_id", "segmentations")
    found = tmp_path / "found.json"
    found.write_text(json.dumps([{**{key: item[key] for key in keys}, "score": 0.9} for item in truth]))
    told = ovvol_bench(
        *("eval", found, "--truth", "youtube-vis", "-o", f"dataset.path={tmp_path}"),
        *("-o", f"dataset.cache={tmp_path / 'cache'}", "--metrics", "coco_ap", "--format", "json"),
    )
    assert '"value": 1.0' in told
