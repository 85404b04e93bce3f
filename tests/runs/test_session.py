"""Whole runs with tiny components: one pass, failures that stay apart, resuming, identity."""

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ovvol_bench import Features
from ovvol_bench.errors import ContractError, DecodeError, PluginError, SettingError
from ovvol_bench.registry import load_registry
from ovvol_bench.runs import combination, matrix
from ovvol_bench.runs.predictions import read_predictions
from ovvol_bench.runs.selection import load_preset, select
from ovvol_bench.runs.session import Conduct, run_all
from ovvol_bench.runs.store import Overwrite

HERE = Path(__file__).parent
PLUGIN = HERE / "tiny_plugin.py"
CORLOC = "corloc_any@vid-reference"


@pytest.fixture(scope="module")
def registry():
    return load_registry((PLUGIN,), only=["metrics"])


@pytest.fixture
def run(registry, tmp_path):
    """Run the tiny preset: ``names`` by kind, ``settings`` as after ``-o``, fields of the selection."""

    def call(output="runs", names=None, settings=None, conduct=None, **fields):
        preset = load_preset(str(HERE / "tiny.yaml"))
        how = Conduct(tmp_path / output, torch.device("cpu"), **(conduct or {}))
        return run_all(select(preset, registry, names or {}, settings or {}, **fields), registry, how)

    return call


@pytest.fixture
def encoded(monkeypatch):
    """(encoder, clips) of every batch that an encoder was given."""
    batches = []
    original = matrix.encode

    def counting(encoder, video, name, truth):
        batches.append((name, len(video)))
        return original(encoder, video, name, truth)

    monkeypatch.setattr(matrix, "encode", counting)
    return batches


@pytest.fixture
def passes(registry, monkeypatch):
    """Clips that went through each network, by kind and name."""
    counts = Counter()
    original = registry.build

    def build(kind, name, options):
        component = original(kind, name, options)
        method = {"encoder": "encode", "grouper": "group", "labeler": "embed_patches"}.get(kind)
        if method:
            own = getattr(component, method)

            def counting(first, *others, **named):
                clips = first.grid if isinstance(first, Features) else first
                counts[f"{kind} {name}"] += len(clips)
                return own(first, *others, **named)

            monkeypatch.setattr(component, method, counting)
        return component

    monkeypatch.setattr(registry, "build", build)
    return counts


def done_result(finished):
    (one,) = finished
    assert one.error is None
    return one.result


def values(result):
    return {key: metric["value"] for key, metric in result["metrics"].items()}


def assert_same_predictions(first, second):
    one, other = (read_predictions(each.folder.predictions) for each in (first, second))
    assert one.clip_ids == other.clip_ids
    np.testing.assert_array_equal(one.slot_map, other.slot_map)
    np.testing.assert_array_equal(one.boxes, other.boxes)
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-6)


def test_a_result_says_what_ran(run):
    (finished,) = run()
    result = done_result([finished])
    assert result["id"] == finished.folder.path.name
    assert json.loads(finished.folder.result_file.read_text()) == result
    assert result["coverage"] == {
        "clips": 10,
        "done": 10,
        "frames": 40,
        "unread": [],
        "skipped": {"frames without pictures": 1},
    }
    assert result["dataset"]["truth_boxes"] == 40
    assert (result["grouper"]["name"], result["grouper"]["options"]["num_slots"]) == ("randomcut", 5)
    assert result["encoder"]["weights_sha256"]
    assert result["labeler"]["weights_sha256"] is None
    assert (result["seed"], result["precision"], result["fidelity"]) == (0, "float32", "reference")
    assert result["metrics"][CORLOC]["count"] == 40
    assert result["metrics"][CORLOC]["higher_is_better"] is True
    assert 0.3 < result["metrics"][CORLOC]["value"] < 0.9
    assert set(result["timing"]["seconds"]) == {"decode", "encode", "group", "label", "name", "store"}
    assert result["timing"]["clips_per_s"] > 0


def test_grouper_settings_follow_the_encoder(run):
    result = done_result(run(names={"encoder": ["deep"]}))
    assert result["encoder"]["options"]["dim"] == result["grouper"]["options"]["feature_dim"] == 5


