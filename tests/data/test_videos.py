from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from ovvol_bench.data.sampling import TOO_SHORT
from ovvol_bench.data.videos import VideoFiles
from ovvol_bench.errors import DataError, SettingError, UnknownNameError


def write_movie(path: Path, count: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (80, 48))
    for i in range(count):
        writer.write(np.full((48, 80, 3), 12 * i, np.uint8))
    writer.release()


def build(path: Path, cache: Path, **settings):
    defaults = {"frames_per_clip": 4, "short_side": 32, "cache": str(cache), "backend": "opencv"}
    return VideoFiles(path=path, **{**defaults, **settings})


def brightness(dataset, index: int) -> list[int]:
    return np.round(dataset.clip(index).frames.mean((1, 2, 3)) * 255 / 12).astype(int).tolist()


def test_a_folder_is_cut_into_clips_without_truth(tmp_path):
    write_movie(tmp_path / "in/deep/b.mp4", 4)
    write_movie(tmp_path / "in/a.MP4", 6)
    (tmp_path / "in/notes.txt").touch()
    dataset = build(tmp_path / "in", tmp_path / "cache")
    infos = [dataset.info(i) for i in range(len(dataset))]
    assert [info.id for info in infos] == ["a.MP4/000000", "a.MP4/000002", "deep/b.mp4/000000"]
    assert [info.context for info in infos] == [0, 2, 0]
    assert all(info.truth is None and info.frame_size == (48, 80) for info in infos)
    assert dataset.clip(1).frames.shape == (4, 32, 48, 3)
    assert brightness(dataset, 1) == [2, 3, 4, 5]
    assert dataset.skipped == {"files that are no videos by their ending (.txt)": 1}


def test_a_single_file_with_a_stride(tmp_path):
    write_movie(tmp_path / "a.mp4", 12)
    dataset = build(tmp_path / "a.mp4", tmp_path / "cache", stride=3, frames_per_clip=4)
    assert len(dataset) == 1
    assert dataset.info(0).frame_indices == (0, 3, 6, 9)
    assert brightness(dataset, 0) == [0, 3, 6, 9]


def test_unreadable_and_short_videos_are_counted(tmp_path, caplog):
    write_movie(tmp_path / "in/good.mp4", 5)
    write_movie(tmp_path / "in/short.mp4", 2)
    (tmp_path / "in/broken.mp4").write_bytes(b"no video")
    dataset = build(tmp_path / "in", tmp_path / "cache")
    assert len(dataset) == 2
    assert dataset.skipped == {"unreadable video broken.mp4": 1, TOO_SHORT: 1}
    assert "broken.mp4 can't be decoded" in caplog.text


@pytest.mark.parametrize("content", [b"", b"no video"])
def test_nothing_readable_is_an_error_that_names_the_file(tmp_path, content):
    (tmp_path / "broken.mp4").write_bytes(content)
    with pytest.raises(DataError, match=r"None of 1 videos can be read.*broken\.mp4 can't be decoded"):
        build(tmp_path, tmp_path / "cache", backend="auto")


def test_empty_and_missing_folders_are_errors(tmp_path):
    with pytest.raises(DataError, match=r"holds no video files: expected \.mp4, \.mkv"):
        build(tmp_path, tmp_path / "cache")
    with pytest.raises(DataError, match=r"nowhere does not exist: set dataset\.path"):
        build(tmp_path / "nowhere", tmp_path / "cache")


def test_frame_counts_are_kept_until_the_file_changes(tmp_path, monkeypatch):
    write_movie(tmp_path / "a.mp4", 5)
    assert len(build(tmp_path / "a.mp4", tmp_path / "cache")) == 2
    with monkeypatch.context() as patch:
        patch.setattr("ovvol_bench.data.videos.probe_video", None)  # any probe would fail
        assert len(build(tmp_path / "a.mp4", tmp_path / "cache")) == 2
    write_movie(tmp_path / "a.mp4", 9)
    assert len(build(tmp_path / "a.mp4", tmp_path / "cache")) == 3


def test_fingerprint_follows_content_and_clips_not_the_place(tmp_path):
    write_movie(tmp_path / "x/a.mp4", 8)
    write_movie(tmp_path / "y/a.mp4", 8)
    write_movie(tmp_path / "z/a.mp4", 9)
    x, y, z = (build(tmp_path / name, tmp_path / "cache").fingerprint() for name in "xyz")
    assert x == y != z
    assert build(tmp_path / "x", tmp_path / "cache", stride=2).fingerprint() != x


def test_vocabularies_and_settings_are_checked(tmp_path):
    write_movie(tmp_path / "a.mp4", 5)
    own = tmp_path / "own.yaml"
    own.write_text("name: own\nclasses: [kite, boat]\n")
    dataset = build(tmp_path / "a.mp4", tmp_path / "cache", vocabulary=str(own))
    assert [item.name for item in dataset.vocabulary.classes] == ["kite", "boat"]
    with pytest.raises(UnknownNameError, match="imagenet-vid"):
        build(tmp_path / "a.mp4", tmp_path / "cache", vocabulary="imagenet_vid")
    with pytest.raises(SettingError, match=r"dataset\.stride=0"):
        build(tmp_path / "a.mp4", tmp_path / "cache", stride=0)
    with pytest.raises(SettingError, match=r"dataset\.timeout=-1"):
        build(tmp_path / "a.mp4", tmp_path / "cache", timeout=-1)


@pytest.mark.parametrize("name", ["a" * 300, "a\0b"])
def test_a_path_that_can_be_none_is_an_error(tmp_path, name):
    with pytest.raises(DataError, match="can't be opened"):
        build(tmp_path / name, tmp_path / "cache")


def test_a_pipe_among_videos_is_left_out_and_counted(tmp_path):
    write_movie(tmp_path / "in/a.mp4", 4)
    os.mkfifo(tmp_path / "in/b.mp4")
    assert build(tmp_path / "in", tmp_path / "cache").skipped == {"unreadable video b.mp4": 1}


def test_names_that_are_no_utf8_are_written_out(tmp_path):
    write_movie(tmp_path / "a.mp4", 4)
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "a.mp4").rename(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.mp4"))
    dataset = build(folder, tmp_path / "cache")
    assert dataset.info(0).id == "caf\\xe9.mp4/000000"
    assert brightness(dataset, 0) == [0, 1, 2, 3]
