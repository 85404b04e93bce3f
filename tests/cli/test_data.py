from __future__ import annotations

import json
import os
import shutil

import pytest
from click.testing import CliRunner

from ovvol_bench.cli import main
from ovvol_bench.data.shapes.world import shapes_vocabulary


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    out = tmp_path_factory.mktemp("shapes")
    result = CliRunner().invoke(main, ["data", "make", "shapes", str(out), "--split", "val", "--videos", "2"])
    assert result.exit_code == 0, result.output
    assert "2 videos of split val are in" in result.output
    return out


def test_made_shapes_are_a_tree_that_inspect_reads(shapes, tmp_path):
    words = tmp_path / "words.yaml"
    words.write_text("classes: [{name: thing, code: none}]\n")
    arguments = [
        "data",
        "inspect",
        str(shapes),
        "--vocabulary",
        str(words),
        "--cache",
        str(tmp_path / "cache"),
    ]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    lines = dict(line.rsplit(maxsplit=1) for line in result.output.splitlines() if "  " in line)
    counts = {name.strip(): value for name, value in lines.items()}
    assert (counts["videos"], counts["frames"], counts["objects"]) == ("2", "48", "0")
    assert int(counts["left out: objects of classes outside the vocabulary"]) > 24
    assert "val.txt (images)" in result.output


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("dataset.list=/nowhere/l.txt", "List /nowhere/l.txt can't be read"),
        ("dataset.splitt=x", "splitt"),
        ("dataset.split=train", "is no ImageNet-VID tree with a split 'train'"),
        ("encoder.dim=1", "only settings of the dataset"),
    ],
)
def test_inspect_heeds_its_settings(shapes, tmp_path, setting, message):
    result = CliRunner().invoke(
        main, ["data", "inspect", str(shapes), "--cache", str(tmp_path), "-o", setting]
    )
    assert result.exit_code == 2
    assert message in result.output


def test_a_folder_that_is_no_tree_is_one_message_and_exit_code_2(tmp_path):
    result = CliRunner().invoke(main, ["data", "inspect", str(tmp_path)])
    assert result.exit_code == 2
    assert "is no ImageNet-VID tree with a split 'val'" in result.output


@pytest.fixture
def prepared(shapes, tmp_path):
    out = tmp_path / "out"
    arguments = ["data", "prepare", "imagenet-vid", str(shapes), str(out), "--split", "val"]
    return out, [*arguments, "--short-side", "64", "--workers", "1"]


def invoke(arguments):
    return CliRunner().invoke(main, arguments)


def test_prepare_writes_videos_and_a_list_and_keeps_what_is_done(prepared):
    out, arguments = prepared
    first, second = invoke(arguments), invoke(arguments)
    assert (first.exit_code, second.exit_code) == (0, 0), first.output + second.output
    assert f"2 videos with 48 frames are in {out} (0 were there already)" in first.output
    assert "(2 were there already)" in second.output
    assert len((out / "val.csv").read_text().splitlines()) == 2
    third = invoke([*arguments, "--overwrite", "always"])
    assert "(0 were there already)" in third.output


def test_what_can_not_be_prepared_is_told_and_strict_makes_it_an_error(shapes, prepared, tmp_path):
    _, arguments = prepared
    tree = shutil.copytree(shapes, tmp_path / "tree")
    next((tree / "Data/VID/val").rglob("000003.JPEG")).unlink()
    arguments[3] = str(tree)
    lenient, strict = invoke(arguments), invoke([*arguments, "--strict"])
    assert (lenient.exit_code, strict.exit_code) == (0, 2)
    assert "1 videos with 24 frames" in lenient.output
    assert "1 videos could not be prepared, see" in lenient.stderr
    assert "lacks 1 of the frames 0 to 23" in lenient.stderr


def test_damaged_frames_are_told_by_prepare_and_check(shapes, prepared, tmp_path):
    _, arguments = prepared
    tree = shutil.copytree(shapes, tmp_path / "tree")
    damaged = sorted((tree / "Data/VID/val").rglob("00000[0-6].JPEG"))[:7]
    for file in damaged:
        file.write_bytes(b"")
    arguments[3] = str(tree)
    lenient, strict = invoke(arguments), invoke([*arguments, "--strict"])
    assert (lenient.exit_code, strict.exit_code) == (0, 2)
    assert "2 videos with 48 frames" in lenient.output
    assert "7 of 48 frames could not be read and show the one before, see" in lenient.stderr
    assert f"{damaged[0]} is not a readable image" in lenient.stderr
    check = ["data", "check", str(tree), "--split", "val"]
    assert "000004.JPEG\n  ... all with --format json" in invoke(check).output
    problems = json.loads(invoke([*check, "--format", "json"]).stdout)["problems"]
    (found,) = [each for each in problems if each["kind"] == "frames that are no image, or cut off"]
    assert (found["count"], len(found["examples"])) == (7, 7)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [("--crf", "60", "crf=60"), ("--short-side", "100", "short_side=100"), ("--split", "train", "'train'")],
)
def test_prepare_refuses_settings_with_one_message(prepared, option, value, words):
    result = invoke([*prepared[1], option, value])
    assert result.exit_code == 2
    assert words in result.stderr
    assert not prepared[0].exists()