def test_a_matrix_takes_one_pass(run, encoded):
    finished = run(names={"encoder": ["tiny", "deep"]}, seeds=(0, 1), conduct={"batch_size": 5})
    assert len(finished) == 4
    assert encoded.count(("encoder 'tiny'", 5)) == encoded.count(("encoder 'deep'", 5)) == 2
    assert len(encoded) == 4


def test_a_matrix_costs_a_pass_a_network_and_not_one_a_combination(run, passes):
    names = {
        "encoder": ["tiny", "deep", "told"],
        "grouper": ["randomcut", "told"],
        "labeler": ["colours", "told"],
    }
    finished = run(names=names, seeds=(0, 1), conduct={"batch_size": 3})
    assert [each.result["status"] for each in finished] == ["done"] * 24
    assert passes == {
        **dict.fromkeys(["encoder tiny", "encoder deep", "encoder told"], 10),
        **dict.fromkeys(["grouper randomcut", "grouper told"], 10 * 3 * 2),  # by encoder and seed
        **dict.fromkeys(["labeler colours", "labeler told"], 10),
    }


@pytest.mark.parametrize(("limits", "code"), [("-Sn 100", 0), ("-n 100", 2)])
def test_a_large_matrix_makes_room_for_its_locks_or_says_what_to_do(tmp_path, limits, code):
    seeds = ",".join(map(str, range(120)))
    command = f"{sys.executable} -m ovvol_bench run --preset {HERE / 'tiny.yaml'} --plugin {PLUGIN}"
    done = subprocess.run(
        ["bash", "-c", f"ulimit {limits}; {command} --seeds {seeds} --limit 1 --output {tmp_path}"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "OVVOL_PLUGINS": "metrics"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    expected = "120 runs at once hold 120 lock files open, and this process may open 100 files"
    assert (expected in done.stderr) == bool(code)


def test_labelers_work_as_often_as_what_they_look_at_differs(run, monkeypatch):
    """One of patches once, a guided one once an encoder, one of slots once a grouping: clips all the same."""
    asked = {name: [] for name in ("embed", "embed_guided", "embed_slots")}
    for name, calls in asked.items():
        own = getattr(matrix, name)

        def counting(labeler, video, *others, own=own, calls=calls):
            calls.append(len(video))
            return own(labeler, video, *others)

        monkeypatch.setattr(matrix, name, counting)
    names = {"encoder": ["tiny", "deep"], "labeler": ["colours", "guided", "slots"]}
    finished = run(names=names, seeds=(0, 1))
    assert [each.result["status"] for each in finished] == ["done"] * 12
    assert {name: sum(calls) for name, calls in asked.items()} == {
        "embed": 10,
        "embed_guided": 20,
        "embed_slots": 40,
    }
    assert all(each.result["timing"]["seconds"]["label"] > 0 for each in finished)


@pytest.mark.parametrize("labeler", ["guided", "slots"])
def test_kinds_of_labelers_go_through_one_naming(run, labeler):
    (one,) = run(names={"labeler": ["colours"]})
    (other,) = run(names={"labeler": [labeler]})
    assert values(one.result) == values(other.result)


def test_a_clip_that_slots_have_no_answer_for_can_be_left_out(run):
    names, settings = {"labeler": ["slots", "colours"]}, {"labeler": {"fails_at": "1"}}
    failed, other = run("fail", names=names, settings=settings)
    assert "slot embeddings hold NaN" in str(failed.error)
    assert other.result["status"] == "done"
    skipping, _ = run("skip", names=names, settings=settings, conduct={"on_error": "skip"})
    assert skipping.result["coverage"]["skipped"]["answer holds NaN or infinity"] == 1
    assert skipping.result["coverage"]["done"] == 9


@pytest.mark.parametrize("naming", [{"merge": "overlap"}, {"merge": "features", "merge_features": "encoder"}])
def test_mergers_have_what_they_look_at(run, naming):
    result = done_result(run(settings={"naming": naming}))
    assert result["naming"]["merge_threshold"] == {"overlap": 0.7, "features": 0.12}[naming["merge"]]


def test_a_consensus_has_no_soft_masks_to_merge_by(run):
    with pytest.raises(SettingError, match=r"naming\.merge=overlap looks at soft masks"):
        run(settings={"naming": {"merge": "overlap"}}, seeds=(0, 1), consensus=(2, 4))


def test_soft_masks_are_kept_on_request_and_change_nothing_else(run, caplog):
    (plain,) = run(output="plain")
    (kept,) = run(output="kept", conduct={"soft_masks": True})
    assert values(kept.result) == values(plain.result)
    assert kept.folder.path.name == plain.folder.path.name
    clips = list(read_predictions(kept.folder.predictions))
    for clip in clips:
        found = clip.localization
        of_winner = np.take_along_axis(found.soft, found.slot_map[:, None].astype(int), axis=1)[:, 0]
        np.testing.assert_array_equal(of_winner, found.soft.max(axis=1))
        assert (found.soft.min(), found.soft.max()) == (0, 255)
    assert not caplog.records
    run(output="plain", conduct={"soft_masks": True})
    assert f"{len(clips)} clips of {plain.folder.path} are there without soft masks" in caplog.text


def test_a_consensus_has_no_soft_masks_to_keep(run):
    with pytest.raises(SettingError, match="consensus of several seeds has no soft masks"):
        run(conduct={"soft_masks": True}, seeds=(0, 1), consensus=(2, 3))


def test_a_matrix_gives_what_single_runs_give(run):
    together = run(names={"encoder": ["tiny", "deep"]}, seeds=(0, 1))
    alone = run("alone", names={"encoder": ["deep"]}, seeds=(1,))
    (twin,) = [each for each in together if each.folder.path.name == alone[0].folder.path.name]
    assert_same_predictions(twin, alone[0])
    assert values(twin.result) == values(alone[0].result)


@pytest.mark.parametrize(
    ("batch_size", "backwards", "workers"), [(1, False, 1), (3, True, 5), (64, True, None)]
)
def test_batch_size_order_and_workers_change_nothing(run, batch_size, backwards, workers):
    (one,) = run(conduct={"batch_size": 4, "workers": 2})
    other_order = {"dataset": {"backwards": backwards}}
    (other,) = run("other", settings=other_order, conduct={"batch_size": batch_size, "workers": workers})
    assert one.result["id"] == other.result["id"]
    assert_same_predictions(one, other)
    assert values(one.result) == pytest.approx(values(other.result), abs=1e-6, nan_ok=True)


def test_a_failing_component_takes_down_its_combinations_only(run):
    finished = run(names={"grouper": ["brokencut", "randomcut"]})
    by_grouper = {each.result["grouper"]["name"]: each for each in finished}
    assert by_grouper["randomcut"].result["status"] == "done"
    broken = by_grouper["brokencut"]
    assert isinstance(broken.error, PluginError)
    assert "grouper 'brokencut' failed: ZeroDivisionError: the grouper fell over (" in str(broken.error)
    assert broken.result["error"] == str(broken.error)
    assert json.loads(broken.folder.result_file.read_text())["status"] == "failed"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"grouper": ["needy"]}, "grouper 'needy' needs keys from the encoder; 'tiny' gives features only"),
        ({"encoder": ["short"]}, "encoder 'short' takes at most 2 frames a clip, got 4"),
    ],
)
def test_impossible_pairs_are_refused_before_anything_is_written(run, tmp_path, encoded, names, expected):
    (finished,) = run(names=names)
    assert expected in str(finished.error)
    assert isinstance(finished.error, SettingError | ContractError)
    assert not encoded
    assert not list((tmp_path / "runs").iterdir())


