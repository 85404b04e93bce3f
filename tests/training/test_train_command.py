"""``ovvol-bench train`` with a recipe of a plugin file: what every recipe can rely on."""

import ast
import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file

from ovvol_bench.files import sealed
from ovvol_bench.locks import claimed


def test_a_training_leaves_log_curve_checkpoint_and_weights(tmp_path, train_toy, read_losses):
    result = train_toy(tmp_path / "run")
    assert result.exit_code == 0, result.output
    losses = read_losses(tmp_path / "run")
    assert list(losses) == list(range(1, 16)), "5 epochs of 12 examples in steps of 4"
    assert losses[15] < losses[1] / 3
    for name in ("curve.png", "weights.safetensors", "checkpoints/step-00000015/progress.json"):
        assert (tmp_path / "run" / name).is_file()
    assert list((tmp_path / "run/tensorboard").iterdir())
    assert f"-o encoder.weights={tmp_path}/run/weights.safetensors" in result.output


def test_validation_and_the_recipes_own_numbers_are_logged(tmp_path, train_toy):
    train_toy(tmp_path, "--measure-every", 6)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    measured = [row for row in rows if "validation_loss" in row]
    assert [row["step"] for row in measured] == [6, 12, 15]
    assert all(row["norm"] > 0 for row in measured)


def test_the_same_command_again_finds_nothing_to_do(tmp_path, train_toy):
    train_toy(tmp_path)
    before = (tmp_path / "weights.safetensors").read_bytes()
    result = train_toy(tmp_path)
    assert "nothing was left to do" in result.output
    assert (tmp_path / "weights.safetensors").read_bytes() == before


def test_a_training_in_parts_follows_the_same_curve(tmp_path, train_toy, read_losses):
    train_toy(tmp_path / "whole")
    for steps in (4, 9, 15):
        result = train_toy(tmp_path / "parts", "--steps", steps)
    assert result.exit_code == 0
    assert read_losses(tmp_path / "parts") == read_losses(tmp_path / "whole")


def test_parts_of_a_step_add_up_to_the_step(tmp_path, train_toy, read_losses):
    train_toy(tmp_path / "whole")
    train_toy(tmp_path / "parts", "--micro-batch", 1)
    whole, parts = read_losses(tmp_path / "whole"), read_losses(tmp_path / "parts")
    assert parts == pytest.approx(whole, rel=1e-5)


def test_reading_processes_start_after_opencv_has_used_threads(tmp_path, train_toy):
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    cv2.resize(np.zeros((2000, 2000, 3), np.float32), (3000, 3000))
    try:
        assert train_toy(tmp_path, "--workers", 1).exit_code == 0
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


def test_reading_processes_change_nothing(tmp_path, train_toy, read_losses):
    train_toy(tmp_path / "none")
    train_toy(tmp_path / "two", "--workers", 2)
    assert read_losses(tmp_path / "two") == read_losses(tmp_path / "none")


def test_another_seed_is_another_training(tmp_path, train_toy, read_losses):
    train_toy(tmp_path / "0")
    train_toy(tmp_path / "1", "--seed", 1)
    assert read_losses(tmp_path / "0") != read_losses(tmp_path / "1")


def test_only_the_last_checkpoints_stay(tmp_path, train_toy):
    train_toy(tmp_path, "--save-every", 4, "--keep", 2)
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["step-00000012", "step-00000015"]


def test_the_folder_follows_from_what_is_trained(tmp_path, train_toy, toy_arguments, monkeypatch):
    from click.testing import CliRunner

    from ovvol_bench.cli import main

    monkeypatch.chdir(tmp_path)
    for more in ([], ["-o", "recipe.epochs=2"]):
        assert CliRunner().invoke(main, [*toy_arguments, *more]).exit_code == 0
    assert len(list((tmp_path / "runs/train/toy").iterdir())) == 2


LISTENER = """
from ovvol_bench import hookimpl

heard = []

@hookimpl
def ovvol_training_started(spec, folder, step, steps):
    heard.append(("started", spec["recipe"], spec["id"], folder.name, step, steps))

@hookimpl
def ovvol_training_measured(training_id, step, numbers, pictures):
    heard.append((training_id, step, sorted(numbers)))

@hookimpl
def ovvol_training_finished(result):
    heard.append(result)
    print(heard)
"""


