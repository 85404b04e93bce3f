import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from ovvol_bench.errors import DataError, PluginError
from ovvol_bench.predictions import ClipPrediction, pack
from ovvol_bench.registry import load_registry
from ovvol_bench.runs.clock import Clock, EncodeStage, LabelStage
from ovvol_bench.runs.selection import load_preset, select
from ovvol_bench.throughput import measure as measure_module
from ovvol_bench.throughput.agreement import agree, metrics_of, names_same, patches_same
from ovvol_bench.throughput.arithmetic import FlopClock, count, matrix_peak
from ovvol_bench.throughput.measure import Job, Laps, measure
from ovvol_bench.throughput.record import Spread
from ovvol_bench.throughput.request import Request, SizedJob, configurations, with_frames, with_random_weights
from ovvol_bench.types import ClipInfo, Localization

NAMES = ("tiny", "randomcut", "colours")


def silent(text):
    pass


def measured(request):
    return [measure(Job(request, each), silent) for each in configurations(request)]


@pytest.fixture
def row(request_for):
    (row,) = measured(request_for(repeats=4, warmup=2))
    return row


def test_the_stages_of_a_pass_are_within_the_whole(row):
    seconds = row["seconds"]
    stages = ("wait", "encode", "group", "label", "name", "store")
    for batch, whole in enumerate(seconds["whole"]["samples"]):
        assert 0 < sum(seconds[stage]["samples"][batch] for stage in stages) <= whole


def test_every_stage_has_a_sample_a_batch_and_its_quartiles(row):
    assert {"decode", "transform", "boxes", "metrics"} < row["seconds"].keys()
    for spread in row["seconds"].values():
        assert len(spread["samples"]) == 4
        assert min(spread["samples"]) <= spread["low"] <= spread["median"] <= spread["high"]


def test_rates_follow_from_the_whole(row):
    whole = row["seconds"]["whole"]
    assert row["clips_per_s"]["median"] == pytest.approx(1 / whole["median"])
    assert row["clips_per_s"]["low"] == pytest.approx(1 / whole["high"])
    assert row["frames_per_s"]["median"] == pytest.approx(4 / whole["median"])


def test_a_row_says_what_was_measured(row):
    assert (row["size"], row["frames"], row["batch_size"], row["resized"]) == ([32, 48], 4, 2, True)
    assert (row["fidelity"], row["encoder"]["name"]) == ("fast", "tiny")
    assert row["grouper"]["options"]["num_slots"] == 5
    assert 0 < row["memory"]["loaded"] <= row["memory"]["host"]
    assert row["memory"]["device"] is None


def test_a_dataset_with_too_few_clips_starts_again(request_for):
    (row,) = measured(request_for(settings={"dataset": {"clips": "3"}}, batch_sizes=(4,), repeats=2))
    assert len(row["seconds"]["whole"]["samples"]) == 2


def test_clips_of_several_sizes_need_one_to_be_resized_to(request_for):
    with pytest.raises(DataError, match="--sizes 224x400"):
        measured(request_for(sizes=(None,)))


def test_what_ends_a_pass_is_raised(request_for):
    with pytest.raises(PluginError, match="brokencut' failed: ZeroDivisionError: the grouper fell over"):
        measured(request_for({"grouper": ["brokencut"]}))


def test_the_pass_is_what_run_does(request_for, monkeypatch):
    plans = []
    original = measure_module.run_plan

    def spying(plan, *others):
        plans.append(plan)
        return original(plan, *others)

    monkeypatch.setattr(measure_module, "run_plan", spying)
    measured(request_for(repeats=2, warmup=1))
    (plan,) = plans
    assert len(plan.infos) == 6
    assert plan.dataset.clip(1).frames.shape == (4, 32, 48, 3)  # 40 x 32 as stored


def test_warm_up_is_left_out():
    clock = Clock(torch.device("cpu"))
    laps = Laps(clock, 2)
    for done in range(4):
        with clock.measure(EncodeStage(str(done))):
            pass
        laps("", 2 * done, 6)
    spreads = laps.spreads(1)
    assert {len(spread.samples) for spread in spreads.values()} == {2}
    assert laps.memory["host"] > 0