def test_a_grouper_set_for_other_features_is_refused(run):
    (finished,) = run(settings={"grouper": {"feature_dim": "7"}})
    assert "set to features of 7 channels, encoder 'tiny' gives 6" in str(finished.error)


def test_an_unwritable_output_is_refused_before_anything_runs(run, tmp_path, encoded):
    (tmp_path / "taken").touch()
    with pytest.raises(SettingError, match="output folder"):
        run("taken/runs")
    assert not encoded


def test_nan_ends_a_run_or_skips_the_clip(run):
    settings = {"dataset": {"poison": "4"}}
    (failed,) = run(settings=settings)
    assert isinstance(failed.error, ContractError)
    assert "Clips: video1/4" in str(failed.error)
    (finished,) = run(settings=settings, conduct={"on_error": "skip"})
    coverage = finished.result["coverage"]
    assert (coverage["done"], coverage["skipped"]["answer holds NaN or infinity"]) == (9, 1)
    assert "video1/4" in json.loads((finished.folder.path / "skipped.json").read_text())
    (clean,) = run()
    kept = {each.info.id: each.localization.boxes for each in read_predictions(clean.folder.predictions)}
    for each in read_predictions(finished.folder.predictions):
        np.testing.assert_array_equal(each.localization.boxes, kept[each.info.id])


