"""``ovvol-bench eval FILE``: files of any program against the truth of a dataset."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from ovvol_bench.cli import main
from ovvol_bench.data.shapes.dataset import Shapes
from ovvol_bench.detections import Detections, Frames, in_order
from ovvol_bench.formats import FORMATS
from ovvol_bench.formats.entries import Content

DATASET = ["--truth", "shapes", "-o", "dataset.split=val", "-o", "dataset.videos=2"]


@pytest.fixture(scope="module")
def content():
    return Content.of(Shapes("val", videos=2))


@pytest.fixture(scope="module")
def perfect(content):
    """The truth as detections, all surely right."""
    dataset = Shapes("val", videos=2)
    infos = in_order(dataset.info(index) for index in range(len(dataset)))
    truths = [truth for info in infos for truth in info.truth]
    counts = [len(truth) for truth in truths]
    return Detections(
        Frames.of(infos),
        np.repeat(np.arange(len(truths)), counts),
        np.concatenate([truth.boxes for truth in truths]),
        np.concatenate([truth.class_ids for truth in truths]),
        np.ones(sum(counts)),
        np.concatenate([truth.track_ids for truth in truths]),
        content.classes,
        tuple(counts for truth in truths for counts in truth.runs.counts),
    )


@pytest.fixture
def evaluate(monkeypatch):
    monkeypatch.setenv("OVVOL_PLUGINS", "metrics,data")
    return lambda path, *options: CliRunner().invoke(main, ["eval", str(path), *DATASET, *map(str, options)])


@pytest.fixture
def written(tmp_path, perfect, content):
    def write(name, changed=perfect):
        path = tmp_path / f"found-{name}{FORMATS[name].suffix}"
        FORMATS[name].write(changed, content, path)
        return path

    return write


@pytest.mark.parametrize("name", FORMATS)
def test_perfect_predictions_of_any_format_score_one(written, evaluate, name):
    path = written(name)
    done = evaluate(path, "--metrics", "corloc,vid_ap", "--protocol", "vid-devkit", "--format", "json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["metrics"]["ap50@vid-devkit"]["value"] == 1
    assert result["metrics"]["corloc_any@vid-devkit"]["value"] == 1
    assert result["file"]["format"] == name
    assert result["coverage"]["frames"] == 48
    if path.is_file():
        assert result["file"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_all_means_what_the_file_holds(written, evaluate):
    done = evaluate(written("vid-devkit"), "--metrics", "all", "--format", "json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    left_out = result["left_out"]
    assert left_out["slots"] == "metric 'slots' needs slots: files in the format vid-devkit have none"
    assert "'fg_ari' needs masks" in left_out["fg_ari"]
    assert "has boxes without a track" in left_out["tube_ap"]
    assert "corloc" not in left_out
    assert "left out: metric 'tube_ap' needs tracks" in done.stderr
    assert {"ap50@vid-reference", "ap@coco", "naming_ece@vid-reference"} <= result["metrics"].keys()


def test_tracks_and_masks_bring_their_metrics(written, evaluate):
    tracked = json.loads(evaluate(written("mot"), "--metrics", "all", "--format", "json").stdout)
    assert tracked["left_out"].keys() >= {"fg_ari", "slots"}
    assert not tracked["left_out"].keys() & {"tube_ap", "tracking", "hota"}
    masked = json.loads(evaluate(written("coco"), "--metrics", "all", "--format", "json").stdout)
    assert masked["left_out"].keys() == {"slots"}
    assert masked["metrics"]["fg_ari_clip@segments-frame"]["value"] == 1


def test_metrics_of_packages_that_are_missing_are_left_out(written, evaluate, monkeypatch):
    monkeypatch.setattr("ovvol_bench.runs.score.find_spec", lambda name: None)
    path = written("mot")
    result = json.loads(evaluate(path, "--metrics", "all", "--format", "json").stdout)
    assert result["left_out"]["tracking"] == (
        "metric 'tracking' needs the package trackeval, which is not installed"
    )


def test_boxes_without_names_have_no_metrics_of_names(written, evaluate, perfect):
    path = written("mot", replace(perfect, class_ids=np.zeros(len(perfect), np.int64)))
    result = json.loads(evaluate(path, "--metrics", "all", "--format", "json").stdout)
    assert "needs classes" in result["left_out"]["vid_ap"]
    assert result["metrics"]["detrate@vid-reference"]["value"] == 1


def test_the_table_says_what_was_read(written, evaluate, perfect):
    done = evaluate(written("coco"))
    assert f"{len(perfect)} detections in 48 of 48 frames, {len(perfect)} entries read" in done.stdout
    assert "corloc_any" in done.stdout


def test_the_result_is_written(written, evaluate, tmp_path):
    output = tmp_path / "new/result.json"
    done = evaluate(written("coco"), "--metrics", "corloc", "--output", output)
    assert done.exit_code == 0, done.output
    assert json.loads(output.read_text())["metrics"].keys() == {
        "corloc_any@vid-reference",
        "corloc_top1@vid-reference",
    }


def test_faults_are_refused_or_counted(written, evaluate):
    path = written("vid-devkit")
    path.write_text(path.read_text() + "999 1 0.5 1 2 3 4\n1 99 0.5 1 2 3 4\n")
    done = evaluate(path)
    assert done.exit_code == 2
    assert "unknown frame number 999; the dataset has 1 to 48" in done.stderr
    assert done.stdout == ""
    done = evaluate(path, "--on-error", "skip", "--format", "json")
    assert json.loads(done.stdout)["coverage"]["skipped"] == {"unknown frame": 1, "unknown class": 1}
    assert "skipped: 1 x unknown class" in evaluate(path, "--on-error", "skip").stdout


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        ("fg_ari", "metric 'fg_ari' needs masks"),
        ("slots", "metric 'slots' needs slots"),
        ("tube_ap", "metric 'tube_ap' needs tracks"),
        ("naming_ece", "line 1: score 2"),
    ],
)
def test_a_named_metric_that_does_not_fit_is_an_error(evaluate, tmp_path, metric, reason):
    path = tmp_path / "odd.txt"
    path.write_text("1 1 2 1 2 3 4\n2 1 3 1 2 3 4\n")
    done = evaluate(path, "--metrics", metric)
    assert done.exit_code == 2
    assert reason in done.stderr
    done = evaluate(path, "--metrics", f"corloc,{metric}", "--on-error", "skip")
    assert done.exit_code == 0
    assert reason in done.stderr


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.json", "[]", "can't tell its format. Say it with --input-format"),
        ("a.json", '[{"image_id": 1, "cat', "Was it cut off?"),
        ("a.json", '[{"video_id": 1, "segmentations": "x"}]', "entry 0: expected an object with video_id"),
    ],
)
def test_bad_files_are_one_message(evaluate, tmp_path, name, text, expected):
    path = tmp_path / name
    path.write_text(text)
    done = evaluate(path)
    assert done.exit_code == 2
    assert expected in done.stderr


def test_the_format_can_be_said(evaluate, tmp_path):
    path = tmp_path / "nothing.json"
    path.write_text("[]")
    done = evaluate(path, "--input-format", "coco", "--format", "json")
    assert json.loads(done.stdout)["coverage"]["detections"] == 0
    done = evaluate(path, "--input-format", "cocoa")
    assert "Did you mean 'coco'?" in done.stderr


def test_what_ties_leave_open_is_printed(written, evaluate, perfect):
    moved = replace(perfect, boxes=np.where(np.arange(len(perfect))[:, None] % 2, perfect.boxes, 0))
    done = evaluate(written("coco", moved), "--metrics", "vid_ap")
    assert done.exit_code == 0, done.output
    head, _, ap50, *_ = done.stdout.splitlines()
    assert head.split() == ["metric", "value", "count", "ties"]
    stored = json.loads(evaluate(written("coco", moved), "--metrics", "vid_ap", "--format", "json").stdout)
    low, high = stored["metrics"]["ap50@vid-reference"]["notes"]["tie_span"]
    assert ap50.endswith(f"{100 * low:.1f} to {100 * high:.1f}")


@pytest.fixture
def images(tmp_path):
    """Four images of a dog and a cat each, and the dogs found."""
    boxes = ([10, 10, 50, 50], [70, 20, 40, 40])
    entries = [(image, row) for image in range(1, 5) for row in range(2)]
    truth = {
        "videos": [{"id": image, "name": f"v{image}"} for image in range(1, 6)],
        "images": [
            {"id": n, "video_id": n, "frame_id": 0, "file_name": f"{n}.jpg", "height": 96, "width": 128}
            for n in range(1, 5)
        ],
        "annotations": [
            {"id": 2 * n + row, "image_id": n, "category_id": row + 1, "bbox": boxes[row], "iscrowd": n == 4}
            for n, row in entries
        ],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
    }
    found = [{"image_id": n, "category_id": 1, "bbox": boxes[0], "score": 0.9} for n in range(1, 5)]
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text(json.dumps(found))
    (tmp_path / "dogs.yaml").write_text("classes: [dog]\n")
    return tmp_path


def test_what_the_dataset_leaves_out_is_counted_and_said(images, monkeypatch):
    monkeypatch.setenv("OVVOL_PLUGINS", "metrics,data")
    settings = (f"path={images / 'truth.json'}", f"vocabulary={images / 'dogs.yaml'}", f"cache={images}")
    options = [part for setting in settings for part in ("-o", f"dataset.{setting}")]
    command = ["eval", str(images / "found.json"), "--truth", "coco-vid", *options, "--metrics", "coco_ap"]
    done = CliRunner().invoke(main, [*command, "--output", str(images / "result.json")])
    assert done.exit_code == 0, done.output
    skipped = json.loads((images / "result.json").read_text())["coverage"]["skipped"]
    assert skipped == {
        "objects of classes outside the vocabulary": 3,
        "objects that stand for a crowd": 2,
        "videos without frames": 1,
    }
    for reason, count in skipped.items():
        assert f"skipped: {count} x {reason}" in done.stdout


def test_videos_shorter_than_a_clip_are_scored_whole(images, monkeypatch):
    monkeypatch.setenv("OVVOL_PLUGINS", "metrics,data")
    options = ["-o", f"dataset.path={images / 'truth.json'}", "-o", f"dataset.cache={images}"]
    command = ["eval", str(images / "found.json"), "--truth", "coco-vid", *options, "--format", "json"]
    result = json.loads(CliRunner().invoke(main, [*command, "--metrics", "coco_ap"]).stdout)
    assert (result["coverage"]["clips"], result["coverage"]["frames"]) == (4, 4)
    assert result["metrics"]["ap@coco"]["notes"]["per_class"] == {"1": pytest.approx(1), "2": 0}


def test_scoring_no_frame_at_all_is_an_error(images, monkeypatch):
    monkeypatch.setenv("OVVOL_PLUGINS", "metrics,data")
    (images / "none.txt").write_text("")
    options = ["-o", f"dataset.path={images / 'truth.json'}", "-o", f"dataset.split={images / 'none.txt'}"]
    done = CliRunner().invoke(main, ["eval", str(images / "found.json"), "--truth", "coco-vid", *options])
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("short_side", "ap50"), [(96, 1), (960, 0)])
def test_the_resized_frame_of_the_protocol_is_a_setting(tmp_path, monkeypatch, short_side, ap50):
    """Sides of x2 - x1 + 2: in a larger frame the same boxes overlap less."""
    monkeypatch.setenv("OVVOL_PLUGINS", "metrics,data")
    truth, found = tmp_path / "truth.json", tmp_path / "found.json"
    image = {"id": 1, "video_id": 1, "frame_id": 0, "file_name": "v/0.jpg", "width": 128, "height": 96}
    annotation = {"id": 1, "image_id": 1, "video_id": 1, "category_id": 1, "bbox": [10, 10, 9, 40]}
    names = {"videos": [{"id": 1, "name": "v"}], "categories": [{"id": 1, "name": "dog"}]}
    truth.write_text(json.dumps({**names, "images": [image], "annotations": [annotation]}))
    entry = {"image_id": 1, "category_id": 1, "bbox": [13, 10, 9, 40], "score": 0.5}
    found.write_text(json.dumps([entry]))
    settings = ["-o", f"dataset.path={truth}", "-o", f"dataset.short_side={short_side}"]
    options = ["--metrics", "vid_ap", "--protocol", "vid-reference", "--format", "json"]
    done = CliRunner().invoke(main, ["eval", str(found), "--truth", "coco-vid", *settings, *options])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["metrics"]["ap50@vid-reference"]["value"] == pytest.approx(ap50)


def test_numbers_of_a_file_are_known_by_video(written, evaluate):
    result = json.loads(evaluate(written("coco"), "--name", "x", "--format", "json").stdout)
    videos = result["videos"]
    assert len(videos["names"]) == 2
    assert "ap50@vid-reference" in videos["terms"]
    for key, terms in videos["terms"].items():
        assert sum(terms["sums"]) / sum(terms["counts"]) == pytest.approx(result["metrics"][key]["value"])
