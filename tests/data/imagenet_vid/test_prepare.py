from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from ovvol_bench.data.decoders import DecordReader
from ovvol_bench.data.imagenet_vid import prepare
from ovvol_bench.data.imagenet_vid.prepare import Encoding, Outcome, prepare_videos, read_mp4, read_report
from ovvol_bench.data.imagenet_vid.tree import find_tree, video_folders
from ovvol_bench.data.readers import read_image
from ovvol_bench.errors import DataError, SettingError

SMALL = Encoding(short_side=32, multiple=16, crf=10)


def write_snippet(root: Path, name: str, frames: int = 5, size: tuple[int, int] = (48, 94)) -> Path:
    folder = root / "Data/VID" / name
    folder.mkdir(parents=True)
    for t in range(frames):
        picture = np.full((*size, 3), 20 + 200 * t / frames, np.uint8)
        picture[:, : size[1] // 2, t % 3] //= 2
        cv2.imwrite(str(folder / f"{t:06d}.JPEG"), picture)
    return folder


@pytest.fixture
def root(tmp_path):
    """Two sound videos of five frames, in the folders of train."""
    write_snippet(tmp_path / "tree", "train/set_0/a")
    write_snippet(tmp_path / "tree", "train/set_1/b")
    return tmp_path / "tree"


def run(root: Path, out: Path, encoding: Encoding = SMALL, **settings) -> dict[str, Outcome]:
    tree = find_tree(root, "train")
    names = video_folders(tree, with_empty=True)
    return {item.name: item for item in prepare_videos(tree, names, out, encoding, **settings)}


def movies(out: Path) -> list[str]:
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*.mp4"))


def test_every_folder_becomes_a_video_of_the_same_frames(root, tmp_path):
    outcomes = run(root, tmp_path / "out")
    assert outcomes == {name: Outcome(name, 5) for name in ("train/set_0/a", "train/set_1/b")}
    assert movies(tmp_path / "out") == ["train/set_0/a.mp4", "train/set_1/b.mp4"]
    video = DecordReader(tmp_path / "out/train/set_0/a.mp4")
    assert (video.count(), video.frame_size) == (5, (32, 64))
    originals = [read_image(root / f"Data/VID/train/set_0/a/{t:06d}.JPEG") for t in range(5)]
    expected = np.stack([cv2.resize(image, (64, 32), interpolation=cv2.INTER_AREA) for image in originals])
    assert np.abs(video.read(range(5)) * 255 - expected).mean() < 4


def test_the_list_is_as_the_published_program_writes_it(root, tmp_path):
    run(root, tmp_path / "out")
    assert (tmp_path / "out/train.csv").read_text() == "./train/set_0/a.mp4 0\n./train/set_1/b.mp4 0\n"


def test_sizes_are_those_of_the_published_program(golden, tmp_path):
    cases = json.loads((golden / "schedule_resize_sampling.json").read_text())["resize"]
    sizes = {(case["height"], case["width"]): (case["new_height"], case["new_width"]) for case in cases}
    for height, width in sizes:
        write_snippet(tmp_path / "tree", f"train/{height}x{width}", frames=1, size=(height, width))
    run(tmp_path / "tree", tmp_path / "out", Encoding())
    stored = {size: read_mp4(tmp_path / f"out/train/{size[0]}x{size[1]}.mp4")[1] for size in sizes}
    assert stored == sizes


def test_several_processes_write_the_same_files(root, tmp_path):
    one, two = run(root, tmp_path / "one"), run(root, tmp_path / "two", workers=2)
    assert one == two
    for name in movies(tmp_path / "one"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert read_report(tmp_path / "one") == read_report(tmp_path / "two")


def test_finished_videos_are_kept_and_others_made(root, tmp_path):
    out = tmp_path / "out"
    run(root, out)
    sound, cut = out / "train/set_0/a.mp4", out / "train/set_1/b.mp4"
    stamp = sound.stat().st_mtime_ns
    whole = cut.read_bytes()
    cut.write_bytes(whole[:-100])
    outcomes = run(root, out)
    assert [item.kept for item in outcomes.values()] == [True, False]
    assert sound.stat().st_mtime_ns == stamp
    assert cut.read_bytes() == whole


def test_a_video_with_another_number_of_frames_is_made_again(root, tmp_path):
    run(root, tmp_path / "out")
    write_snippet(tmp_path / "longer", "train/set_0/a", frames=6)
    shutil.copytree(tmp_path / "longer", root, dirs_exist_ok=True)
    outcomes = run(root, tmp_path / "out")
    assert outcomes["train/set_0/a"] == Outcome("train/set_0/a", 6)
    assert outcomes["train/set_1/b"].kept
    assert run(root, tmp_path / "out", redo=True)["train/set_1/b"] == Outcome("train/set_1/b", 5)


def test_other_settings_need_another_folder_or_a_fresh_start(root, tmp_path):
    run(root, tmp_path / "out")
    with pytest.raises(SettingError, match=r"short_side=32.*--overwrite always"):
        run(root, tmp_path / "out", Encoding(48, 16))
    run(root, tmp_path / "out", Encoding(48, 16), redo=True)
    assert read_mp4(tmp_path / "out/train/set_0/a.mp4")[1] == (48, 96)


def test_a_fresh_start_that_was_cut_off_keeps_nothing_of_the_old_settings(root, tmp_path):
    out = tmp_path / "out"
    run(root, out)
    tree = find_tree(root, "train")
    begun = prepare_videos(tree, video_folders(tree), out, Encoding(48, 16), redo=True)
    next(begun)
    begun.close()
    outcomes = run(root, out, Encoding(48, 16))
    assert [item.kept for item in outcomes.values()] == [True, False]


def spoil_bytes(folder: Path) -> None:
    (folder / "000003.JPEG").write_bytes(b"not an image")


def spoil_end(folder: Path) -> None:
    file = folder / "000003.JPEG"
    file.write_bytes(file.read_bytes()[:-40])


def spoil_size(folder: Path) -> None:
    cv2.imwrite(str(folder / "000003.JPEG"), np.zeros((20, 20, 3), np.uint8))


def spoil_numbering(folder: Path) -> None:
    (folder / "000003.JPEG").unlink()


def spoil_every_one(folder: Path) -> None:
    for file in folder.iterdir():
        file.write_bytes(b"not an image")


def spoil_all(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_every_one, "000000.JPEG is not a readable image"),
        (spoil_size, "000003.JPEG is 20 x 20 pixels"),
        (spoil_numbering, "lacks 1 of the frames 0 to 4"),
        (spoil_all, "holds no frames"),
    ],
)
def test_a_spoilt_video_is_told_and_the_others_go_on(root, tmp_path, spoil, words):
    spoil(root / "Data/VID/train/set_0/a")
    out = tmp_path / "out"
    outcomes = run(root, out)
    assert words in outcomes["train/set_0/a"].problem
    assert movies(out) == ["train/set_1/b.mp4"]
    assert (out / "train.csv").read_text() == "./train/set_1/b.mp4 0\n"
    entry = read_report(out)["train"]
    assert entry["complete"]
    assert entry["videos"] == {"train/set_1/b": 5}
    assert words in entry["problems"]["train/set_0/a"]


