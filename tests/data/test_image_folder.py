from __future__ import annotations

import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from ovvol_bench.data.image_folder import EMPTY_CLASS, NO_IMAGE, ImageFolder, load_images
from ovvol_bench.errors import DataError, DecodeError, SettingError


def write_image(path: Path, level: int, size: tuple[int, int] = (40, 60)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*size, 3), level, np.uint8))


@pytest.fixture
def root(tmp_path):
    """Two classes with four images, one of them deeper; an odd file, an empty class, a file beside."""
    folder = tmp_path / "train"
    write_image(folder / "n02/b.JPEG", 20)
    write_image(folder / "n02/a.png", 10, size=(30, 30))
    write_image(folder / "n02/more/c.jpg", 30)
    write_image(folder / "n01/ä b.JPEG", 40)
    (folder / "n01/notes.txt").touch()
    (folder / "n03").mkdir()
    (folder / "index.txt").touch()
    return folder


def build(root: Path, **settings):
    return ImageFolder(path=root, **{"short_side": 32, "cache": str(root.parent / "cache"), **settings})


def levels(images) -> list[int]:
    return [int(images.image(i).pixels.mean().round()) for i in range(len(images))]


def test_images_come_sorted_by_class_and_path(root):
    dataset = build(root)
    images = dataset.training_images()
    assert [images.name(i) for i in range(len(images))] == [
        "n01/ä b.JPEG", "n02/a.png", "n02/b.JPEG", "n02/more/c.jpg",
    ]  # fmt: skip
    assert levels(images) == [40, 10, 20, 30]
    assert images.image(1).pixels.shape == (30, 30, 3)
    assert dataset.skipped == {NO_IMAGE: 1, EMPTY_CLASS: 1}
    with pytest.raises(IndexError):
        images.image(4)


def test_images_are_clips_of_one_frame_without_truth(root):
    dataset = build(root)
    assert len(dataset) == 4
    info = dataset.info(2)
    assert (info.id, info.frame_indices, info.frame_size, info.truth) == ("n02/b.JPEG", (0,), (40, 60), None)
    clip = dataset.clip(2)
    assert clip.info == info
    assert clip.frames.shape == (1, 32, 48, 3)
    assert clip.frames.mean() * 255 == pytest.approx(20, abs=1)
    with pytest.raises(SettingError, match=r"dataset\.short_side=30"):
        build(root, short_side=30)


def test_captions_are_folder_names_where_nothing_else_is_known(root):
    dataset = build(root)
    assert dataset.vocabulary.names[1:] == ("n01", "n02")
    assert dataset.training_images().image(0).captions == ("a photo of a n01",)


def test_captions_are_all_names_of_the_mapping(root):
    (root.parent / "names.txt").write_text("n01 crane, hoist\nn02 crane, wading_bird\nn09 other\n")
    dataset = build(root, names=root.parent / "names.txt")
    images = dataset.training_images()
    assert images.image(0).captions == ("a photo of a crane", "a photo of a hoist")
    assert images.image(3).captions == ("a photo of a crane", "a photo of a wading bird")
    assert dataset.vocabulary.names[1:] == ("crane (n01)", "crane (n02)"), "one name, two classes"
    (root.parent / "names.txt").write_text("n01 crane\n")
    with pytest.raises(DataError, match=r"dataset\.names lacks 1 of 2 classes, first: 'n02'"):
        build(root, names=root.parent / "names.txt")


def test_a_vocabulary_names_folders_by_code(root):
    own = root.parent / "own.yaml"
    own.write_text(
        "classes: [{name: fish, code: n02, synonyms: [carp]}, dog]\ntemplates: ['one %s']\n", encoding="utf-8"
    )
    dataset = build(root, vocabulary=str(own))
    assert dataset.vocabulary.names[1:] == ("fish", "dog")
    images = dataset.training_images()
    assert images.image(0).captions == ("one n01",)
    assert images.image(1).captions == ("one fish", "one carp")


