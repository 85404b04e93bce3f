from __future__ import annotations

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from ovvol_bench.data.imagenet_vid.dataset import open_imagenet_vid, restrict
from ovvol_bench.data.sampling import TOO_SHORT
from ovvol_bench.data.truth_index import NO_AREA, UNKNOWN_CLASS
from ovvol_bench.errors import DataError, DecodeError, SettingError
from ovvol_bench.naming.vocabulary import imagenet_vid

DOG, CAT = "n02084071", "n02121808"
SIZE = (40, 60)


def thing(
    name: str = DOG, box: tuple[float, ...] = (5, 6, 20, 30), track: int = 0, generated: int = 0
) -> str:
    corners = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return (
        f"<object><trackid>{track}</trackid><name>{name}</name><bndbox>{corners}</bndbox>"
        f"<occluded>1</occluded><generated>{generated}</generated></object>"
    )


def annotation(*objects: str, size: tuple[int, int] | None = SIZE) -> str:
    stated = "" if size is None else f"<size><width>{size[1]}</width><height>{size[0]}</height></size>"
    return f"<annotation>{stated}{''.join(objects)}</annotation>"


def write_video(root: Path, name: str, annotations: list[str], size: tuple[int, int] = SIZE) -> None:
    images, texts = (root / part / "VID/val" / name for part in ("Data", "Annotations"))
    images.mkdir(parents=True)
    texts.mkdir(parents=True)
    for i, text in enumerate(annotations):
        cv2.imwrite(str(images / f"{i:06d}.JPEG"), np.full((*size, 3), 10 * i, np.uint8))
        (texts / f"{i:06d}.xml").write_text(text)


@pytest.fixture
def root(tmp_path):
    """a: 5 frames with a moving dog; b: 3 frames, empty."""
    write_video(tmp_path, "a", [annotation(thing(box=(i, 6, 20 + i, 30), generated=i % 2)) for i in range(5)])
    write_video(tmp_path, "b", [annotation()] * 3)
    return tmp_path


def build(root: Path, **settings):
    defaults = {"frames_per_clip": 2, "short_side": 32, "cache": str(root / "cache")}
    return open_imagenet_vid(path=root, **{**defaults, **settings})


def test_clips_cover_all_frames_with_truth_in_original_pixels(root):
    dataset = build(root)
    infos = [dataset.info(i) for i in range(len(dataset))]
    assert [info.id for info in infos] == [
        "val/a/000000", "val/a/000002", "val/a/000003", "val/b/000000", "val/b/000001",
    ]  # fmt: skip
    assert [info.context for info in infos] == [0, 0, 1, 0, 1]
    assert infos[1].frame_indices == (2, 3)
    assert infos[1].frame_size == SIZE
    truth = infos[1].truth[1]
    assert truth.boxes.tolist() == [[3, 6, 23, 30]]
    assert (truth.class_ids.tolist(), truth.track_ids.tolist()) == ([9], [0])
    assert (truth.occluded.tolist(), truth.generated.tolist()) == ([True], [True])
    assert 0.7 < truth.motion_iou[0] < 1
    assert len(infos[3].truth[0]) == 0
    assert dataset.skipped == {}
    assert dataset.vocabulary == imagenet_vid()


@pytest.mark.parametrize(("suffix", "digits"), [(".jpg", 6), (".png", 4), (".JPG", 6), (".jpeg", 1)])
def test_frames_may_have_other_endings_and_digits(tmp_path, suffix, digits):
    write_video(tmp_path, "a", [annotation(thing())] * 11)
    for file in [*tmp_path.rglob("*.JPEG"), *tmp_path.rglob("*.xml")]:
        ending = suffix if file.suffix == ".JPEG" else file.suffix
        file.rename(file.with_name(f"{int(file.stem):0{digits}d}{ending}"))
    dataset = build(tmp_path)
    assert dataset.index.frame_numbers.tolist() == list(range(11))
    assert np.round(dataset.clip(5).frames.mean((1, 2, 3)) * 25.5).tolist() == [9, 10]
    assert len(dataset.info(5).truth[1]) == 1
    (tmp_path / "list.txt").write_text(f"a/{3:0{digits}d} 1\na/{4:0{digits}d} 2\n")
    assert build(tmp_path, list=tmp_path / "list.txt").index.frame_numbers.tolist() == [3, 4]


def test_images_named_in_another_way_are_not_overlooked(root):
    folder = root / "Data/VID/val/b"
    (folder / "000002.JPEG").rename(folder / "000002.jpg")
    with pytest.raises(
        DataError, match=r"b has 1 images that are not named .*000000\.JPEG.*first: 000002\.jpg"
    ):
        build(root).info(0)
    (folder / "000002.jpg").rename(folder / "frame2.JPEG")
    with pytest.raises(DataError, match=r"first: frame2\.JPEG"):
        build(root).training_videos()


