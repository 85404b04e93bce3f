from __future__ import annotations

import os
from pathlib import Path

import pytest

from ovvol_bench.data.video_lists import prepared_videos, read_video_list
from ovvol_bench.errors import DataError


@pytest.fixture
def root(tmp_path):
    """Four video files, one of them with a space in its name."""
    for name in ("train/a.mp4", "train/b.mp4", "my video 2.mp4", "c.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def listed(root: Path, text: str) -> list[str]:
    (root / "list.csv").write_text(text)
    return list(read_video_list(root / "list.csv", root))


def test_lines_are_a_path_and_perhaps_a_label(root):
    text = "./train/b.mp4 0\n\ntrain/a.mp4\t-1\r\nmy video 2.mp4 0\nc.mp4  \n"
    assert listed(root, text) == ["train/b.mp4", "train/a.mp4", "my video 2.mp4", "c.mp4"]
    assert listed(root, "my video 2.mp4") == ["my video 2.mp4"]


def test_lists_as_windows_programs_write_them(root):
    assert listed(root, "\ufeff.\\train\\b.mp4 0\r\n") == ["train/b.mp4"]


def test_a_pipe_is_no_list(root):
    os.mkfifo(root / "pipe.csv")
    with pytest.raises(DataError, match=r"pipe\.csv can't be read .*Not a regular file"):
        read_video_list(root / "pipe.csv", root)


def test_paths_start_from_the_dataset_or_are_absolute(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("lists") / "list.csv"
    elsewhere.write_text(f"./c.mp4 0\n{root}/train/a.mp4 0\n")
    assert list(read_video_list(elsewhere, root).values()) == [root / "c.mp4", root / "train/a.mp4"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"list\.csv is empty: expected one video a line"),
        ("\n \n", r"list\.csv is empty"),
        ("c.mp4 0\nc.mp4,0\n", r"list\.csv, line 2 names no video file: 'c\.mp4,0'.*'\./snippet\.mp4 0'"),
        ("train/a 1 10 300\n", r"line 1 names no video file"),
        ("7\n", r"line 1 names no video file: '7'"),
        ("c.mp4 0\n./c.mp4 1\n", r"has 'c\.mp4' in lines 1 and 2\. List every video once"),
        ("c.mp4 0\nno.mp4 0\nnor.mp4 0\n", r"2 of 3 videos .* are missing, first in line 2: .*no\.mp4"),
        (f"{'n' * 5000}.mp4 0\n", r"1 of 1 videos .* are missing, first in line 1"),
    ],
)
def test_mistakes_are_named_with_their_line(root, text, message):
    with pytest.raises(DataError, match=message):
        listed(root, text)


def test_lists_that_cannot_be_read_are_named(root):
    with pytest.raises(DataError, match=r"nowhere\.csv can't be read .*Set dataset\.list"):
        read_video_list(root / "nowhere.csv", root)
    (root / "list.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"list\.csv can't be read"):
        read_video_list(root / "list.csv", root)


def test_a_prepared_folder_is_read_by_its_list_or_whole(root):
    assert list(prepared_videos(root, "train")) == ["train/a.mp4", "train/b.mp4"]
    assert prepared_videos(root, "val") is None
    (root / "train.csv").write_text("./train/b.mp4 0\n")
    assert list(prepared_videos(root, "train")) == ["train/b.mp4"]
    (root / "mine.csv").write_text("c.mp4 0\n")
    assert list(prepared_videos(root, "train", root / "mine.csv")) == ["c.mp4"]