@pytest.mark.parametrize("spoil", [spoil_bytes, spoil_end])
def test_a_damaged_frame_shows_the_one_before_it_and_is_told(root, tmp_path, spoil):
    folder, out = root / "Data/VID/train/set_0/a", tmp_path / "out"
    whole = {number: (folder / f"{number:06d}.JPEG").read_bytes() for number in range(5)}
    spoil(folder)
    outcomes = run(root, out)
    assert (outcomes["train/set_0/a"].frames, outcomes["train/set_0/a"].problem) == (5, None)
    ((number, reason),) = outcomes["train/set_0/a"].repeated.items()
    assert number == 3
    assert str(folder / "000003.JPEG") in reason
    entry = read_report(out)["train"]
    assert entry["videos"] == {"train/set_0/a": 5, "train/set_1/b": 5}
    assert entry["repeated"] == {"train/set_0/a": {"3": reason}}
    shown = DecordReader(out / "train/set_0/a.mp4").read(range(5))
    (folder / "000003.JPEG").write_bytes(whole[2])
    run(root, tmp_path / "copied")
    assert np.array_equal(shown, DecordReader(tmp_path / "copied/train/set_0/a.mp4").read(range(5)))
    (folder / "000003.JPEG").write_bytes(whole[3])
    again = run(root, out)
    assert [item.kept for item in again.values()] == [False, True], "it may have been mended"
    assert not again["train/set_0/a"].repeated
    assert [item.kept for item in run(root, out).values()] == [True, True]