def test_prepare_into_a_folder_that_can_not_be_made_is_one_message(prepared):
    out, arguments = prepared
    out.write_text("a file")
    arguments[4] = str(out / "below")
    result = invoke(arguments)
    assert result.exit_code == 2
    assert "Not a directory" in result.stderr
    assert "Make room" in result.stderr


@pytest.fixture
def words(tmp_path):
    classes = ", ".join(f"{{name: {c.name}, code: {c.code}}}" for c in shapes_vocabulary().classes)
    path = tmp_path / "shapes.yaml"
    path.write_text(f"classes: [{classes}]\n")
    return str(path)


def test_check_prints_counts_beside_the_official_ones(shapes, words):
    result = invoke(["data", "check", str(shapes), "--vocabulary", words, "--workers", "1"])
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.output.splitlines()]
    assert ["videos", "2", "555"] in lines
    assert ["frames", "48", "176,126"] in lines
    assert result.output.endswith("no problems found\n")


def test_check_tells_problems_and_exits_with_2(shapes):
    result = invoke(["data", "check", str(shapes), "--workers", "1"])
    assert result.exit_code == 2
    assert "objects of unknown class:\n  val/shapes_val_00000000/000000.xml: " in result.output
    assert result.output.endswith("  ...\n")


def test_check_gives_json(prepared):
    assert invoke(prepared[1]).exit_code == 0
    result = invoke(["data", "check", str(prepared[0]), "--format", "json", "--workers", "1"])
    assert result.exit_code == 0
    report = json.loads(result.output)
    assert report["counts"] == {"videos": 2, "frames": 48}
    assert report["official"]["videos"] == 555
    assert (report["layout"], report["problems"]) == ("prepared videos", [])


def test_frequencies_are_the_boxes_of_each_class(tmp_path):
    from ovvol_bench.data.shapes.dataset import Shapes

    arguments = ["data", "frequencies", "shapes", "-o", "dataset.split=val", "-o", "dataset.videos=3"]
    result = CliRunner().invoke(main, [*arguments, "--output", str(tmp_path / "counts.json")])
    assert result.exit_code == 0, result.output
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert list(counts) == [item.name for item in shapes_vocabulary().classes]
    dataset = Shapes(split="val", videos=3)
    frames = [
        frame for i in range(len(dataset)) for frame in dataset.info(i).truth[dataset.info(i).context :]
    ]
    assert sum(counts.values()) == sum(map(len, frames)) > 0
    printed = CliRunner().invoke(main, arguments)
    assert json.loads(printed.output) == counts


def test_frequencies_take_settings_of_the_dataset_alone():
    result = CliRunner().invoke(main, ["data", "frequencies", "shapes", "-o", "labeler.weights=none"])
    assert result.exit_code == 2
    assert "-o labeler: only settings of the dataset count here" in result.output


@pytest.mark.parametrize("style", ["text", "json"])
def test_names_that_are_no_utf8_are_shown_as_bytes(shapes, tmp_path, style):
    root = tmp_path / os.fsdecode(b"caf\xe9")
    shutil.copytree(shapes, root)
    for part in ("Data", "Annotations", "Masks"):
        folder = next((root / part / "VID/val").iterdir())
        folder.rename(folder.with_name(os.fsdecode(b"b\xe9")))
    result = CliRunner().invoke(main, ["data", "check", str(root), "--split", "val", "--format", style])
    assert result.exit_code == 2 and isinstance(result.exception, SystemExit), result.output
    assert "videos whose name is not UTF-8" in result.output
    (root / "ImageSets/VID/val.txt").unlink()
    for command in (["inspect", str(root)], ["prepare", "imagenet-vid", str(root), str(tmp_path / "out")]):
        result = CliRunner().invoke(main, ["data", *command, "--split", "val"])
        assert isinstance(result.exception, SystemExit | None), result.output
