"""Every encoder with every grouper, small and with random weights, on clips of `shapes`."""

import json

import pytest
from click.testing import CliRunner

from ovvol_bench.cli import main

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
GROUPERS = (
    *(
        "slot_attention",
        "dinosaur",
        "kmeans",
        "spectral",
        "agglomerative",
        "tokencut",
        "maskcut",
        "lost",
        "found",
    ),
    *("grid", "voronoi", "whole", "oracle"),
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


@pytest.mark.slow
def test_possible_pairs_run_and_others_are_refused_with_the_reason(tmp_path):
    sizes = [f"-oencoder.{name}={value}" for name, value in SMALL.items()]
    parts = ["--encoder", ",".join(ENCODERS), "--grouper", ",".join(GROUPERS)]
    fixed = ["--preset", "tiny", "--limit", "2", "--output", str(tmp_path), "--format", "json"]
    outcome = CliRunner().invoke(main, ["run", *parts, *sizes, *fixed])
    results = json.loads(outcome.stdout)
    assert len(results) == len(ENCODERS) * len(GROUPERS)
    for result in results:
        encoder, grouper = result["encoder"]["name"], result["grouper"]["name"]
        if reason := refusal(encoder, grouper):
            assert reason in result["error"]
        else:
            assert (result["status"], result["coverage"]["done"]) == ("done", 2), result["error"]
        assert result["oracle"] == ("oracle" in (encoder, grouper))
