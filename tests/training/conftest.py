"""A training that takes a second, from the plugin of `toy.py`."""

import json
import os
import subprocess
import sys
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
    """Losses of a training by step, or others of its numbers."""

    def read(folder, name="loss"):
        rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        return {row["step"]: row[name] for row in rows if name in row}

    return read


@pytest.fixture
def launched():
    """Starts a training in several processes, the way a user does on one machine; gives its output."""

    def launch(arguments, processes=2):
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
        # DeepSpeed calls ninja, which lies beside the interpreter.
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
        done = subprocess.run(
            [*launcher, f"--nproc-per-node={processes}", "-m", "ovvol_bench", *map(str, arguments)],
            capture_output=True,
            text=True,
            env=environment,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return launch
