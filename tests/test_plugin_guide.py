"""The code of docs/plugins.md, run as a reader would run it."""

import inspect
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

import ovvol_bench
from ovvol_bench import DataError, Features, FrameTruth, pipeline
from ovvol_bench.cli import main
from ovvol_bench.registry import hookspecs, load_registry
from ovvol_bench.testing import check_dataset

GUIDE = (Path(__file__).parents[1] / "docs" / "plugins.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def files(tmp_path, monkeypatch) -> dict[str, Path]:
    """Every block that begins with a file's name, written to that file."""
    written = {}
    for language, text in BLOCKS:
        name = text.partition("\n")[0].removeprefix("# ")
        if language in ("python", "toml"):
            written[name] = tmp_path / name
            written[name].parent.mkdir(parents=True, exist_ok=True)
            written[name].write_text(text)
    monkeypatch.chdir(tmp_path)
    return written


@pytest.fixture
def package(files, tmp_path, monkeypatch) -> None:
    """The package of the guide, its second module as the text says, installed with pip."""
    one_file = files["clusters.py"].read_text()
    module = files["my-groupers/src/my_groupers/__init__.py"].with_name("kmeans.py")
    module.write_text(one_file.partition("@hookimpl")[0])
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *offline, "--target", "site", "./my-groupers"]
    subprocess.run(command, check=True, capture_output=True)
    monkeypatch.syspath_prepend(tmp_path / "site")


def test_the_test_of_the_guide_passes(files):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", files["test_clusters.py"].name]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def lines_of(language: str) -> list[str]:
    return [line for kind, text in BLOCKS if kind == language for line in text.splitlines()]


def features(batch: int) -> Features:
    return Features(torch.randn(batch, 2, 4, 6, 8, generator=torch.Generator().manual_seed(0)))


