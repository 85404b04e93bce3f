"""`ovvol-bench overlay` on a run folder."""

from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from ovvol_bench.cli import main
from ovvol_bench.data.shapes.dataset import Shapes
from ovvol_bench.runs.predictions import ClipPrediction, PredictionWriter
from ovvol_bench.runs.spec import PartSpec, RunSpec
from ovvol_bench.runs.store import Overwrite, RunFolder
from ovvol_bench.types import Localization

PLUGIN = """
from ovvol_bench import Entry, hookimpl

def build(*, videos: int):
    from ovvol_bench.data.shapes.dataset import Shapes
    return Shapes("test", videos)

@hookimpl
def ovvol_datasets():
    yield Entry("world", build, "rendered")
"""


@pytest.fixture
def run(tmp_path):
    """A finished run on a dataset that a plugin file brings."""
    (tmp_path / "world.py").write_text(PLUGIN)
    parts = {name: PartSpec(name) for name in ("encoder", "grouper", "labeler")}
    spec = RunSpec(**parts, dataset=PartSpec("world", {"videos": 1}), vocabulary="v", naming={}, metrics=())
    folder = RunFolder.of(tmp_path / "runs", spec)
    with folder.claimed():
        folder.start(spec, Overwrite.MISSING)
    dataset = Shapes("test", 1)
    found = Localization(
        boxes=np.zeros((8, 0, 4), np.float32),
        present=np.zeros((8, 0), bool),
        probabilities=np.zeros((0, len(dataset.vocabulary.classes) + 1), np.float32),
        slot_map=np.zeros((8, 6, 8), np.int16),
        segment_of_slot=np.array([-1], np.int16),
    )
    infos = [replace(dataset.info(index), truth=None) for index in range(len(dataset))]
    PredictionWriter(folder.predictions).write([ClipPrediction(info, (96, 128), found) for info in infos])
    return folder


def invoke(tmp_path, *arguments):
    plugin = ["--plugin", str(tmp_path / "world.py")]
    return CliRunner().invoke(main, [*plugin, "overlay", *(str(argument) for argument in arguments)])


def test_the_dataset_is_built_again_and_the_files_are_named(run, tmp_path):
    result = invoke(tmp_path, run.path, "--clips", 1)
    assert result.exit_code == 0
    written = [
        str(run.overlays / name) for name in ("shapes_test_00000000_000000.png", "shapes_test_00000000.mp4")
    ]
    assert result.stdout.splitlines() == written


def test_another_folder_without_videos(run, tmp_path):
    assert invoke(tmp_path, run.path, "--no-video", "--output", tmp_path / "out").exit_code == 0
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".png"}


def test_a_folder_without_a_run_is_refused(tmp_path):
    (tmp_path / "world.py").write_text(PLUGIN)
    result = invoke(tmp_path, tmp_path)
    assert result.exit_code == 2
    assert "is not a run folder: it has no run.json" in result.stderr
