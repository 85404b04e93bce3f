from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from ovvol_bench.data.imagenet_vid.check import EXAMPLES, OFFICIAL, Checked, Findings, Kind, check_data
from ovvol_bench.data.imagenet_vid.prepare import Encoding, prepare_videos
from ovvol_bench.data.imagenet_vid.tree import find_tree, video_folders
from ovvol_bench.data.shapes.storage import write_split
from ovvol_bench.data.shapes.world import shapes_vocabulary
from ovvol_bench.errors import DataError

WORDS = shapes_vocabulary()
A, B = "shapes_val_00000000", "shapes_val_00000001"
FRAMES = 24


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Two videos of the shapes world, as they are exported, and prepared."""
    folder = tmp_path_factory.mktemp("whole")
    for _ in write_split(folder / "tree", "val", 2):
        pass
    prepare_all(folder / "tree", folder / "out")
    return folder


@pytest.fixture
def root(whole, tmp_path):
    """A tree to spoil."""
    return shutil.copytree(whole / "tree", tmp_path / "tree")


@pytest.fixture
def out(whole, tmp_path):
    """Prepared videos to spoil."""
    return shutil.copytree(whole / "out", tmp_path / "out")


def prepare_all(root: Path, out: Path) -> None:
    tree = find_tree(root, "val")
    names = video_folders(tree, with_empty=True)
    for _ in prepare_videos(tree, names, out, Encoding(short_side=64, multiple=16)):
        pass


def check(root: Path, **settings) -> Checked:
    return check_data(root, "val", WORDS, **settings)


def problems(root: Path, **settings) -> dict[Kind, int]:
    return dict(check(root, **settings).findings.problems)


def frame(root: Path, number: int, video: str = A) -> Path:
    return root / f"Data/VID/val/{video}/{number:06d}.JPEG"


def xml(root: Path, number: int, video: str = A) -> Path:
    return root / f"Annotations/VID/val/{video}/{number:06d}.xml"


def restate(path: Path, **values: object) -> None:
    """Change the first tag of each name in an annotation."""
    text = path.read_text()
    for tag, value in values.items():
        text = re.sub(rf"<{tag}>[^<]*<", f"<{tag}>{value}<", text, count=1)
    path.write_text(text)


def test_a_whole_tree_has_no_problems(root):
    checked = check(root)
    assert checked.findings.told() == []
    assert checked.layout == "ILSVRC-VID tree"
    assert checked.source == root / "ImageSets/VID/val.txt"
    counts = checked.findings.counts
    assert (counts["videos"], counts["frames"], counts["annotations"]) == (2, 2 * FRAMES, 2 * FRAMES)
    assert counts["objects"] == counts["objects drawn by hand"] > 2 * FRAMES


def test_official_counts_are_the_development_kits():
    assert {split: counts["videos"] for split, counts in OFFICIAL.items()} == {
        "train": 3862,
        "val": 555,
        "test": 937,
    }
    assert (OFFICIAL["train"]["frames"], OFFICIAL["val"]["frames"]) == (1_122_397, 176_126)


def lose_frame(root: Path) -> None:
    frame(root, 5).unlink()


def lose_annotation(root: Path) -> None:
    xml(root, 5).unlink()


def lose_frames_of_a_video(root: Path) -> None:
    for number in range(FRAMES):
        frame(root, number).unlink()


def lose_a_folder(root: Path) -> None:
    shutil.rmtree(frame(root, 0).parent)


def cut_frame(root: Path) -> None:
    frame(root, 5).write_bytes(frame(root, 5).read_bytes()[:-50])


def break_frame(root: Path) -> None:
    frame(root, 5).write_bytes(b"no image")


def shrink_frame(root: Path) -> None:
    cv2.imwrite(str(frame(root, 5)), np.zeros((48, 64, 3), np.uint8))


def break_annotation(root: Path) -> None:
    xml(root, 5).write_text("<annotation><object>")


def empty_annotation(root: Path) -> None:
    xml(root, 5).write_text("<annotation><object><name>plain_circle</name></object></annotation>")


def state_another_size(root: Path) -> None:
    restate(xml(root, 5), width=640)


def rename_class(root: Path) -> None:
    restate(xml(root, 0), name="n99999999")


def invert_box(root: Path) -> None:
    restate(xml(root, 0), xmin=80, xmax=20)


def push_box_out(root: Path) -> None:
    restate(xml(root, 0), xmax=129)


def push_box_below_zero(root: Path) -> None:
    restate(xml(root, 0), ymin=-1)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lose_frame, {Kind.GAP: 1, Kind.NO_FRAME: 1, Kind.NOT_THERE: 1}),
        (lose_annotation, {Kind.NO_ANNOTATION: 1}),
        (lose_frames_of_a_video, {Kind.NO_FRAMES: 1, Kind.NO_FRAME: FRAMES, Kind.NOT_THERE: FRAMES}),
        (lose_a_folder, {Kind.NO_FRAMES: 1, Kind.NO_FRAME: FRAMES, Kind.NOT_THERE: FRAMES}),
        (cut_frame, {Kind.BAD_FRAME: 1}),
        (break_frame, {Kind.BAD_FRAME: 1}),
        (shrink_frame, {Kind.CHANGED_SIZE: 1, Kind.STATED_SIZE: 1}),
        (break_annotation, {Kind.BAD_ANNOTATION: 1}),
        (empty_annotation, {Kind.BAD_ANNOTATION: 1}),
        (state_another_size, {Kind.STATED_SIZE: 1}),
        (rename_class, {Kind.UNKNOWN_CLASS: 1}),
        (invert_box, {Kind.INVERTED: 1}),
        (push_box_out, {Kind.OUTSIDE: 1}),
        (push_box_below_zero, {Kind.OUTSIDE: 1}),
    ],
)
def test_every_defect_of_a_tree_is_found(root, spoil, expected):
    spoil(root)
    findings = check(root).findings
    assert dict(findings.problems) == expected
    assert all(A in example for kind in expected for example in findings.examples[kind])


def test_examples_name_file_and_value(root):
    rename_class(root)
    invert_box(root)
    shrink_frame(root)
    examples = check(root).findings.examples
    assert examples[Kind.UNKNOWN_CLASS] == [f"val/{A}/000000.xml: n99999999"]
    assert re.fullmatch(rf"val/{A}/000000.xml: 80 \d+ 20 \d+", examples[Kind.INVERTED][0])
    assert examples[Kind.STATED_SIZE] == [
        f"val/{A}/000005.xml: 96 x 128 (height x width) instead of 48 x 64 (height x width)"
    ]


def test_a_box_may_end_at_the_frames_edge(root):
    restate(xml(root, 0), xmax=128, ymax=96)
    assert problems(root) == {}


def test_all_are_counted_and_the_first_kept(root):
    for number in range(8):
        xml(root, number).unlink()
    [(kind, count, examples)] = check(root).findings.told()
    assert (kind, count) == (Kind.NO_ANNOTATION, 8)
    assert examples == [f"val/{A}/{number:06d}.JPEG" for number in range(EXAMPLES)]


def test_several_processes_find_the_same(root):
    lose_frame(root)
    rename_class(root)
    assert check(root, workers=2) == check(root)


@pytest.mark.parametrize(
    ("lines", "missing"),
    [
        (f"val/{A} 1 0 24\nval/{B} 25 0 25\n", [f"val/{B}/000024.JPEG"]),
        (f"{A}/000000 1\n{A}/000030 2\n", [f"val/{A}/000030.JPEG"]),
        (f"val/{A} 1\nval/nowhere 1\n", ["val/nowhere"]),
    ],
)
def test_list_lines_without_files_are_found(root, tmp_path, lines, missing):
    (tmp_path / "list.txt").write_text(lines)
    checked = check(root, list_file=tmp_path / "list.txt")
    assert checked.findings.told() == [(Kind.NOT_THERE, 1, missing)]


def test_annotations_of_the_test_split_are_not_asked_for(root, tmp_path):
    shutil.move(root / "Data/VID/val", root / "Data/VID/test")
    assert check_data(root, "test", WORDS).findings.told() == []
    shutil.copytree(root / "Data/VID/test", root / "Data/VID/train")
    assert check_data(root, "train", WORDS).findings.problems == {Kind.NO_ANNOTATION: 2 * FRAMES}


def test_an_empty_split_is_a_problem(tmp_path):
    (tmp_path / "Data/VID/val").mkdir(parents=True)
    assert problems(tmp_path) == {Kind.NO_FRAMES: 1}


def test_a_folder_of_neither_layout_is_one_message(tmp_path):
    with pytest.raises(DataError, match="is no ImageNet-VID tree"):
        check(tmp_path)


def test_prepared_videos_have_no_problems(out):
    checked = check(out)
    assert checked.findings.told() == []
    assert (checked.layout, checked.source) == ("prepared videos", out / "val.csv")
    assert checked.findings.counts == {"videos": 2, "frames": 2 * FRAMES}
    assert check(out, workers=2) == checked


def movie(out: Path, video: str = A) -> Path:
    return out / f"val/{video}.mp4"


def lose_movie(out: Path) -> None:
    movie(out).unlink()


def cut_movie(out: Path) -> None:
    movie(out).write_bytes(movie(out).read_bytes()[:-2000])


def add_movie(out: Path) -> None:
    shutil.copy(movie(out), movie(out, f"{A}_copy"))


def add_a_line_without_video(out: Path) -> None:
    add_line(out, f"val/{A}")


def add_a_line_again(out: Path) -> None:
    add_line(out, f"val/{A}.mp4 1")


def add_line(out: Path, line: str) -> None:
    with (out / "val.csv").open("a") as file:
        file.write(f"{line}\n")


def report_another_count(out: Path) -> None:
    edit_report(out, lambda entry: entry["videos"].update({f"val/{A}": 25}))


def report_another_size(out: Path) -> None:
    edit_report(out, lambda entry: entry["settings"].update(short_side=80))


def report_a_cut(out: Path) -> None:
    edit_report(out, lambda entry: entry.update(complete=False))


def report_a_problem(out: Path) -> None:
    edit_report(out, lambda entry: entry["problems"].update({"val/c": "holds no frames"}))


def edit_report(out: Path, change: Callable[[dict], None]) -> None:
    report = json.loads((out / "report.json").read_text())
    change(report["val"])
    (out / "report.json").write_text(json.dumps(report))


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lose_movie, {Kind.NOT_THERE: 1}),
        (cut_movie, {Kind.BAD_VIDEO: 1}),
        (add_movie, {Kind.NOT_LISTED: 1}),
        (add_a_line_without_video, {Kind.BAD_LINE: 1}),
        (add_a_line_again, {Kind.TWICE: 1}),
        (report_another_count, {Kind.OTHER_COUNT: 1}),
        (report_another_size, {Kind.OTHER_SIZE: 2}),
        (report_a_cut, {Kind.UNFINISHED: 1}),
        (report_a_problem, {Kind.LEFT_OUT: 1}),
    ],
)
def test_every_defect_of_prepared_videos_is_found(out, spoil, expected):
    spoil(out)
    assert problems(out) == expected


def test_what_could_not_be_prepared_is_told_again(root, tmp_path):
    lose_frame(root)
    prepare_all(root, tmp_path / "again")
    [(kind, count, examples)] = check(tmp_path / "again").findings.told()
    assert (kind, count) == (Kind.LEFT_OUT, 1)
    assert f"val/{A}: " in examples[0] and "lacks 1 of the frames 0 to 23" in examples[0]


def test_every_damaged_frame_is_named_and_what_it_shows_in_prepared_videos_too(root, tmp_path):
    bad = [3, *range(8, 15)]
    for number in bad:
        frame(root, number).write_bytes(b"no image")
    [(kind, count, examples)] = check(root).findings.told()
    assert (kind, count, examples) == (Kind.BAD_FRAME, 8, [f"val/{A}/{n:06d}.JPEG" for n in bad])
    prepare_all(root, tmp_path / "again")
    [(kind, count, examples)] = check(tmp_path / "again").findings.told()
    assert (kind, count) == (Kind.REPEATED, 8)
    assert [example.partition(": ")[0] for example in examples] == [f"val/{A}.mp4, frame {n}" for n in bad]


def test_prepared_videos_without_a_list_are_one_message(out):
    (out / "val.csv").unlink()
    with pytest.raises(DataError, match=r"val\.csv can't be read"):
        check(out)


def test_findings_add_up():
    first, second = Findings(), Findings()
    first.add(Kind.GAP, "abc")
    second.add(Kind.GAP, "defg")
    second.add(Kind.NO_FRAME, [])
    second.counts["frames"] += 2
    first.include(second)
    assert first.told() == [(Kind.GAP, 7, ["a", "b", "c", "d", "e"])]
    assert first.counts == {"frames": 2}


def test_frames_of_prepared_videos_that_do_not_decode_are_named_on_request(out):
    path = movie(out)
    with av.open(str(path)) as container:
        packet = [each for each in container.demux(video=0) if each.size][5]
    content = bytearray(path.read_bytes())
    content[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    path.write_bytes(content)
    assert problems(out) == {}
    [(kind, count, examples)] = check(out, content=True).findings.told()
    assert (kind, count, examples) == (Kind.UNDECODED, 1, [f"val/{A}.mp4: frame 5 can't be decoded"])


def test_content_is_decoded_and_hashed_on_request(root, out):
    whole = check(root, content=True)
    assert (whole.findings.problems, check(root).content) == ({}, None)
    assert check(root, content=True).content == whole.content
    file = frame(root, 3)
    content = bytearray(file.read_bytes())
    content[-40] ^= 1
    file.write_bytes(content)
    assert check(root, content=True).content != whole.content
    file.write_bytes(content[:2] + content[-2:])
    assert problems(root, content=True)[Kind.BAD_FRAME] == 1
    movie = next((out / "val").rglob("*.mp4"))
    before = check(out, content=True).content
    movie.write_bytes(movie.read_bytes() + b"x")
    assert before != check(out, content=True).content is not None


def test_names_that_are_no_utf8_are_told(root, out):
    for folder in (frame(root, 0).parent, xml(root, 0).parent):
        folder.rename(folder.with_name(os.fsdecode(b"caf\xe9")))
    found = check(root, content=True).findings
    assert found.problems[Kind.NOT_UTF8] == 1
    assert found.examples[Kind.NOT_UTF8] == ["val/caf\\xe9"]
    movie = next((out / "val").glob("*.mp4"))
    movie.rename(movie.with_name(os.fsdecode(b"caf\xe9.mp4")))
    assert check(out).findings.examples[Kind.NOT_UTF8] == ["val/caf\\xe9.mp4"]
