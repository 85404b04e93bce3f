"""What results are made of: counts, timing, machine, and batches of equal size."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from ovvol_bench.errors import DataError, error_text
from ovvol_bench.results.machine import code_facts, machine_facts
from ovvol_bench.runs import clock as clock_module
from ovvol_bench.runs.clock import Clock, EncodeStage, LabelStage, Timing
from ovvol_bench.runs.spec import PartSpec, RunSpec
from ovvol_bench.runs.store import Coverage, Outcome, Truth, build_result
from ovvol_bench.types import ClipInfo, FrameTruth

SPEC = RunSpec(
    *(PartSpec(name) for name in ("e", "g", "l", "d")), vocabulary="", naming={"temperature": 1.0}, metrics=()
)


def truth_of(boxes):
    no = np.zeros(boxes, bool)
    ids = np.ones(boxes, np.int64)
    return FrameTruth(np.zeros((boxes, 4), np.float32), ids, ids, no, no, np.ones(boxes, np.float32))


def test_context_frames_are_not_counted():
    whole = ClipInfo("a", "v", (0, 1, 2), (8, 8), (truth_of(1), truth_of(2), truth_of(3)))
    moved_back = replace(whole, id="b", context=2)
    unknown = ClipInfo("c", "v", (0, 1, 2), (8, 8))
    assert Truth.of([whole, moved_back, unknown], "words") == Truth(3, 3 + 1 + 3, 6 + 3, "words")


def test_results_are_plain_json_with_null_for_nan():
    metrics = {"ap50@vid-devkit": {"value": float("nan"), "count": 0, "notes": {"tie_span": (0.0, 1.0)}}}
    outcome = Outcome(Coverage(1, 8, {"x": 2}), metrics, Timing().to_json(), gpu="H100")
    result = build_result(SPEC, Truth(2, 16, 5, "words"), outcome)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["metrics"]["ap50@vid-devkit"]["value"] is None
    assert result["coverage"] == {"clips": 2, "done": 1, "frames": 8, "unread": [], "skipped": {"x": 2}}
    assert (result["status"], result["error"], result["timing"]["clips_per_s"]) == ("done", None, None)
    assert result["machine"]["gpu"] == "H100"


@pytest.mark.parametrize(
    ("error", "text"), [(DataError("list is empty"), "list is empty"), (KeyError("x"), "KeyError: 'x'")]
)
def test_failures_say_why(error, text):
    result = build_result(SPEC, Truth(2, 16, 5, "words"), Outcome(error=error_text(error)))
    assert (result["status"], result["error"]) == ("failed", text)


def test_facts_name_machine_and_code():
    assert {"cpu", "cores", "gpu", "torch", "python"} == machine_facts().keys()
    assert machine_facts()["cores"] >= 1
    assert code_facts()["version"]
    assert (code_facts()["commit"] is None) == (code_facts()["dirty"] is None)


def test_a_combination_pays_for_its_own_stages_only(monkeypatch):
    moments = iter([0.0, 10.0, 11.0, 20.0, 24.0, 30.0])
    monkeypatch.setattr(clock_module.time, "perf_counter", lambda: next(moments))
    clock = Clock(torch.device("cpu"))
    with clock.measure(EncodeStage("mine")):
        pass
    with clock.measure(EncodeStage("other")):
        pass
    mine = clock.timing([EncodeStage("mine"), LabelStage("both")], clips=13)
    assert (mine.seconds["encode"], mine.wall) == (1.0, 26.0)
    assert mine.to_json()["clips_per_s"] == 0.5