def test_damaged_frames_at_the_start_show_the_first_that_can_be_read(root, tmp_path):
    folder = root / "Data/VID/train/set_0/a"
    for number in (0, 1):
        (folder / f"{number:06d}.JPEG").write_bytes(b"")
    assert list(run(root, tmp_path / "out")["train/set_0/a"].repeated) == [0, 1]
    shown = DecordReader(tmp_path / "out/train/set_0/a.mp4").read(range(5)) * 255
    changes = np.abs(np.diff(shown, axis=0)).mean(axis=(1, 2, 3))
    assert (changes > 5).tolist() == [False, False, True, True]


def test_frames_that_do_not_come_back_are_told(root, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "count_decoded", lambda movie: 4)
    with pytest.raises(DataError, match=r"None of 2 videos could be prepared.*4 of 5 frames came back"):
        run(root, tmp_path / "out")
    assert movies(tmp_path / "out") == []
    assert len(read_report(tmp_path / "out")["train"]["problems"]) == 2


def test_the_report_keeps_what_it_says_of_other_splits(root, tmp_path):
    write_snippet(root, "val/c")
    run(root, tmp_path / "out")
    tree = find_tree(root, "val")
    list(prepare_videos(tree, video_folders(tree), tmp_path / "out", SMALL))
    report = read_report(tmp_path / "out")
    assert [sorted(report[split]["videos"]) for split in ("train", "val")] == [
        ["train/set_0/a", "train/set_1/b"],
        ["val/c"],
    ]


def test_a_full_disk_is_one_message_and_leaves_no_half_file(root, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prepare.os, "fsync", full)
    with pytest.raises(DataError, match=r"No space left on device.*Make room"):
        run(root, tmp_path / "out")
    monkeypatch.undo()
    assert movies(tmp_path / "out") == []
    assert not (tmp_path / "out/.unfinished").exists()
    assert not any(item.kept for item in run(root, tmp_path / "out").values())


def test_two_at_once_in_one_folder_are_refused(root, tmp_path):
    tree = find_tree(root, "train")
    first = prepare_videos(tree, video_folders(tree), tmp_path / "out", SMALL)
    next(first)
    with pytest.raises(SettingError, match=rf"another process \(pid {os.getpid()}\)"):
        run(root, tmp_path / "out")
    first.close()


@pytest.mark.parametrize("content", ["{", "[]", '{"train": 1}', '{"train": {"settings": {}}}'])
def test_a_foreign_report_is_named(root, tmp_path, content):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/report.json").write_text(content)
    with pytest.raises(DataError, match=r"report\.json"):
        run(root, tmp_path / "out")


# A shell lets what it starts in the background ignore interrupts.
INTERRUPTIBLE = """
import signal
from ovvol_bench.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""


@pytest.mark.parametrize(("sign", "workers", "code"), [(signal.SIGKILL, 1, -9), (signal.SIGINT, 2, 130)])
def test_work_that_was_cut_off_goes_on(tmp_path, sign, workers, code):
    for i in range(6):
        write_snippet(tmp_path / "tree", f"train/set/{i}", frames=3 if i < 2 else 150, size=(240, 320))
    out = tmp_path / "out"
    command = [sys.executable, "-c", INTERRUPTIBLE, "data", "prepare", "imagenet-vid", str(tmp_path / "tree")]
    process = subprocess.Popen(
        [*command, str(out), "--workers", str(workers)],
        stderr=subprocess.PIPE,
    )
    while len(movies(out / "train")) < 2 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(sign)
    _, message = process.communicate(timeout=60)
    assert process.returncode == code, message.decode()
    assert ("the same command goes on" in message.decode()) == (sign == signal.SIGINT)
    assert not read_report(out)["train"]["complete"]
    assert not (out / "train.csv").exists()
    whole = movies(out / "train")
    assert 2 <= len(whole) < 6
    assert (out / ".unfinished").exists() == (sign == signal.SIGKILL)
    outcomes = run(tmp_path / "tree", out, Encoding())
    assert sum(item.kept for item in outcomes.values()) == len(whole)
    assert [item.frames for item in outcomes.values()] == [3, 3, 150, 150, 150, 150]
    assert not (out / ".unfinished").exists()


def test_a_name_that_is_no_utf8_is_a_problem_of_that_video(root, tmp_path):
    folder = root / "Data/VID/train/set_1/b"
    folder.rename(folder.with_name(os.fsdecode(b"caf\xe9")))
    outcomes = list(run(root, tmp_path / "out").values())
    assert [outcome.frames for outcome in outcomes] == [5, 0]
    assert "is no name of a file there" in outcomes[1].problem
    assert movies(tmp_path / "out") == ["train/set_0/a.mp4"]