class TestListeners:
    @pytest.fixture
    def follow(self, tmp_path, train_toy):
        """Trains with a plugin that listens; gives what it heard."""
        (tmp_path / "listener.py").write_text(LISTENER)

        def train(*more):
            result = train_toy(tmp_path / "run", "--plugin", tmp_path / "listener.py", *more)
            line = next(line for line in result.output.splitlines() if line.startswith("[("))
            return ast.literal_eval(line)

        return train

    def test_they_hear_of_start_rows_and_end(self, tmp_path, follow):
        (_, recipe, training, folder, *steps), *rows, end = follow("--log-every", 5, "--measure-every", 10)
        assert (recipe, folder, steps) == ("toy", "run", [0, 15])
        assert {row[0] for row in rows} == {training}
        logged = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
        assert [row[1:] for row in rows] == [(row.pop("step"), sorted(row)) for row in logged]
        assert [row[1] for row in rows if "validation_loss" in row[2]] == [10, 15]
        weights = str(tmp_path / "run/weights.safetensors")
        end_of_all = {"status": "done", "step": 15, "steps": 15, "weights": weights, "error": None}
        assert end == {"id": training, **end_of_all}

    def test_they_hear_where_a_training_goes_on(self, follow):
        follow("--steps", 4)
        assert follow()[0][4:] == (4, 15)

    def test_they_hear_of_failures(self, follow):
        end = follow("-o", "recipe.broken_at=7")[-1]
        assert end["status"] == "failed" and "the loss is nan" in end["error"] and end["step"] < 15


