"""Every encoder with every grouper, small and with random weights, and every labeler, on clips of shapes."""

import json

import pytest
from click.testing import CliRunner

from ovvol_bench.cli import main
from ovvol_bench.registry import load_registry

ENCODERS = (
    "videomae",
    "random",
    "pixels",
    "oracle",
    "dino",
    "dinov2",
    "mae",
    "clip",
    "timm:vit_tiny_patch16_224",
)
SMALL = {"dim": 48, "depth": 1, "heads": 4, "pretrained": "false", "weights": "none"}
KEYS = {"oracle", "dino", "dinov2", "mae", "clip", "timm:vit_tiny_patch16_224"}
ATTENTION = KEYS - {"oracle"}


def refusal(encoder, grouper):
    """Part of the reason why a pair can't run; empty if it can."""
    if grouper == "found" and encoder not in ATTENTION:
        return "grouper 'found' needs attention"
    if grouper in ("tokencut", "maskcut", "lost") and encoder not in KEYS:
        return f"grouper '{grouper}' needs keys"
    if grouper in ("slot_attention", "dinosaur") and encoder == "pixels":
        return f"grouper '{grouper}' is set to features of 48 channels, encoder 'pixels' gives 5"
    return ""


def run(tmp_path, *arguments):
    """The results of a call of `run` on two clips."""
    fixed = ["--limit", "2", "--output", str(tmp_path), "--format", "json"]
    return json.loads(CliRunner().invoke(main, ["run", *arguments, *fixed]).stdout)


def names(results, kind):
    return sorted({result[kind]["name"] for result in results})


@pytest.mark.slow
def test_possible_pairs_run_and_others_are_refused_with_the_reason(tmp_path):
    sizes = [f"-oencoder.{name}={value}" for name, value in SMALL.items()]
    parts = ["--encoder", ",".join(ENCODERS), "--grouper", "all"]
    results = run(tmp_path, "--preset", "tiny", *parts, *sizes)
    registry = load_registry()
    assert [name.partition(":")[0] for name in names(results, "encoder")] == registry.names("encoder")
    assert names(results, "grouper") == registry.names("grouper")
    assert len(results) == len(registry.names("encoder")) * len(registry.names("grouper"))
    for result in results:
        encoder, grouper = result["encoder"]["name"], result["grouper"]["name"]
        if reason := refusal(encoder, grouper):
            assert reason in result["error"]
        else:
            assert (result["status"], result["coverage"]["done"]) == ("done", 2), result["error"]
        assert result["oracle"] == ("oracle" in (encoder, grouper))


@pytest.mark.slow
def test_every_labeler_runs_with_learned_and_plain_parts(tmp_path):
    results = run(tmp_path, "--encoder", "videomae,pixels", "--grouper", "kmeans,voronoi", "--labeler", "all")
    labelers = load_registry().names("labeler")
    assert names(results, "labeler") == labelers
    assert len(results) == 4 * len(labelers) >= 40
    for result in results:
        assert (result["status"], result["coverage"]["done"]) == ("done", 2), result["error"]
        assert result["oracle"] == (result["labeler"]["name"] == "oracle")