def test_an_unreadable_clip_ends_the_run_or_is_skipped(run):
    settings = {"dataset": {"unreadable": "7"}}
    with pytest.raises(DecodeError, match=r"video2/7: frame 0 is truncated.*--on-error skip"):
        run(settings=settings)
    result = done_result(run(settings=settings, conduct={"on_error": "skip"}))
    assert result["coverage"]["done"] == 9
    assert result["coverage"]["skipped"]["frames can't be read"] == 1


def test_a_run_without_any_clip_fails(run):
    settings = {"dataset": {"clips": "1", "unreadable": "0"}}
    (finished,) = run(settings=settings, conduct={"on_error": "skip"})
    assert "none of 1 clips could be localized" in finished.result["error"]


def test_a_clip_whose_name_is_no_utf8_is_refused_before_anything_runs(run, registry, monkeypatch, encoded):
    original = registry.build

    def build(kind, name, options):
        built = original(kind, name, options)
        if kind == "dataset":
            monkeypatch.setattr(
                built, "info", lambda index: replace(type(built).info(built, index), id="caf\udce9")
            )
        return built

    monkeypatch.setattr(registry, "build", build)
    with pytest.raises(ContractError, match=r"TinyClips: the name caf\\xe9 of a clip is not UTF-8"):
        run()
    assert not encoded


def test_a_limit_is_another_run(run):
    full, short = done_result(run()), done_result(run(limit=3))
    assert full["id"] != short["id"]
    assert (short["coverage"]["clips"], short["coverage"]["done"], short["limit"]) == (3, 3, 3)


def test_data_without_truth_gives_localizations_and_no_metrics_that_need_it(run):
    result = done_result(run(settings={"dataset": {"truth": "false"}}))
    assert result["coverage"]["done"] == 10
    assert result["metrics"] == {}


@pytest.mark.parametrize("kind", ["encoder", "grouper", "labeler"])
def test_an_oracle_is_told_the_truth_and_its_result_says_so(run, kind):
    names = {kind: ["told", {"encoder": "tiny", "grouper": "randomcut", "labeler": "colours"}[kind]]}
    told, honest = run(names=names)
    assert told.result["status"] == honest.result["status"] == "done"
    assert (told.result["oracle"], honest.result["oracle"]) == (True, False)
    assert told.folder.read_spec().oracle


def test_every_clip_gets_its_own_truth(run):
    (finished,) = run(names={"grouper": ["told"], "labeler": ["told"]}, conduct={"batch_size": 3})
    for each in read_predictions(finished.folder.predictions):
        number = int(each.info.id.partition("/")[2])
        assert (each.localization.probabilities.argmax(axis=1) == 1 + number % 2).all()
        left = (6 + number % 8) // 8  # the patch that the true box begins in
        assert np.flatnonzero(each.localization.slot_map[3, 0] == 0).tolist() == [left, left + 1]


@pytest.mark.parametrize("kind", ["encoder", "grouper", "labeler"])
def test_an_oracle_without_truth_is_refused(run, kind, encoded):
    (finished,) = run(names={kind: ["told"]}, settings={"dataset": {"truth": "false"}})
    assert "'told' is an oracle" in str(finished.error)
    assert isinstance(finished.error, SettingError)
    assert not encoded


def test_consensus_merges_the_seeds_into_one_run(run):
    (finished,) = run(seeds=(0, 1, 2), consensus=(2, 4))
    assert (finished.result["seeds"], finished.result["consensus"]) == ([0, 1, 2], [2, 4])
    assert "seed" not in finished.result
    counts = read_predictions(finished.folder.predictions).slot_counts
    assert counts.min() >= 1
    assert counts.max() <= 4


def stop_after(clips):
    def progress(name, done, total):
        if done >= clips:
            raise KeyboardInterrupt

    return progress


