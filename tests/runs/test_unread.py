"""Runs over frames that can't be read: one damaged frame costs that frame, whole clips are skipped."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from ovvol_bench.cli import main
from ovvol_bench.data.shapes.storage import write_split
from ovvol_bench.errors import DataError, DecodeError
from ovvol_bench.metrics.corloc import CorLoc
from ovvol_bench.metrics.detrate import DetectionRate
from ovvol_bench.metrics.vid_ap import VidAP
from ovvol_bench.predictions import ClipPrediction, own_part, pack, same_content
from ovvol_bench.registry import load_registry
from ovvol_bench.report.overlays import write_overlays
from ovvol_bench.runs.predictions import read_predictions
from ovvol_bench.runs.rescore import Source, rescore_run, same_dataset, score_file
from ovvol_bench.runs.score import Wanted
from ovvol_bench.runs.score import score as score_predictions
from ovvol_bench.runs.selection import Choice, load_preset, select
from ovvol_bench.runs.session import Conduct, run_all
from ovvol_bench.runs.store import Overwrite
from ovvol_bench.types import ClipInfo, FrameTruth, Localization

HERE = Path(__file__).parent
A, B = "val/shapes_val_00000000", "val/shapes_val_00000001"
BAD = f"{A}/000005"
LOST = f"{B}/000008"


def frame(root: Path, name: str) -> Path:
    return root / f"Data/VID/{name}.JPEG"


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """A tree with a cut frame and a clip of nothing but cut frames; and one with copies of frames instead."""
    folder = tmp_path_factory.mktemp("trees")
    for _ in write_split(folder / "mended", "val", 2):
        pass
    shutil.copytree(folder / "mended", folder / "damaged")
    for name in (BAD, *(f"{B}/{number:06d}" for number in range(8, 12))):
        file = frame(folder / "damaged", name)
        file.write_bytes(file.read_bytes()[:-50])
    shutil.copy(frame(folder / "mended", f"{A}/000004"), frame(folder / "mended", BAD))
    return folder


@pytest.fixture(scope="module")
def registry():
    return load_registry((HERE / "tiny_plugin.py",), only=["metrics", "data"])


@pytest.fixture
def run(registry, trees, tmp_path):
    """Run the tiny components on a tree, clips of four frames."""

    def call(tree="damaged", output="runs", on_error="skip", **conduct):
        settings = {
            "path": trees / tree,
            "split": "val",
            "frames_per_clip": 4,
            "cache": str(tmp_path / "cache"),
        }
        names = {"dataset": ["shapes"]}
        selection = select(load_preset(str(HERE / "tiny.yaml")), registry, names, {"dataset": settings})
        how = Conduct(tmp_path / output, torch.device("cpu"), on_error=on_error, **conduct)
        (finished,) = run_all(selection, registry, how)
        return finished

    return call


def values(result):
    return {key: metric["value"] for key, metric in result["metrics"].items()}


def test_a_damaged_frame_costs_one_frame_and_a_clip_without_any_is_skipped(run, trees):
    finished = run()
    assert finished.result["coverage"] == {
        "clips": 12,
        "done": 11,
        "frames": 43,
        "unread": [BAD],
        "skipped": {"frames can't be read": 1},
    }
    file = frame(trees / "damaged", BAD)
    assert finished.remarks[0].startswith(f"1 of 48 frames unreadable, not scored: Image {file} is cut off")
    assert "is cut off" in json.loads((finished.folder.path / "unread.json").read_text())[BAD]
    assert list(json.loads((finished.folder.path / "skipped.json").read_text())) == [LOST]


def test_models_see_the_nearest_frame_and_the_others_are_as_they_are(run):
    damaged, mended = run(), run("mended", "whole")
    whole = {each.info.id: each for each in read_predictions(mended.folder.predictions)}
    found = read_predictions(damaged.folder.predictions)
    assert {each.info.id for each in found} == whole.keys() - {LOST}
    for each in found:
        expected = whole[each.info.id]
        if each.info.id == f"{A}/000004":
            assert each.info.frame_indices == (4, 6, 7)
            expected = own_part(replace(expected, info=replace(expected.info, unread={1: "cut off"})))
        assert same_content(each, expected)


def test_the_frame_is_not_scored(run, registry):
    finished = run()
    dataset = same_dataset(registry, finished.folder.read_spec())
    infos = {info.id: info for info in map(dataset.info, range(len(dataset)))}
    metrics = [kind(protocol="vid-reference") for kind in (CorLoc, DetectionRate, VidAP)]
    for each in read_predictions(finished.folder.predictions):
        info = infos[each.info.id]
        if info.id == f"{A}/000004":
            info = replace(info, unread={1: "cut off"})
        for metric in metrics:
            metric.update(replace(each.localization, input_size=each.input_size), info)
    for metric in metrics:
        for name, value in metric.compute().items():
            stored = finished.result["metrics"][f"{name}@vid-reference"]
            assert (stored["value"], stored["count"]) == (value.value if value.count else None, value.count)


def test_a_frame_without_prediction_is_neither_found_nor_missed():
    box = np.array([[2, 3, 6, 8]], np.float32)
    info = ClipInfo("v/0", "v", (0, 1), (10, 10), (FrameTruth.of_boxes(box, [1]),) * 2)
    found = Localization(
        boxes=np.stack([box, 0 * box]),
        present=np.array([[True], [False]]),
        probabilities=np.array([[0, 1]], np.float32),
        slot_map=np.zeros((2, 1, 1), np.int16),
        segment_of_slot=np.zeros(1, np.int16),
    )
    unread = ClipPrediction(replace(info, unread={1: "cut off"}), (10, 10), found)
    both, one = pack([replace(unread, info=info)]), pack([unread])
    score = partial(score_predictions, infos=[info])
    coverage, metrics = score(one, metrics=[DetectionRate(protocol="vid-devkit")])
    assert (coverage.frames, coverage.unread) == (1, ["v/000001"])
    assert [(each["value"], each["count"]) for each in metrics.values()] == [(1.0, 1)]
    coverage, metrics = score(both, metrics=[DetectionRate(protocol="vid-devkit")])
    assert (coverage.frames, coverage.unread) == (2, [])
    assert [(each["value"], each["count"]) for each in metrics.values()] == [(0.5, 2)]


def stop_after(clips):
    def progress(name, done, total):
        if done >= clips:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("clips", [1, 4, 9])
def test_a_resumed_run_gives_the_same(run, clips):
    with pytest.raises(KeyboardInterrupt):
        run(batch_size=1, progress=stop_after(clips))
    resumed, whole = run(batch_size=1), run(output="whole")
    assert values(resumed.result) == values(whole.result)
    assert resumed.result["coverage"] == whole.result["coverage"]
    assert resumed.remarks == whole.remarks
    again = run()
    assert again.result["coverage"] == whole.result["coverage"]
    assert again.remarks == whole.remarks


def test_without_skipping_the_first_damaged_frame_ends_the_run(run):
    with pytest.raises(DecodeError, match=rf"Image .*{BAD}\.JPEG is cut off.*--on-error skip"):
        run(on_error="fail")
    finished = run()
    with pytest.raises(
        DataError, match=rf"lacks 1 frames\. Image .*{BAD}\.JPEG is cut off.*--overwrite always"
    ):
        run(on_error="fail")
    assert finished.folder.read_result() == finished.result
    with pytest.raises(DecodeError, match="is cut off"):
        run(on_error="fail", overwrite=Overwrite.ALWAYS)
    assert not finished.folder.unread_file.exists()


def test_scoring_again_and_scoring_the_file_give_the_same(run, registry):
    finished = run()
    again, _ = rescore_run(finished.folder, registry)
    assert again["coverage"] == finished.result["coverage"]
    assert values(again) == values(finished.result)
    spec = finished.folder.read_spec()
    names = ("corloc", "detrate", "vid_ap")
    scored = score_file(
        Source(finished.folder.predictions, on_error="skip"),
        (spec.dataset, same_dataset(registry, spec)),
        registry,
        Wanted(tuple(map(Choice, names)), lenient=False),
    )
    assert scored["coverage"]["unread"] == [BAD]
    assert (scored["coverage"]["done"], scored["coverage"]["frames"]) == (11, 43)
    assert values(scored) == {key: finished.result["metrics"][key]["value"] for key in scored["metrics"]}


def test_pictures_show_the_other_frames(run, registry, tmp_path):
    finished = run()
    dataset = same_dataset(registry, finished.folder.read_spec())
    found = [each for each in read_predictions(finished.folder.predictions) if each.info.id == f"{A}/000004"]
    assert len(write_overlays(finished.folder.path, dataset, found, tmp_path / "out", video=False)) == 1


def test_the_command_line_names_the_frame(trees, tmp_path):
    settings = {"path": trees / "damaged", "split": "val", "cache": tmp_path, "frames_per_clip": 4}
    arguments = ["run", "--preset", HERE / "tiny.yaml", "--plugin", HERE / "tiny_plugin.py"]
    arguments += ["--dataset", "shapes", "--output", tmp_path / "runs", "--on-error", "skip"]
    arguments += [word for name, value in settings.items() for word in ("-o", f"dataset.{name}={value}")]
    done = CliRunner().invoke(main, list(map(str, arguments)), env={"OVVOL_PLUGINS": "metrics,data"})
    assert done.exit_code == 0, done.output
    file = frame(trees / "damaged", BAD)
    assert f"1 of 48 frames unreadable, not scored: Image {file} is cut off" in done.output
    assert "11 of 12 clips, 43 frames; 1 skipped: frames can't be read" in done.output
