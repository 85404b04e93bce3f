"""A training that takes a second, from the plugin of `toy.py`."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

TOY = Path(__file__).with_name("toy.py")
PRESET = """
encoder: {name: toy}
grouper: {name: slot_attention}
labeler: {name: pacl}
dataset: {name: shapes, options: {split: val, videos: 1}}
training:
  toy:
    recipe: {epochs: 5}
    dataset: {name: shapes, options: {split: train, videos: 1}}
"""


@pytest.fixture
def toy_arguments(tmp_path):
    """Arguments of ``ovvol-bench`` that train the toy; the caller adds ``--output``."""
    preset = tmp_path / "toy.yaml"
    preset.write_text(PRESET)
    fixed = (
        "--preset",
        preset,
        "--plugin",
        TOY,
        "--device",
        "cpu",
        "--precision",
        "float32",
        "--log-every",
        1,
    )
    return ["train", "encoder", "toy", *map(str, fixed)]


@pytest.fixture
def train_toy(toy_arguments):
    """Trains in this process; gives the exit code and what was printed."""

    def train(folder, *more):
        from ovvol_bench.cli import main

        arguments = [*toy_arguments, "--output", str(folder), *map(str, more)]
        return CliRunner().invoke(main, arguments)

    return train


@pytest.fixture
def read_losses():
    """Losses of a training by step."""

    def read(folder):
        rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        return {row["step"]: row["loss"] for row in rows if "loss" in row}

    return read