def test_an_interrupted_run_continues_where_it_was(run, encoded):
    with pytest.raises(KeyboardInterrupt):
        run(conduct={"batch_size": 1, "progress": stop_after(4)})
    encoded.clear()
    resumed = run(conduct={"batch_size": 1})
    assert len(encoded) == 6
    assert done_result(resumed)["timing"]["clips"] == 6
    whole = run("whole")
    assert_same_predictions(resumed[0], whole[0])
    assert values(resumed[0].result) == values(whole[0].result)


def test_a_complete_run_computes_nothing_again(run, encoded):
    first = done_result(run())
    encoded.clear()
    assert done_result(run()) == first
    assert not encoded
    with pytest.raises(SettingError, match="complete"):
        run(conduct={"overwrite": Overwrite.NEVER})
    run(conduct={"overwrite": Overwrite.ALWAYS})
    assert encoded


def test_a_truncated_shard_is_computed_anew(run, monkeypatch):
    monkeypatch.setattr(combination, "SHARD_CLIPS", 3)
    (first,) = run()
    shard = sorted(first.folder.predictions.glob("*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:-100])
    (second,) = run()
    assert second.result["coverage"]["done"] == 10
    assert values(second.result) == values(first.result)


def test_plugins_hear_of_runs(tmp_path, run):
    log = tmp_path / "log.txt"
    listener = tmp_path / "listener.py"
    listener.write_text(
        "from pathlib import Path\n"
        "from ovvol_bench import hookimpl\n"
        f"LOG = Path({str(log)!r})\n"
        "def note(line):\n    LOG.write_text((LOG.read_text() if LOG.exists() else '') + line + '\\n')\n"
        "@hookimpl\ndef ovvol_run_started(spec):\n    note(f'started {spec[\"id\"]}')\n"
        "@hookimpl\ndef ovvol_clip_localized(run_id, clip):\n    note(f'clip {clip.id} of {run_id}')\n"
        "@hookimpl\ndef ovvol_run_finished(result):\n    note(f'finished {result[\"status\"]}')\n"
    )
    registry = load_registry((PLUGIN, listener), only=["metrics"])
    selection = select(load_preset(str(HERE / "tiny.yaml")), registry, {}, {}, limit=2)
    (finished,) = run_all(selection, registry, Conduct(tmp_path / "runs", torch.device("cpu")))
    started, *clips, last = log.read_text().splitlines()
    assert started == f"started {finished.result['id']}"
    run_id = finished.result["id"]
    assert sorted(clips) == [f"clip video0/0 of {run_id}", f"clip video0/1 of {run_id}"]
    assert last == "finished done"


def test_a_run_that_is_killed_continues_to_the_same_result(run, tmp_path):
    killer = (
        "import os, signal, sys\n"
        "from ovvol_bench.cli import main\n"
        "from ovvol_bench.runs import combination, matrix\n"
        "combination.SHARD_CLIPS, left, advance = 1, [int(sys.argv[1])], matrix.Matrix.advance\n"
        "def deadly(self, clips):\n"
        "    if not left[0]: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    left[0] -= 1\n"
        "    advance(self, clips)\n"
        "matrix.Matrix.advance = deadly\n"
        "main(sys.argv[2:])"
    )
    command = ["run", "--preset", str(HERE / "tiny.yaml"), "--plugin", str(PLUGIN), "--batch-size", "1"]
    for clips in (random.Random(7).randint(1, 4), 3):
        died = subprocess.run(
            [sys.executable, "-c", killer, str(clips), *command, "--output", str(tmp_path / "runs")],
            env={**os.environ, "OMP_NUM_THREADS": "1", "OVVOL_PLUGINS": "metrics"},
            check=False,
        )
        assert died.returncode == -signal.SIGKILL
    (resumed,), (whole,) = run(), run("whole")
    assert 0 < resumed.result["timing"]["clips"] < 10
    assert_same_predictions(resumed, whole)
    assert values(resumed.result) == values(whole.result)


def test_predictions_that_are_lost_while_a_run_works_are_no_result(run, monkeypatch):
    from ovvol_bench.runs.combination import Run

    close = Run.close

    def lose(self):
        close(self)
        for shard in self.folder.predictions.iterdir():
            shard.unlink()

    monkeypatch.setattr(Run, "close", lose)
    (finished,) = run()
    assert finished.result["status"] == "failed"
    monkeypatch.undo()
    (again,) = run()
    assert again.result["status"] == "done"