def draws(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_the_grouper_takes_at_most_25_lines(files):
    assert len(files["clusters.py"].read_text().splitlines()) <= 25


def test_the_grouper_keeps_the_contract(files):
    registry = load_registry([files["clusters.py"]])
    grouper = registry.build("grouper", "clusters", {"num_slots": "4"})
    slots = pipeline.group(grouper, features(2), draws(0, 1))
    assert slots.masks.shape == (2, 4, 2, 4, 6)
    alone = pipeline.group(grouper, Features(features(2).grid[1:]), draws(1))
    torch.testing.assert_close(slots.masks[1:], alone.masks)


@pytest.mark.usefixtures("files", "package")
@pytest.mark.parametrize("line", lines_of("bash"))
def test_the_command_lines_work(line):
    program, *arguments = shlex.split(line)
    assert program == "ovvol-bench"
    if arguments[0] == "run":  # the whole test split is more than a test needs
        arguments += ["--limit", "2"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert result.output


@pytest.mark.usefixtures("package")
def test_the_package_offers_the_same_grouper():
    grouper = load_registry().build("grouper", "my_kmeans", {"num_slots": "3", "iterations": "2"})
    assert pipeline.group(grouper, features(1), draws(0)).masks.shape == (1, 3, 2, 4, 6)


def test_the_event_hooks_are_called(files, capsys):
    hook = load_registry([files["count_segments.py"]]).hook
    for run_id in ("0123", "4567"):
        hook.ovvol_run_started(spec={"id": run_id})
    hook.ovvol_clip_localized(run_id="0123", localization=[1, 2, 3], clip=None)
    hook.ovvol_clip_localized(run_id="4567", localization=[1], clip=None)
    hook.ovvol_clip_localized(run_id="0123", localization=[], clip=None)
    for run_id in ("0123", "4567"):
        hook.ovvol_run_finished(result={"id": run_id})
    assert capsys.readouterr().out == "0123: 3 segments in 2 clips\n4567: 1 segments in 1 clips\n"


def test_the_hooks_of_training_are_called(files, capsys):
    hook = load_registry([files["follow_training.py"]]).hook
    hook.ovvol_training_started(spec={"id": "0123", "recipe": "mine"}, folder="runs/0123", step=0, steps=9)
    hook.ovvol_training_measured(training_id="0123", step=5, numbers={"loss": 2.0}, pictures={})
    hook.ovvol_training_measured(training_id="0123", step=9, numbers={"validation_loss": 1.5}, pictures={})
    hook.ovvol_training_finished(result={"id": "0123", "status": "done", "step": 9, "weights": "w"})
    assert capsys.readouterr().out.splitlines() == [
        "mine 0123: from step 0 to 9 in runs/0123",
        "0123: 1.500 after 9 steps, 0 pictures",
        "0123: done after 9 steps, w",
    ]


def test_the_dataset_of_the_guide_has_videos_and_boxes(files, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    writer = cv2.VideoWriter(str(folder / "a.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (64, 48))
    for level in range(10):
        writer.write(np.full((48, 64, 3), 20 * level, np.uint8))
    writer.release()
    boxes = {"a.mp4": {"0": [["dog", 1, 2, 30, 40]], "9": [["cat", 5, 6, 7, 8], ["dog", 0, 0, 63, 47]]}}
    (folder / "boxes.json").write_text(json.dumps(boxes))
    settings = {"path": str(folder), "short_side": "32"}
    dataset = load_registry([files["my_boxes.py"]]).build("dataset", "my-boxes", settings)
    check_dataset(dataset).raise_if_broken()
    assert dataset.vocabulary.names[1:] == ("cat", "dog")
    first, last = (dataset.info(index).truth for index in range(2))
    assert (first[0].boxes.tolist(), first[0].class_ids.tolist(), len(first[1])) == ([[1, 2, 30, 40]], [2], 0)
    assert (last[-1].class_ids.tolist(), dataset.clip(1).frames.shape) == ([1, 2], (8, 32, 48, 3))
    before = dataset.fingerprint()
    boxes["a.mp4"]["5"] = [["cat", 1, 1, 2, 2]]
    (folder / "boxes.json").write_text(json.dumps(boxes))
    again = load_registry([files["my_boxes.py"]]).build("dataset", "my-boxes", settings)
    assert again.fingerprint() != before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1, 2, 3, 4]], [1, 2]), "1 boxes with class_ids of shape"),
        (([[3, 2, 1, 4]], [1]), "expected x1 <= x2"),
        (([[1, 2, 3, float("nan")]], [1]), "expected x1 <= x2"),
        (([[1, 2, 3, 4]], [0]), "a class id from 1"),
    ],
)
def test_truth_that_does_not_fit_together_is_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        FrameTruth.of_boxes(*arguments)


def test_every_hook_is_explained():
    hooks = [name for name in dir(hookspecs) if name.startswith("ovvol_")]
    assert len(hooks) == 12
    assert [name for name in hooks if name not in GUIDE] == []


@pytest.mark.parametrize(
    "kind", ["Encoder", "Grouper", "Labeler", "GuidedLabeler", "SlotLabeler", "Dataset", "Metric"]
)
def test_the_table_gives_the_real_signatures(kind):
    base = getattr(ovvol_bench, kind)
    for name in base.__abstractmethods__:
        signature = str(inspect.signature(getattr(base, name))).replace("'", "")
        assert name + signature.replace("self, ", "").replace("self", "") in GUIDE


@pytest.mark.parametrize("kind", ["Encoder", "Grouper", "Labeler", "Dataset", "Metric"])
def test_the_table_names_every_attribute(kind):
    base = getattr(ovvol_bench, kind)
    own = [cls for cls in base.__mro__ if cls.__module__.startswith("ovvol_bench")]
    names = {name for cls in own for name in inspect.get_annotations(cls) if not name.startswith("_")}
    row = next(line for line in GUIDE.splitlines() if line.startswith(f"| {kind.lower()} |"))
    assert {name for name in names if f"`{name}`" not in row} == set()
