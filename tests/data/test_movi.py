from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ovvol_bench.cli import main
from ovvol_bench.data.movi import CATEGORIES, Movi, write_examples
from ovvol_bench.errors import DataError, DecodeError, SettingError
from ovvol_bench.metrics.coco_ap import CocoAP
from ovvol_bench.metrics.masks import MaskMetric
from ovvol_bench.metrics.mbo import MatchedIoU
from ovvol_bench.metrics.tube_ap import TubeAP
from ovvol_bench.types import ClipInfo, Localization

SIZE = (32, 48)
FRAMES = 4


def example(name: Any = 7, category: Any = (9, 13)) -> dict[str, Any]:
    """A record: instance 0 moves right, instance 1 hides after the second frame."""
    labels = np.zeros((FRAMES, *SIZE, 1), np.uint8)
    for t in range(FRAMES):
        labels[t, 4:10, t : t + 8] = 1
        if t < 2:
            labels[t, 20:30, 30:40] = 2
    shades = 20 * np.arange(FRAMES, dtype=np.uint8)
    video = np.zeros((FRAMES, *SIZE, 3), np.uint8)
    video[...] = np.stack([shades, shades + 1, shades + 2], axis=1)[:, None, None]
    return {
        "video": video,
        "segmentations": labels,
        "instances": {"category": np.array(category), "visibility": np.full((2, FRAMES), 48, np.uint16)},
        "metadata": {
            "video_name": name,
            "num_frames": FRAMES,
            "depth_range": np.array([1.0, 2.0], np.float32),
        },
    }


@pytest.fixture
def root(tmp_path):
    assert [
        path.name for path in write_examples([example(), example(b"other")], tmp_path / "validation")
    ] == [
        "00007",
        "other",
    ]
    return tmp_path


def build(root: Path, **settings: Any):
    defaults = {"frames_per_clip": 2, "short_side": 32, "cache": str(root / "cache")}
    return Movi(path=root, **{**defaults, **settings})


def test_converted_records_are_read_with_boxes_masks_and_tracks(root):
    dataset = build(root)
    assert [dataset.info(i).id for i in range(len(dataset))] == [
        "00007/000000",
        "00007/000002",
        "other/000000",
        "other/000002",
    ]
    info = dataset.info(0)
    second = info.truth[1]
    assert info.frame_size == SIZE
    assert second.boxes.tolist() == [[1, 4, 8, 9], [30, 20, 39, 29]]
    assert second.track_ids.tolist() == [0, 1]
    assert [dataset.vocabulary.names[i] for i in second.class_ids] == ["Keyboard", "object"]
    assert np.array_equal(
        second.pixels, example()["segmentations"][1, ..., 0] == np.array([1, 2])[:, None, None]
    )
    assert [len(frame) for frame in dataset.info(1).truth] == [1, 1]
    assert 0 < second.motion_iou[0] < 1
    assert dataset.skipped == {}


def test_pixels_are_those_of_the_record(root):
    clip = build(root).clip(1)
    assert np.allclose(clip.frames * 255, example()["video"][2:, :32, :48], atol=1e-3)
    videos = build(root).training_videos()
    assert np.array_equal(videos.frames(0, [1, 3]), example()["video"][[1, 3]])


def test_arrays_are_the_same_as_images(root):
    other = root / "arrays/validation"
    for name in ("00007", "other"):
        (other / name).mkdir(parents=True)
        np.save(other / name / "video.npy", example()["video"])
        np.savez_compressed(other / name / "segmentations.npz", example()["segmentations"])
        (other / name / "instances.json").write_text(json.dumps({"category": ["Keyboard", None]}))
    arrays, images = build(root / "arrays"), build(root)
    assert arrays.fingerprint().split("-")[0] == images.fingerprint().split("-")[0], "the truth"
    assert np.array_equal(arrays.clip(3).frames, images.clip(3).frames)
    np.save(other / "other/video.npy", example()["video"][:3])
    with pytest.raises(DecodeError, match=r"is of uint8 \(3, 32, 48, 3\); expected uint8, at least 4 frames"):
        build(root / "arrays").clip(3)
    (other / "other/video.npy").write_bytes(b"nothing")
    with pytest.raises(DecodeError, match=r"video\.npy can't be read"):
        build(root / "arrays").clip(3)


def test_without_names_all_are_objects(root):
    for file in root.rglob("instances.json"):
        file.unlink()
    dataset = build(root)
    assert dataset.vocabulary.names[1:] == ("object",)
    assert set(dataset.index.class_ids.tolist()) == {1}
    assert build(root, vocabulary="object").fingerprint() == dataset.fingerprint()


def test_the_cache_follows_the_masks(root):
    before = build(root).fingerprint()
    assert build(root).fingerprint() == before
    assert len(list((root / "cache").iterdir())) == 1
    file = root / "validation/other/segmentations/000001.png"
    cv2.imwrite(str(file), np.zeros(SIZE, np.uint8))
    assert build(root).fingerprint() != before


