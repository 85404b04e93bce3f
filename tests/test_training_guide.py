"""The method of docs/training.md: trained and run in small form, as a reader would."""

import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from ovvol_bench import Features
from ovvol_bench.cli import main
from ovvol_bench.registry import load_registry
from ovvol_bench.testing import check_grouper
from ovvol_bench.weights import read_state

GUIDE = (Path(__file__).parents[1] / "docs" / "training.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
FEWER = {
    "train": ["-o", "dataset.videos=4", "-o", "validation.videos=2", "-o", "recipe.evaluate_clips=2",
              "--steps", "3", "--cache", "cache", "--log-every", "1"],
    "run": ["--limit", "2", "--format", "json"],
}  # fmt: skip


@pytest.fixture(scope="module")
def method(tmp_path_factory):
    """A folder with the files of the guide, in which its commands have been given."""
    folder = tmp_path_factory.mktemp("guide")
    for language, text in BLOCKS:
        name = text.partition("\n")[0].removeprefix("# ")
        if language in ("python", "yaml") and re.fullmatch(r"\w+\.(py|yaml)", name):
            (folder / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        commands = next(text for language, text in BLOCKS if language == "bash" and "recurrent_slots" in text)
        for line in commands.splitlines():
            arguments = shlex.split(line)[1:]
            result = CliRunner().invoke(main, arguments + FEWER[arguments[0]])
            assert result.exit_code == 0, result.output
    return folder, json.loads(result.stdout)


def test_it_takes_less_than_250_lines(method):
    assert len((method[0] / "recurrent_slots.py").read_text().splitlines()) < 250


def test_it_is_trained_measured_and_run(method):
    folder, (row,) = method
    rows = [json.loads(line) for line in (folder / "mine/log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "contrast" in row] == [1, 2, 3]
    assert {"validation_loss", "corloc", "detrate"} <= rows[-1].keys()
    assert (folder / "mine/pictures/slots.png").is_file()
    assert row["status"] == "done" and row["grouper"]["name"] == "recurrent_slots"


def test_the_teacher_is_what_is_saved(method):
    folder, _ = method
    saved = read_state(folder / "mine/weights.safetensors")
    checkpoint = read_state(folder / "mine/checkpoints/step-00000003/module.safetensors")
    assert all(torch.equal(value, checkpoint[f"teacher.{name}"]) for name, value in saved.items())
    assert not torch.equal(checkpoint["teacher.start"], checkpoint["grouper.start"])


def test_it_keeps_the_contract(method):
    registry = load_registry([method[0] / "recurrent_slots.py"])
    settings = {"num_slots": 3, "slot_dim": 8, "feature_dim": 32}
    grouper = registry.build("grouper", "recurrent_slots", settings)
    check_grouper(grouper, dim=32).raise_if_broken()
    assert grouper.group(Features(torch.zeros(1, 2, 3, 4, 32)), [torch.Generator()]).masks.shape[1] == 3