def test_the_list_is_kept_until_a_folder_changes(root, monkeypatch):
    before = build(root).training_images().fingerprint()
    with monkeypatch.context() as patch:
        patch.setattr("ovvol_bench.data.image_folder._scan", None)  # any scan would fail
        assert build(root).training_images().fingerprint() == before
    write_image(root / "n02/more/d.jpg", 50)
    assert levels(build(root).training_images()) == [40, 10, 20, 30, 50]
    (root / "n02/more/d.jpg").unlink()
    assert build(root).training_images().fingerprint() == before
    write_image(root / "n03/e.jpg", 60)
    assert build(root).vocabulary.names[1:] == ("n01", "n02", "n03")


def test_linked_classes_are_followed(root, tmp_path):
    (tmp_path / "links").mkdir()
    (tmp_path / "links/n02").symlink_to(root / "n02")
    assert levels(build(tmp_path / "links").training_images()) == [10, 20, 30]


def test_corrupt_and_lost_images_are_named(root):
    dataset = build(root)
    images = dataset.training_images()
    (root / "n02/b.JPEG").write_bytes(b"no image")
    with pytest.raises(DecodeError, match=r"Image .*n02/b\.JPEG is not a readable image"):
        images.image(2)
    assert dataset.info(2).frame_size == (1, 1), "the others go on"
    with pytest.raises(DecodeError, match=r"n02/b\.JPEG"):
        dataset.clip(2)
    (root / "n02/a.png").unlink()
    with pytest.raises(DecodeError, match=r"n02/a\.png does not exist"):
        images.image(1)


def test_pictures_can_be_sent_to_other_processes(root):
    images = pickle.loads(pickle.dumps(build(root).training_images()))
    assert levels(images) == [40, 10, 20, 30]


def test_fingerprints_follow_names_and_captions_not_the_place(root, tmp_path_factory):
    before = build(root)
    prints = before.fingerprint(), before.training_images().fingerprint()
    moved = tmp_path_factory.mktemp("moved") / "train"
    root.rename(moved)
    after = build(moved)
    assert (after.fingerprint(), after.training_images().fingerprint()) == prints
    (moved.parent / "names.txt").write_text("n01 a\nn02 b\n")
    named = build(moved, names=moved.parent / "names.txt")
    assert named.training_images().fingerprint() != prints[1]


def test_a_replaced_image_is_another_dataset(root):
    before = build(root).fingerprint(), build(root).training_images().fingerprint()
    write_image(root / "n02/b.JPEG", 77)
    after = build(root).fingerprint(), build(root).training_images().fingerprint()
    assert [one != other for one, other in zip(before, after, strict=True)] == [True, True]


@pytest.mark.parametrize("files", [(), ("n01/notes.txt",), ("a.jpg",)])
def test_a_folder_without_classes_or_images_is_an_error(tmp_path, files):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(
        DataError, match=r"holds no images: expected a folder a class, with files that end in"
    ):
        load_images(tmp_path, tmp_path.parent / "cache")


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"nowhere is no folder: set dataset\.path"):
        build(tmp_path / "nowhere")


def test_names_that_are_no_utf8_are_written_out(root):
    (root / "n02").rename(root / os.fsdecode(b"n\xe9"))
    moved = root / os.fsdecode(b"n\xe9")
    (moved / "b.JPEG").rename(moved / os.fsdecode(b"b\xe9.JPEG"))
    dataset = build(root)
    assert dataset.info(2).id == "n\\xe9/b\\xe9.JPEG"
    assert dataset.vocabulary.names[1:] == ("n01", "n\\xe9")
    images = dataset.training_images()
    assert images.name(2) == dataset.info(2).id
    assert levels(images) == [40, 10, 20, 30]
    assert len(dataset.fingerprint()) == len(images.fingerprint()) == 64


def test_a_folder_whose_name_holds_control_characters_is_no_class(root):
    (root / "n02").rename(root / "n\n2")
    with pytest.raises(DataError, match=r"train: its folders are no classes .*'n\\n2' holds control"):
        build(root)