def test_a_list_chooses_videos(root):
    (root / "list.txt").write_text("other\n")
    assert build(root, list=root / "list.txt").index.videos.tolist() == ["other"]
    (root / "list.txt").write_text("others\n")
    with pytest.raises(DataError, match=r"line 1: 'others' is no video .* Did you mean 'other'"):
        build(root, list=root / "list.txt")


def corrupt(file: Path, content: Any) -> None:
    if isinstance(content, np.ndarray):
        cv2.imwrite(str(file), content)
    else:
        file.write_text(content)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "segmentations/000001.png",
            np.zeros((30, 48), np.uint8),
            r"000001\.png is \(30, 48\) .* \(32, 48\)",
        ),
        ("segmentations/000001.png", np.full(SIZE, 3, np.uint8), r"the value 3, but instances\.json has 2"),
        ("segmentations/000001.png", "no image", r"000001\.png is not a readable image"),
        ("segmentations/000001.png", np.zeros((*SIZE, 3), np.uint8), r"000001\.png has pixels of uint8"),
        ("instances.json", '{"category": [1, 2]}', r"instances\.json: category is no list of names"),
        ("instances.json", '{"category": ["a", "b\\n"]}', r"instances\.json: category\[1\]: 'b\\n' holds"),
        ("instances.json", '{"category": ', r"instances\.json: can.t be read as JSON"),
    ],
)
def test_mistakes_name_the_file(root, file, content, message):
    corrupt(root / "validation/other" / file, content)
    with pytest.raises(DataError, match=message):
        build(root)


def test_what_is_missing_is_named(root):
    (root / "validation/other/segmentations/000001.png").unlink()
    with pytest.raises(DataError, match=r"000001\.png does not exist"):
        build(root)
    (root / "validation/empty").mkdir()
    with pytest.raises(
        DataError, match=r"empty has neither segmentations\.npy nor .* a folder segmentations"
    ):
        build(root)
    with pytest.raises(DataError, match=r"train is no folder: .* data convert movi"):
        build(root, split="train")
    (root / "test").mkdir()
    with pytest.raises(DataError, match="split 'all' is empty"):
        build(root, split="test")
    (root / "validation/00007/frames/000001.png").unlink()
    (root / "list.txt").write_text("00007\n")
    with pytest.raises(DecodeError, match=r"frames/000001\.png does not exist"):
        build(root, list=root / "list.txt").clip(0)


def test_records_that_are_there_are_kept(root):
    file = root / "validation/other/frames/000000.png"
    before = file.stat().st_mtime_ns
    list(write_examples([example(b"other")], root / "validation"))
    assert file.stat().st_mtime_ns == before
    assert not list(root.glob(".*")), "nothing is left beside"