def test_cores_are_those_that_were_busy():
    laps = Laps(Clock(torch.device("cpu")), 1)
    laps("", 0, 2)
    time.sleep(0.05)
    laps("", 1, 2)
    busy = time.process_time() + 0.05
    while time.process_time() < busy:
        pass
    laps("", 2, 2)
    assert laps.cores(0) < laps.cores(1) <= 1.1


def test_quartiles_of_known_samples():
    found = Spread.of([4.0, 1.0, 2.0, 3.0, 5.0]).to_json()
    assert (found["low"], found["median"], found["high"]) == (2.0, 3.0, 4.0)
    assert found["samples"] == [4.0, 1.0, 2.0, 3.0, 5.0]


class TestCounting:
    def test_operations_and_parameters_of_tiny_parts(self, request_for):
        found = count(SizedJob(request_for(), (32, 48)), silent)
        patches = 4 * 4 * 6
        flops, parameters = found[NAMES]
        assert flops == {
            "encode": 2 * patches * 3 * 5,  # a linear layer of 3 x 5
            "group": 2 * patches * 6 * 5,  # 5 queries of 6 channels
            "label": 0,
        }
        assert parameters == {"encoder": 3 * 5 + 5, "grouper": 0, "labeler": 0}

    def test_a_failing_combination_is_missing_and_stops_no_other(self, request_for):
        found = count(SizedJob(request_for({"grouper": ["brokencut", "randomcut"]}), (32, 48)), silent)
        assert list(found) == [NAMES]

    def test_a_slot_labeler_is_counted_where_it_works(self, request_for):
        found = count(SizedJob(request_for({"labeler": ["slots", "guided"]}), (32, 48)), silent)
        flops, _ = found["tiny", "randomcut", "slots"]
        assert flops["label"] > 0

    def test_operations_are_added_up_by_stage(self):
        clock = FlopClock(torch.device("cpu"))
        for _ in range(2):
            with clock.measure(EncodeStage("a")):
                torch.ones(2, 3) @ torch.ones(3, 4)
        found = clock.of({EncodeStage("a"), EncodeStage("b")})
        assert found == {"encode": 2 * 2 * 2 * 3 * 4, "group": 0, "label": 0}

    def test_an_attention_layer_hides_nothing(self):
        clock, layer = (
            FlopClock(torch.device("cpu")),
            torch.nn.MultiheadAttention(16, 2, batch_first=True).eval(),
        )
        tokens = torch.ones(1, 10, 16)
        with torch.inference_mode(), clock.measure(LabelStage("a")):
            layer(tokens, tokens, tokens, need_weights=False)
        projections, products = 4 * 2 * 10 * 16 * 16, 2 * 2 * 10 * 10 * 16
        assert clock.flops[LabelStage("a")] == projections + products

    def test_the_matrix_peak_is_a_rate(self):
        assert matrix_peak(torch.device("cpu"), torch.float32) > 1e8