def killed_at_a_random_step(arguments, folder, number):
    """Start a training and send all its processes a signal, as schedulers do, after its first checkpoint."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ovvol_bench", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not list(folder.glob("checkpoints/step-*")) and process.poll() is None:
        time.sleep(0.02)
    time.sleep(random.uniform(0, 0.3))
    os.killpg(process.pid, number)
    return process.wait(60), process.stdout.read()


def long_enough(toy_arguments, folder):
    return [*toy_arguments, "-o", "recipe.epochs=200", "--save-every", "7", "--output", str(folder)]


def test_a_killed_training_goes_on_as_if_nothing_had_happened(
    tmp_path, toy_arguments, train_toy, read_losses
):
    code, _ = killed_at_a_random_step(long_enough(toy_arguments, tmp_path / "cut"), tmp_path / "cut", 9)
    assert code == -signal.SIGKILL
    for name in ("cut", "whole"):
        assert train_toy(tmp_path / name, "-o", "recipe.epochs=200", "--save-every", 7).exit_code == 0
    assert read_losses(tmp_path / "cut") == read_losses(tmp_path / "whole")
    tensors = [load_file(tmp_path / name / "weights.safetensors") for name in ("cut", "whole")]
    assert all((tensors[0][name] == tensors[1][name]).all() for name in tensors[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_to_stop_saves_and_says_how_to_go_on(tmp_path, toy_arguments, number):
    arguments = long_enough(toy_arguments, tmp_path / "run")
    code, output = killed_at_a_random_step(arguments, tmp_path / "run", number)
    assert code == 0
    assert "Go on with:" in output and " ".join(["ovvol-bench", *arguments]) in output.replace("'", "")
    progress = max((tmp_path / "run/checkpoints").iterdir()) / "progress.json"
    assert f"stopped after {json.loads(progress.read_text())['step']} of 600 steps" in output


class TestRefusals:
    def test_a_loss_that_is_not_finite_names_step_examples_and_checkpoint(self, tmp_path, train_toy):
        result = train_toy(tmp_path, "-o", "recipe.broken_at=7", "--save-every", 1)
        assert result.exit_code == 2
        assert "the loss is nan in step" in result.output and "toy 7" in result.output
        assert "checkpoint" in result.output

    @pytest.mark.parametrize("workers", [0, 1])
    def test_an_example_that_cannot_be_read_is_named_in_one_line(self, tmp_path, train_toy, workers):
        result = train_toy(tmp_path, "-o", "recipe.failure=unreadable", "--workers", workers)
        assert result.exit_code == 2
        assert re.search(r"training example 'toy 7' \(step \d+\): the file is torn\.$", result.output.strip())
        assert "Traceback" not in result.output

    def test_a_reading_process_that_is_killed(self, tmp_path, train_toy):
        result = train_toy(tmp_path, "-o", "recipe.failure=killed", "--workers", 1)
        assert result.exit_code == 2
        assert "reading examples ahead failed" in result.output and "with fewer --workers" in result.output
        assert "Traceback" not in result.output

    def test_a_reading_process_that_hangs(self, tmp_path, train_toy, monkeypatch):
        monkeypatch.setattr("ovvol_bench.training.loader._PATIENCE", 0.5)
        result = train_toy(tmp_path, "-o", "recipe.failure=hangs", "--workers", 1)
        assert result.exit_code == 2
        assert "timed out after 0.5 seconds" in result.output

    def test_a_folder_that_another_process_trains_in(self, tmp_path, train_toy):
        with claimed(tmp_path / "lock", "wait"):
            result = train_toy(tmp_path)
        assert result.exit_code == 2
        assert "is being written by another process" in result.output and "--output" in result.output
        assert not (tmp_path / "training.json").exists()

    def test_a_folder_whose_name_is_no_utf8(self, tmp_path, train_toy):
        result = train_toy(tmp_path / "caf\udce9")
        assert result.exit_code == 2
        assert "caf\\xe9: its name is not UTF-8" in result.output

    def test_another_training_in_the_folder(self, tmp_path, train_toy):
        train_toy(tmp_path)
        result = train_toy(tmp_path, "-o", "recipe.learning_rate=0.01")
        assert result.exit_code == 2
        assert "options.learning_rate was 0.05 and is 0.01" in result.output

    def test_a_full_disk_leaves_the_last_checkpoint(self, tmp_path, train_toy, monkeypatch):
        train_toy(tmp_path, "--steps", 5)
        monkeypatch.setattr("torch.save", full_disk)
        result = train_toy(tmp_path)
        assert result.exit_code == 2
        assert "Is the disk full?" in result.output and "step-00000005 is untouched" in result.output
        assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000005"]
        monkeypatch.undo()
        assert train_toy(tmp_path).exit_code == 0

    def test_a_disk_that_is_full_for_the_weights_alone(self, tmp_path, train_toy, monkeypatch):
        train_toy(tmp_path, "--steps", 5)
        monkeypatch.setattr("ovvol_bench.weights.save", full_disk)
        result = train_toy(tmp_path)
        assert result.exit_code == 2
        assert "Is the disk full?" in result.output
        assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000005"]
        monkeypatch.undo()
        train_toy(tmp_path)
        with safe_open(tmp_path / "weights.safetensors", "pt") as file:
            assert file.metadata()["step"] == "15", "the last steps were taken again, and their weights kept"

    def test_a_damaged_checkpoint_and_none_before(self, tmp_path, train_toy):
        train_toy(tmp_path, "--steps", 5)
        (tmp_path / "checkpoints/step-00000005/optimizer.pt").write_bytes(b"")
        result = train_toy(tmp_path)
        assert result.exit_code == 2
        assert "step-00000005 is damaged (optimizer.pt: not what was written)" in result.output

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
    def test_a_damaged_account_of_what_is_trained(self, tmp_path, train_toy, content):
        train_toy(tmp_path, "--steps", 1)
        (tmp_path / "training.json").write_bytes(content)
        result = train_toy(tmp_path)
        assert result.exit_code == 2 and "training.json" in result.output
        assert "Traceback" not in result.output

    def test_a_checkpoint_of_another_engine(self, tmp_path, train_toy):
        train_toy(tmp_path, "--steps", 5)
        file = tmp_path / "checkpoints/step-00000005/progress.json"
        file.write_text(json.dumps(sealed({**json.loads(file.read_text()), "engine": "deepspeed zero2"})))
        result = train_toy(tmp_path)
        assert result.exit_code == 2
        assert "written by deepspeed zero2, this is accelerate" in result.output

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (["-o", "recipe.epoch=3"], "Did you mean 'epochs'"),
            (["-o", "recipe.epochs=-1"], "recipe.epochs=-1.0: expected more than 0"),
            (["--recipe", "tox"], "Did you mean 'toy'"),
            (["--micro-batch", "3"], "--micro-batch 3 doesn't divide the 4 examples"),
            (["--precision", "float16"], "needs a GPU"),
            (["--deepspeed", "zero4"], "expected zero1, zero2, zero3, or an existing JSON file"),
            (["-o", "naming.x=1"], "unknown kind 'naming'"),
        ],
    )
    def test_wrong_settings(self, tmp_path, train_toy, more, message):
        result = train_toy(tmp_path / "run", *more)
        assert result.exit_code == 2
        assert message in " ".join(result.output.split())
        assert not (tmp_path / "run/log.jsonl").exists()

    def test_a_component_without_a_recipe(self, tmp_path, train_toy):
        from click.testing import CliRunner

        from ovvol_bench.cli import main

        result = CliRunner().invoke(main, ["train", "dataset", "shapes"])
        assert result.exit_code == 2

    def test_deepspeed_that_is_not_installed(self, tmp_path, train_toy, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        result = train_toy(tmp_path, "--deepspeed", "zero2")
        assert result.exit_code == 2
        assert "pip install 'ovvol-bench[deepspeed]'" in result.output


def full_disk(*arguments, **options):
    raise OSError(28, os.strerror(28))