def test_metadata_is_kept(root):
    stored = json.loads((root / "validation/00007/metadata.json").read_text())
    assert stored == {"video_name": 7, "num_frames": FRAMES, "depth_range": [1.0, 2.0]}
    assert json.loads((root / "validation/00007/instances.json").read_text()) == {
        "category": [CATEGORIES[9], None],
        "visibility": [[48] * FRAMES] * 2,
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video": None}, r"record 0: 'video' is object \(\); expected uint8 \(T, H, W, 3\)"),
        ({"segmentations": np.zeros((4, 3, 3, 1), np.uint8)}, r"'segmentations' is uint8 \(4, 3, 3, 1\)"),
        (
            {"instances": {"category": np.array([17])}},
            r"instances\.category has 17; expected a name or a number",
        ),
        ({"metadata": {"video_name": "../x"}}, r"video_name is '\.\./x'; expected a name of a folder"),
    ],
)
def test_malformed_records_are_named_and_leave_nothing(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        list(write_examples([{**example(), **change}], tmp_path / "out"))
    assert not list(tmp_path.rglob("*.png"))


def convert(*arguments: object):
    return CliRunner().invoke(main, ["data", "convert", "movi", *map(str, arguments)])


def test_the_command_reads_through_tensorflow_datasets(tmp_path, monkeypatch):
    records = [example(i) for i in range(3)]
    builder = SimpleNamespace(
        info=SimpleNamespace(splits={"test": SimpleNamespace(num_examples=3)}),
        as_dataset=lambda split, shuffle_files: records,
    )
    fake = SimpleNamespace(builder_from_directory=lambda source: builder, as_numpy=lambda dataset: dataset)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", fake)
    result = convert("gs://somewhere", tmp_path, "--split", "test", "--videos", 2)
    assert result.exit_code == 0, result.output
    assert "2 videos are in" in result.output
    assert len(build(tmp_path, split="test")) == 4
    result = convert("gs://somewhere", tmp_path, "--split", "validation")
    assert result.exit_code == 2
    assert "gs://somewhere: split 'validation' can't be opened" in result.output


def test_without_tensorflow_datasets_the_command_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    result = convert("somewhere", tmp_path)
    assert result.exit_code == 2
    assert "pip install tensorflow tensorflow-datasets" in result.output


def test_names_that_are_no_utf8_are_refused(root):
    (root / "validation/other").rename(root / "validation" / os.fsdecode(b"caf\xe9"))
    with pytest.raises(DataError, match=r"validation: 1 names there are not UTF-8, first: caf\\xe9\. Rename"):
        build(root)


def write_index_png(path: Path, labels: np.ndarray) -> None:
    """A PNG with a palette, as DAVIS and VOC have them: colours of the indices, which alone count."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels).convert("P")
    image.putpalette([(37 * value) % 256 for value in range(768)])
    image.putdata(labels.ravel().tolist())
    image.save(path)


@pytest.fixture
def davis(tmp_path):
    """A video of one frame of 4 x 6 pixels: object 1 is 4 pixels of the first row, void the other two."""
    labels = np.zeros((4, 6), np.uint8)
    labels[0, :4], labels[0, 4:] = 1, 255
    write_index_png(tmp_path / "val/bear/segmentations/000000.png", labels)
    (tmp_path / "val/bear/frames").mkdir()
    cv2.imwrite(str(tmp_path / "val/bear/frames/000000.png"), np.zeros((4, 6, 3), np.uint8))
    return tmp_path


def open_davis(root: Path, **settings: Any):
    return Movi(
        path=root, split="val", frames_per_clip=1, short_side=4, multiple=2, cache=str(root / "c"), **settings
    )


def scored(info: ClipInfo, metric: MaskMetric) -> float:
    """The number of a metric where slot 0 has pixels 1 to 5 of the first row, and slot 1 all others."""
    slots = np.ones((1, 4, 6), np.int16)
    slots[0, 0, 1:] = 0
    nothing = np.zeros((1, 0, 4), np.float32), np.zeros((1, 0), bool), np.zeros((0, 2), np.float32)
    metric.update(Localization(*nothing, slots, np.full(2, -1, np.int16)), info)
    (value,) = metric.compute().values()
    return value.value


def test_void_is_left_out_of_metrics_of_masks(davis):
    plain, void = open_davis(davis).info(0), open_davis(davis, void=255).info(0)
    # Object 1 and slot 0 share 3 pixels of 4 and 5.
    assert scored(void, MatchedIoU()) == pytest.approx(3 / 6)
    assert scored(void, MatchedIoU(ignore="crowds")) == pytest.approx(3 / 4), "slot 0 has 3 pixels left"
    # Without the setting 255 is an object, of 2 pixels, for which the slot that is left has none.
    assert scored(plain, MatchedIoU()) == pytest.approx((3 / 6 + 0) / 2)
    assert [frame.track_ids.tolist() for frame in (*void.truth, *plain.truth)] == [[0], [0, 254]]
    assert void.truth[0].crowds.pixels[0].tolist() == [[False] * 4 + [True] * 2, *[[False] * 6] * 3]
    assert void.truth[0].crowds.class_ids.tolist() == [0]


def test_void_makes_another_dataset_and_needs_no_category(davis):
    (davis / "val/bear/instances.json").write_text(json.dumps({"category": ["bear"]}))
    with pytest.raises(DataError, match=r"has the value 255, but instances\.json has 1 categories"):
        open_davis(davis)
    dataset = open_davis(davis, void=255)
    assert dataset.vocabulary.names[1:] == ("bear",)
    (davis / "val/bear/instances.json").unlink()
    assert open_davis(davis, void=255).fingerprint() != open_davis(davis).fingerprint()
    for value in (0, 256):
        with pytest.raises(SettingError, match=rf"dataset\.void={value}: expected a pixel value from 1"):
            open_davis(davis, void=value)


@pytest.mark.parametrize("agnostic", [False, True])
def test_void_is_of_no_class_for_ap_of_boxes_and_tracks(davis, agnostic):
    info = open_davis(davis, void=255).info(0)
    without = replace(info, truth=tuple(replace(frame, crowds=None) for frame in info.truth))
    boxes = np.array([[[4, 0, 5, 0], [0, 0, 3, 0]]], np.float32)
    scores = np.array([[0, 0.9], [0, 0.8]], np.float32)
    slots, segments = np.zeros((1, 4, 6), np.int16), np.zeros(1, np.int16)
    found = Localization(boxes, np.ones((1, 2), bool), scores, slots, segments, (4, 6))
    for kind in (CocoAP, TubeAP):
        values = []
        for clip in (info, without):
            metric = kind(class_agnostic=agnostic)
            metric.update(found, clip)
            values.append({name: value.value for name, value in metric.compute().items()})
        assert str(values[0]) == str(values[1])
        assert next(iter(values[0].values())) == pytest.approx(0.5), "the box in the void is wrong"