class TestAgreement:
    def test_float32_on_both_sides_is_the_same(self, request_for):
        asked = request_for()
        asked = replace(asked, selection=replace(asked.selection, precision="float32"))
        (entry,) = agree(SizedJob(asked, (32, 48)), silent)
        assert (entry["encoder"], entry["grouper"], entry["labeler"]) == NAMES
        assert (entry["patches_same"], entry["names_same"], entry["clips"]) == (1.0, 1.0, 10)
        assert entry["patch_cosine"]["least"] == pytest.approx(1)
        ap = entry["metrics"]["ap50@vid-reference"]
        assert ap["reference"] == ap["fast"] > 0
        assert ap["difference"] == 0

    def test_limits_its_clips(self, request_for):
        (entry,) = agree(SizedJob(request_for(limit=3), (32, 48)), silent)
        assert entry["clips"] == 3

    def test_slot_labelers_have_no_patch_embeddings(self, request_for):
        asked = request_for({"labeler": ["slots", "guided"]}, limit=2)
        cosines = {
            entry["labeler"]: entry["patch_cosine"] for entry in agree(SizedJob(asked, (32, 48)), silent)
        }
        assert cosines["slots"] is None
        assert cosines["guided"]["mean"] == pytest.approx(1, abs=1e-3)

    def test_a_failing_combination_says_why(self, request_for):
        asked = request_for({"grouper": ["brokencut", "randomcut"]}, limit=2)
        broken, sound = agree(SizedJob(asked, (32, 48)), silent)
        assert "fell over" in broken["error"]
        assert "error" not in sound

    def test_differences_of_slots_and_names_are_counted(self, predictions_of):
        one = predictions_of([[0, 0, 1, 1]], segment_of_slot=[0, 1], classes=[1, 2])
        moved = predictions_of([[0, 1, 1, 1]], segment_of_slot=[0, 1], classes=[1, 2])
        renamed = predictions_of([[0, 0, 1, 1]], segment_of_slot=[0, 1], classes=[1, 1])
        dropped = predictions_of([[0, 0, 1, 1]], segment_of_slot=[0, -1], classes=[1])
        assert patches_same(one, moved) == 0.75
        assert names_same(one, moved) == 1
        assert (patches_same(one, renamed), names_same(one, renamed)) == (1, 0.5)
        assert names_same(one, dropped) == 0.5
        assert names_same(dropped, dropped) == 1

    def test_slots_that_win_nothing_are_not_counted(self, predictions_of):
        one = predictions_of([[0, 0, 1, 1]], segment_of_slot=[0, 1, -1], classes=[1, 2])
        other = predictions_of([[0, 0, 1, 1]], segment_of_slot=[0, 1, 1], classes=[1, 2])
        assert names_same(one, other) == 1

    def test_metrics_side_by_side(self):
        assert metrics_of(
            {"a@b": {"value": 0.5}, "c@b": {"value": None}}, {"a@b": {"value": 0.25}, "c@b": {"value": 1.0}}
        ) == {
            "a@b": {"reference": 0.5, "fast": 0.25, "difference": -0.25},
            "c@b": {"reference": None, "fast": 1.0, "difference": None},
        }


@pytest.fixture
def predictions_of():
    """Predictions of one clip of frames with a row of patches, from the slot of every patch."""

    def make(slots, segment_of_slot, classes):
        slot_map = np.array(slots, np.int16)[:, None, :]
        frames, count = len(slots), len(classes)
        found = Localization(
            np.zeros((frames, count, 4), np.float32),
            np.ones((frames, count), bool),
            np.eye(4, dtype=np.float32)[classes],
            slot_map,
            np.array(segment_of_slot, np.int16),
            (8, 32),
        )
        return pack([ClipPrediction(ClipInfo("v/0", "v", tuple(range(frames)), (8, 32)), (8, 32), found)])

    return make


@pytest.mark.gpu
class TestOnAGpu:
    """What ``docs/throughput.md`` measures there, small."""

    def test_memory_and_name_are_those_of_the_device(self, request_for):
        (row,) = measured(request_for(device="cuda"))
        assert row["memory"]["device"] > 0
        assert row["gpu"]

    @pytest.fixture
    def paper(self):
        registry = load_registry()
        chosen = select(load_preset("paper"), registry, {}, {}, fidelity="fast", limit=2)
        drawn = with_random_weights(with_frames(chosen, registry), registry)
        fields = {"sizes": ((224, 224),), "batch_sizes": (1, 4), "repeats": 2, "device": "cuda"}
        return Request(drawn, fidelities=("reference", "fast"), **fields)

    def test_fast_is_faster_at_the_papers_size_and_agrees(self, paper):
        reference, *fast = measured(paper)
        assert all(each["clips_per_s"]["median"] > reference["clips_per_s"]["median"] for each in fast)
        (entry,) = agree(SizedJob(paper, (224, 224)), silent)
        assert entry["patches_same"] > 0.95
        assert entry["patch_cosine"]["mean"] > 0.999
