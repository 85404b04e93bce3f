"""A stranger's package: installed with pip, found, shown, built and run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ovvol_bench import pipeline
from ovvol_bench.registry import Registry, load_registry

SOURCE = Path(__file__).parent / "example_plugin"
NAMES = {"encoder": "patch_colours", "grouper": "nearest_seeds", "labeler": "colour_words"}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Folder that pip installed the package into; built from a copy, so that nothing is left behind."""
    folder = tmp_path_factory.mktemp("example")
    source = shutil.copytree(SOURCE, folder / "source")
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *offline, "--target", folder / "site", source]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "site"


@pytest.fixture
def registry(site, monkeypatch) -> Registry:
    monkeypatch.syspath_prepend(site)
    return load_registry(only=["example"])


@pytest.fixture
def video() -> torch.Tensor:
    """Two clips of four frames: the left half red, the right half green and brighter with time."""
    video = torch.zeros(2, 4, 3, 32, 64)
    video[:, :, 0, :, :32] = 1
    video[:, :, 1, :, 32:] = torch.linspace(0.5, 1, 4)[:, None, None]
    return video


def ovvol_bench(site: Path, *arguments: str) -> str:
    """Output of the command line in a process that has the package on its path."""
    environment = os.environ | {"PYTHONPATH": str(site)}
    script = Path(sys.executable).parent / "ovvol-bench"
    result = subprocess.run([script, *arguments], env=environment, capture_output=True, text=True, check=True)
    return result.stdout


def draws(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_the_package_is_listed_with_its_origin(site):
    components = json.loads(ovvol_bench(site, "plugins", "--format", "json"))["components"]
    mine = {item["kind"]: item for item in components if item["version"] == "0.3.0"}
    assert {kind: item["name"] for kind, item in mine.items()} == NAMES
    assert {item["origin"] for item in mine.values()} == {"ovvol-example 0.3.0 (ovvol_example)"}


def test_its_settings_are_shown(site):
    shown = json.loads(ovvol_bench(site, "show", "grouper", "nearest_seeds", "--format", "json"))
    assert [(item["setting"], item["default"]) for item in shown["settings"]] == [
        ("num_slots", "6"),
        ("temperature", "0.05"),
    ]


def test_its_parts_keep_the_contract_at_odd_sizes(registry, video):
    encoder = registry.build("encoder", "patch_colours", {"patch_size": "8"})
    grouper = registry.build("grouper", "nearest_seeds", {"num_slots": "3"})
    labeler = registry.build("labeler", "colour_words", {"patch_size": "8"})
    odd = video[..., :30, :53]
    features = pipeline.encode(encoder, odd)
    assert features.grid.shape == (2, 4, 4, 7, 5)
    assert pipeline.group(grouper, features, draws(0, 1)).masks.shape == (2, 3, 4, 4, 7)
    assert pipeline.embed(labeler, odd).shape == (2, 4, 4, 7, 3)


def test_groups_depend_on_the_clips_draws_alone(registry, video):
    grouper = registry.build("grouper", "nearest_seeds", {})
    features = pipeline.encode(registry.build("encoder", "patch_colours", {}), video)
    both = pipeline.group(grouper, features, draws(0, 1)).masks
    swapped = pipeline.group(grouper, features, draws(1, 0)).masks
    torch.testing.assert_close(both, swapped.flip(0))


def test_colours_find_their_words(registry, video):
    labeler = registry.build("labeler", "colour_words", {})
    patches = pipeline.embed(labeler, video)
    words = labeler.embed_text(["a photo of a red ball", "a green ball", "a ball"])
    best = (patches @ words.T).argmax(-1)
    torch.testing.assert_close(words.norm(dim=1), torch.ones(3))
    assert (best[..., :2] == 0).all()
    assert (best[..., 2:] == 1).all()


def test_it_runs_end_to_end(site, tmp_path):
    parts = [word for kind, name in NAMES.items() for word in (f"--{kind}", name)]
    data = ["--dataset", "shapes", "-o", "dataset.videos=2", "--output", str(tmp_path)]
    (result,) = json.loads(ovvol_bench(site, "run", *parts, *data, "--format", "json"))
    assert result["status"] == "done"
    assert result["coverage"] == {"clips": 6, "done": 6, "frames": 48, "skipped": {}, "unread": []}
    assert {result[kind]["name"] for kind in NAMES} == set(NAMES.values())
    assert result["grouper"]["plugin"] == "ovvol-example 0.3.0 (ovvol_example)"
    assert 0 <= result["metrics"]["corloc_any@vid-reference"]["value"] <= 1