def test_annotations_may_name_classes_by_words(tmp_path, caplog):
    names = ("Dog", "red_panda", "lesser panda", "unicorn")
    write_video(tmp_path, "a", [annotation(*map(thing, names))] * 2)
    words = imagenet_vid()
    ids = [words.class_of(name) for name in names[:2]]
    assert build(tmp_path).index.class_ids.tolist()[:2] == ids
    assert not caplog.records
    (tmp_path / "my.yaml").write_text("classes: [{name: horse, synonyms: [Unicorn]}]")
    mine = build(tmp_path, vocabulary=str(tmp_path / "my.yaml"))
    assert mine.index.class_ids.tolist() == [1, 1]
    assert mine.skipped[UNKNOWN_CLASS] == 6
    (tmp_path / "my.yaml").write_text("classes: [zebra]")
    assert build(tmp_path, vocabulary=str(tmp_path / "my.yaml")).skipped[UNKNOWN_CLASS] == 8
    assert "all 8 objects of classes outside the vocabulary" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE a [<!ENTITY b "' + "A" * 90_000 + '">]><annotation>' + "&b;" * 9_000 + "</annotation>",
        "<a>" * 50_000 + "</a>" * 50_000,
        '<?xml version="1.0" encoding="no-such"?><annotation></annotation>',
        annotation(thing()).replace("<width>60", "<width>-60"),
        annotation(thing()).replace("<width>60", "<width>999999999"),
        annotation(thing()).replace("<trackid>0", "<trackid>" + "9" * 30),
    ],
)
def test_hostile_annotations_are_refused_by_name(root, text):
    file = root / "Annotations/VID/val/a/000003.xml"
    file.write_text(text)
    with pytest.raises(DataError, match=r"a/000003\.xml is not valid"):
        build(root).info(0)


def test_pixels_are_resized_and_in_order(root):
    clip = build(root).clip(1)
    assert clip.frames.shape == (2, 32, 48, 3)
    assert clip.frames.dtype == np.float32
    assert np.allclose(clip.frames.mean((1, 2, 3)) * 255, [20, 30], atol=1)


@pytest.mark.parametrize("settings", [{}, {"frames_per_clip": 4, "sampling": "reference"}])
def test_frames_have_the_numbers_of_the_development_kit_whatever_the_clips(root, settings):
    ids = build(root, **settings).file_ids()
    assert ids.videos == {1: "val/a", 2: "val/b"}
    assert [ids.frames[number] for number in (1, 5, 6, 8)] == [
        ("val/a", 0),
        ("val/a", 4),
        ("val/b", 0),
        ("val/b", 2),
    ]
    assert len(ids.frames) == 8


def test_reference_sampling_and_short_videos_are_counted(root):
    dataset = build(root, frames_per_clip=4, sampling="reference")
    assert [dataset.info(i).id for i in range(len(dataset))] == ["val/a/000000"]
    assert dataset.skipped == {TOO_SHORT: 1, "frames after a video's last clip": 1}


def test_boxes_are_clamped_unknown_classes_and_empty_boxes_counted(root):
    objects = [thing(box=(-4, 3, 60, 40)), thing("n99999999"), thing(box=(70, 3, 80, 9)), thing(CAT)]
    write_video(root, "c", [annotation(*objects)] * 2)
    dataset = build(root)
    truth = dataset.info(len(dataset) - 1).truth[0]
    assert truth.boxes.tolist() == [[0, 3, 59, 39], [5, 6, 20, 30]]
    assert truth.class_ids.tolist() == [9, 10]
    assert dataset.skipped == {UNKNOWN_CLASS: 2, NO_AREA: 2}


def test_class_filter_by_name_or_wnid(root):
    write_video(root, "c", [annotation(thing(CAT), thing(DOG))] * 2)
    for classes in (("domestic_cat",), (CAT,)):
        dataset = build(root, classes=classes)
        assert [item.code for item in dataset.vocabulary.classes] == [CAT]
        assert dataset.info(len(dataset) - 1).truth[0].class_ids.tolist() == [1]
        assert dataset.skipped == {UNKNOWN_CLASS: 7}
    with pytest.raises(SettingError, match=r"'domestic_cart' is no class .* Did you mean 'domestic_cat'"):
        restrict(imagenet_vid(), ("domestic_cart",))


def test_lists_of_both_layouts_give_the_same_clips(root):
    (root / "videos.txt").write_text("val/a 1 0 5\nval/b 6 0 3\n")
    (root / "frames.txt").write_text(
        "".join(f"val/{name} 1 {i} {n}\n" for name, n in (("a", 5), ("b", 3)) for i in range(n))
    )
    prints = {build(root, list=root / f"{name}.txt").fingerprint() for name in ("videos", "frames")}
    assert prints == {build(root).fingerprint()}


def test_size_comes_from_the_images_where_annotations_have_none(root):
    write_video(root, "c", [annotation(thing(box=(0, 0, 99, 99)), size=None)] * 2)
    (root / "Data/VID/val/c/000000.JPEG").write_bytes(b"no image")
    dataset = build(root)
    info = dataset.info(len(dataset) - 1)
    assert info.frame_size == SIZE
    assert info.truth[0].boxes.tolist() == [[0, 0, 59, 39]]


