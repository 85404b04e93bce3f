"""Every recipe from the command line at preset `tiny`, each on what the one before made, then a run."""

import json

import pytest
from click.testing import CliRunner

from ovvol_bench.cli import main

CHAIN = {
    "videomae": ["encoder", "videomae"],
    "slot_attention": ["grouper", "slot_attention", "-o", "encoder.weights={}/videomae/weights.safetensors"],
    "dinosaur": ["grouper", "dinosaur", "-o", "encoder.weights={}/videomae/weights.safetensors"],
    "clip": ["labeler", "pacl", "--recipe", "clip"],
    "pacl": ["labeler", "pacl", "-o", "labeler.weights={}/clip/weights.safetensors"],
}


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Folder with a finished training of every recipe."""
    folder = tmp_path_factory.mktemp("tiny")
    for recipe in CHAIN:
        result = CliRunner().invoke(main, arguments(recipe, folder, folder / recipe))
        assert result.exit_code == 0, result.output
    return folder


def arguments(recipe, folder, output, *more):
    chosen = [text.format(folder) for text in CHAIN[recipe]]
    fixed = ["--preset", "tiny", "--cache", folder / "cache", "--log-every", 1, "--device", "cpu"]
    return list(map(str, ["train", *chosen, *fixed, "--precision", "float32", "--output", output, *more]))


def losses(folder, name="loss"):
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [row[name] for row in rows if name in row]


@pytest.mark.parametrize("recipe", CHAIN)
def test_the_loss_falls(chain, recipe):
    found = losses(chain / recipe)
    assert sum(found[-5:]) < sum(found[:5])
    assert losses(chain / recipe, "validation_loss"), "and is measured on other data"


@pytest.mark.parametrize("recipe", ["videomae", "slot_attention", "dinosaur", "pacl"])
def test_pictures_are_kept(chain, recipe):
    assert list((chain / recipe / "pictures").glob("*.png"))


@pytest.mark.parametrize("grouper", ["slot_attention", "dinosaur"])
def test_what_was_trained_is_run(chain, tmp_path, grouper):
    weights = {"encoder": "videomae", "grouper": grouper, "labeler": "pacl"}
    options = [f"-o{kind}.weights={chain}/{recipe}/weights.safetensors" for kind, recipe in weights.items()]
    command = [
        "run",
        "--preset",
        "tiny",
        "--grouper",
        grouper,
        "--output",
        str(tmp_path),
        "--format",
        "json",
        *options,
    ]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)
    assert found["status"] == "done" and found["coverage"]["done"] == 12


def test_cached_features_are_found_again(chain, tmp_path):
    command = arguments("slot_attention", chain, tmp_path, "--steps", "1")
    result = CliRunner().invoke(main, command)
    assert "features: 32 clips, 32 found, 0 computed" in result.output


@pytest.mark.slow
@pytest.mark.parametrize("deepspeed", [[], ["--deepspeed", "zero2"]], ids=["torchrun", "zero2"])
@pytest.mark.parametrize("recipe", CHAIN)
def test_two_processes_take_the_steps_of_one(chain, tmp_path, launched, recipe, deepspeed):
    gather = ["-o", "recipe.gather_negatives=true"] if recipe in ("clip", "pacl") else []
    whole, spread = tmp_path / "whole", tmp_path / "spread"
    assert CliRunner().invoke(main, arguments(recipe, chain, whole, "--steps", "20", *gather)).exit_code == 0
    launched(arguments(recipe, chain, spread, "--steps", "20", *gather, *deepspeed))
    assert losses(spread) == pytest.approx(losses(whole), abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", CHAIN)
def test_two_processes_go_on_from_their_checkpoint(chain, tmp_path, launched, recipe):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    launched(arguments(recipe, chain, whole, "--steps", "8"))
    for steps in ("5", "8"):
        launched(arguments(recipe, chain, parts, "--steps", steps))
    assert losses(parts) == pytest.approx(losses(whole), abs=1e-5)
