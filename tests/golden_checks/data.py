"""Case h: sizes of resized frames and boxes, pixels, clip starts, annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from golden_vectors import load_case
from safetensors.numpy import load_file

from ovvol_bench.data.imagenet_vid.dataset import ImageNetVid
from ovvol_bench.data.imagenet_vid.tree import find_tree
from ovvol_bench.data.sampling import ClipSettings, clip_starts
from ovvol_bench.data.transforms import resize_boxes, resize_frames, target_size
from ovvol_bench.naming.vocabulary import ForegroundClass, Vocabulary, imagenet_vid


def load(golden: Path, part: str) -> tuple[Any, dict[str, Any]]:
    """A part of the case, and its tolerances."""
    case = load_case(golden, "schedule_resize_sampling")
    return (case[part] if part in case else pytest.skip(f"the case has no {part}")), case["tolerance"]


def test_golden_resize_sizes_and_boxes(golden):
    items, tolerance = load(golden, "resize")
    for item in items:
        size = (item["height"], item["width"])
        new_size = target_size(size)
        assert new_size == (item["new_height"], item["new_width"]), size
        assert new_size[::-1] == tuple(item.get("new_size_of_boxes", new_size[::-1]))
        boxes = np.array(item.get("boxes", []), np.float32).reshape(-1, 4)
        wanted = np.array(item.get("resized_boxes", []), np.float32).reshape(-1, 4)
        difference = np.abs(resize_boxes(boxes, size, new_size) - wanted)
        assert difference.max(initial=0) <= tolerance.get("boxes_abs", 1e-4), size


def test_golden_image_transform(golden):
    transform, tolerances = load(golden, "image_transform")
    tolerance = tolerances.get("image_abs", 1e-5)
    stored = load_file(golden / "image_transform.safetensors")
    for k, item in enumerate(transform["cases"]):
        image = formula_image(item["height"], item["width"])
        frames = resize_frames([image], target_size(image.shape[:2]), 1)
        normalised = (frames[0] - np.float32(transform["mean"])) / np.float32(transform["std"])
        result = normalised.transpose(2, 0, 1)
        assert list(result.shape) == item.get("out", list(result.shape))
        assert np.abs(result[:, 3::16, 5::16] - stored[f"image_{k}"]).max() <= tolerance
        mean, total = result.mean(dtype=np.float64), np.abs(result).sum(dtype=np.float64)
        assert abs(mean - item.get("mean", mean)) <= tolerance
        assert abs(total - item.get("sum_abs", total)) <= tolerance * result.size


def formula_image(height: int, width: int) -> np.ndarray:
    y, x, channel = np.mgrid[:height, :width, :3]
    return ((13 * x + 7 * y + 29 * channel + (x * y) % 31) % 256).astype(np.uint8)


def test_golden_clip_sampling(golden):
    for item in load(golden, "clip_sampling")[0]:
        offset, in_all = 0, []
        for length, expected in zip(item["video_lengths"], item["clip_start_frames_in_video"], strict=True):
            starts = [clip.start for clip in clip_starts(length, item["frames_per_clip"], "reference")]
            assert starts == expected, length
            in_all += [offset + start for start in starts]
            offset += length
        assert in_all == item.get("clip_start_global", in_all)
        assert len(in_all) == item.get("n_clips", len(in_all))


def test_golden_clip_sampling_of_a_dataset(golden, tmp_path):
    for k, item in enumerate(load(golden, "clip_sampling")[0]):
        root = tmp_path / str(k)
        names = [f"video{i:04d}" for i in range(len(item["video_lengths"]))]
        for name, length in zip(names, item["video_lengths"], strict=True):
            write_video(root, name, [(EMPTY_XML, (4, 4))] * length)
        clips = ClipSettings(item["frames_per_clip"], "reference")
        dataset = ImageNetVid(find_tree(root, "val"), imagenet_vid(), clips, root / "cache")
        starts = {name: [] for name in names}
        for info in map(dataset.info, range(len(dataset))):
            starts[info.video.removeprefix("val/")].append(info.frame_indices[0])
        assert list(starts.values()) == item["clip_start_frames_in_video"]
        assert len(dataset) == item.get("n_clips", len(dataset))


def test_golden_annotation(golden, tmp_path):
    annotation, tolerance = load(golden, "annotation")
    names, codes = annotation["class_names"][1:], annotation["class_ids"][1:]
    classes = tuple(ForegroundClass(name, code=code) for name, code in zip(names, codes, strict=True))
    known = {item.code: item.name for item in imagenet_vid().classes}
    if set(known) <= set(codes):
        assert known == dict(zip(codes, names, strict=True))
        assert list(known) == codes
    for k, item in enumerate(annotation["parsed"]):
        dataset = one_frame_dataset(tmp_path / str(k), item, Vocabulary("golden", classes))
        info = dataset.info(0)
        assert list(info.frame_size) == item["height_width"]
        (truth,) = info.truth
        assert truth.class_ids.tolist() == item["labels"]
        expected = np.array(item["boxes"], np.float32).reshape(-1, 4)
        assert truth.boxes.shape == expected.shape
        assert np.abs(truth.boxes - expected).max(initial=0) <= tolerance.get("boxes_abs", 1e-4)


EMPTY_XML = "<annotation><size><width>4</width><height>4</height></size></annotation>"


def one_frame_dataset(root: Path, item: dict[str, Any], vocabulary: Vocabulary) -> ImageNetVid:
    write_video(root, "video", [(item["xml"], tuple(item["height_width"]))])
    return ImageNetVid(find_tree(root, "val"), vocabulary, ClipSettings(frames=1), root / "cache")


def write_video(root: Path, name: str, frames: list[tuple[str, tuple[int, int]]]) -> None:
    """Frames as (XML, (height, width)) in the ILSVRC-VID layout."""
    images, annotations = (root / part / "VID" / "val" / name for part in ("Data", "Annotations"))
    images.mkdir(parents=True)
    annotations.mkdir(parents=True)
    for i, (xml, size) in enumerate(frames):
        cv2.imwrite(str(images / f"{i:06d}.JPEG"), np.zeros((*size, 3), np.uint8))
        (annotations / f"{i:06d}.xml").write_text(xml)
