"""A run on a device that isn't the CPU: same boxes and names, and few waits for it."""

from collections import Counter

import numpy as np
import pytest
from click.testing import CliRunner
from device.pretended import DEVICE, pretended_device

from ovvol_bench.cli import main
from ovvol_bench.runs import plan
from ovvol_bench.runs.predictions import read_predictions

DEFAULT = ("--encoder", "videomae", "--grouper", "slot_attention", "--labeler", "pacl")
WAITS = {
    "ovvol_bench/pipeline.py, _check": 3,  # features, masks and patch embeddings are numbers
    "ovvol_bench/pipeline.py, group": 2,  # masks are not negative, and sum to 1
    "ovvol_bench/naming/localize.py, winning_slots": 1,  # masks are finite
    "ovvol_bench/runs/matrix.py, _embedded": 2,  # slots and their sums are brought to the host
}
"""Waits a batch by function of the default combination; a change that adds one has to say why here."""


def run(folder, clips, precision="float32"):
    arguments = ("--limit", clips, "--batch-size", 2, "--precision", precision, *DEFAULT)
    result = CliRunner().invoke(main, ["run", *map(str, arguments), "--output", str(folder)])
    assert result.exit_code == 0, result.output
    return read_predictions(next(folder.rglob("*.safetensors")).parent)


@pytest.fixture
def on_device(monkeypatch):
    monkeypatch.setattr(plan, "pick_device", lambda asked: DEVICE)


def test_boxes_and_names_are_those_of_the_cpu(tmp_path, monkeypatch):
    expected = run(tmp_path / "cpu", 2)
    monkeypatch.setattr(plan, "pick_device", lambda asked: DEVICE)
    with pretended_device():
        found = run(tmp_path / "device", 2)
    assert found.clip_ids == expected.clip_ids
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-5)


def test_the_host_waits_for_the_device_a_few_times_a_batch(tmp_path, on_device):
    counts = []
    for clips in (2, 6):
        with pretended_device() as waits:
            run(tmp_path / str(clips), clips, "bfloat16")
        counts.append(Counter(waits))
    assert {name: count / 2 for name, count in (counts[1] - counts[0]).items()} == WAITS