def test_a_size_that_changes_within_a_video_is_an_error(root):
    write_video(root, "c", [annotation(), annotation(size=(40, 61))])
    with pytest.raises(DataError, match="frame size changes within 1 videos, first: val/c"):
        len(build(root))


def test_frames_that_differ_from_their_annotation_fail_alone(root):
    write_video(root, "c", [annotation()] * 2, size=(41, 60))
    dataset = build(root)
    with pytest.raises(DecodeError, match=r"41 x 60 pixels .* expected 40 x 60"):
        dataset.clip(len(dataset) - 1)
    assert dataset.clip(0).info.video == "val/a"


@pytest.mark.parametrize("size", [(31, 47), (33, 200), (90, 31)])
def test_odd_sizes_become_multiples(root, size):
    write_video(root, "c", [annotation(size=size)] * 2, size)
    dataset = build(root)
    height, width = dataset.clip(len(dataset) - 1).frames.shape[1:3]
    assert height % 16 == width % 16 == 0
    assert min(height, width) == 32


def test_missing_annotations_are_counted_and_the_first_named(root):
    (root / "Annotations/VID/val/a/000001.xml").unlink()
    (root / "Annotations/VID/val/a/000003.xml").unlink()
    with pytest.raises(DataError, match=r"2 annotations are missing under .*a/000001\.xml, .*a/000003\.xml"):
        len(build(root))


def test_the_cache_is_used_and_follows_every_change(root):
    before = build(root).fingerprint()
    (cached,) = (root / "cache").glob("*.npz")
    cached_time = cached.stat().st_mtime_ns
    again = build(root)
    assert again.fingerprint() == before
    assert cached.stat().st_mtime_ns == cached_time
    (root / "Annotations/VID/val/a/000002.xml").write_text(annotation(thing(CAT)))
    changed = build(root)
    assert changed.info(1).truth[0].class_ids.tolist() == [10]
    assert changed.fingerprint() != before
    (root / "one.txt").write_text("val/b 1 0 3\n")
    assert len(build(root, list=root / "one.txt")) == 2, "another list never meets the old cache"


def test_a_damaged_cache_is_read_again(root):
    expected = build(root).fingerprint()
    (cached,) = (root / "cache").glob("*.npz")
    cached.write_bytes(cached.read_bytes()[:100])
    assert build(root).fingerprint() == expected


def test_a_cache_that_cannot_be_written_costs_time_only(root, caplog):
    (root / "file").touch()
    assert len(build(root, cache=str(root / "file"))) == 5
    assert "can't be written" in caplog.text


def test_fingerprint_ignores_where_and_when_the_files_were_stored(root, tmp_path_factory):
    other = tmp_path_factory.mktemp("moved") / "vid"
    before = build(root).fingerprint()
    shutil.copytree(root, other, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns("cache"))
    assert build(other).fingerprint() == before


def test_replaced_frames_are_another_dataset_to_run_and_to_train_on(root):
    before = build(root).fingerprint(), build(root).training_videos().fingerprint()
    frame = root / "Data/VID/val/a/000002.JPEG"
    content = bytearray(frame.read_bytes())
    content[-30] ^= 255  # of the same size
    frame.write_bytes(content)
    after = build(root).fingerprint(), build(root).training_videos().fingerprint()
    assert [one != other for one, other in zip(before, after, strict=True)] == [True, True]


def test_motion_iou_can_be_imported(root):
    cells = np.empty((8, 1), object)
    for i in range(8):
        cells[i, 0] = np.full((1, 1), i / 10 if i < 5 else 0)
    savemat(root / "motion.mat", {"motion_iou": cells})
    truth = build(root, motion_iou=str(root / "motion.mat")).info(1).truth
    assert [float(frame.motion_iou[0]) for frame in truth] == pytest.approx([0.2, 0.3])


def test_names_that_are_no_utf8_are_refused_for_clips_and_for_training(root):
    for part in ("Data", "Annotations"):
        (root / part / "VID/val/b").rename(root / part / "VID/val" / os.fsdecode(b"caf\xe9"))
    for use in (lambda: len(build(root)), lambda: build(root).training_videos()):
        with pytest.raises(DataError, match=r"Data/VID: 1 names there are not UTF-8, first: val/caf\\xe9"):
            use()


def test_a_folder_above_whose_name_is_no_utf8_is_read(root, tmp_path):
    moved = tmp_path / os.fsdecode(b"caf\xe9")
    moved.mkdir()
    for part in ("Data", "Annotations"):
        (root / part).rename(moved / part)
    dataset = build(moved)
    assert dataset.clip(1).info.id == "val/a/000002"
    assert len(dataset.fingerprint()) == 65
    assert dataset.training_videos().frames(0, [0, 1]).shape == (2, *SIZE, 3)
