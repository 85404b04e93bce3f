"""Several processes reach the losses of one: torchrun over gloo, and DeepSpeed ZeRO-2 on the CPU."""

import pytest
from safetensors.torch import load_file

STEPS = ["-o", "recipe.epochs=7"]  # 21 steps


def test_two_processes_take_the_steps_of_one(tmp_path, toy_arguments, train_toy, read_losses, launched):
    train_toy(tmp_path / "one", *STEPS)
    output = launched([*toy_arguments, *STEPS, "--output", tmp_path / "two"])
    assert output.count("done after 21 steps") == 1, "one process speaks"
    for name in ("loss", "drift"):  # the second tells of a teacher that follows the steps
        one, two = (read_losses(tmp_path / folder, name) for folder in ("one", "two"))
        assert two == pytest.approx(one, abs=1e-4, rel=1e-4)


def test_the_number_of_processes_may_change(tmp_path, toy_arguments, train_toy, read_losses, launched):
    train_toy(tmp_path / "one", *STEPS)
    launched([*toy_arguments, *STEPS, "--output", tmp_path / "changed", "--steps", 9])
    assert train_toy(tmp_path / "changed", *STEPS).exit_code == 0
    assert read_losses(tmp_path / "changed") == pytest.approx(
        read_losses(tmp_path / "one"), abs=1e-4, rel=1e-4
    )


@pytest.mark.parametrize("processes", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_several_processes_go_on_from_their_checkpoint(
    tmp_path, toy_arguments, train_toy, read_losses, launched, processes
):
    six = ["-o", "recipe.batch_size=6", "-o", "recipe.epochs=7"]  # 14 steps
    train_toy(tmp_path / "one", *six)
    for more in (["--steps", 5], []):
        launched([*toy_arguments, *six, "--output", tmp_path / "parts", *more], processes)
    assert read_losses(tmp_path / "parts") == pytest.approx(read_losses(tmp_path / "one"), abs=1e-5, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["zero1", "zero2", "zero3"])
def test_deepspeed_takes_the_same_steps(tmp_path, toy_arguments, train_toy, read_losses, launched, stage):
    pytest.importorskip("deepspeed")
    train_toy(tmp_path / "one", *STEPS)
    arguments = [*toy_arguments, *STEPS, "--deepspeed", stage, "--micro-batch", 1]
    launched([*arguments, "--output", tmp_path / "two", "--steps", 10])
    launched([*arguments, "--output", tmp_path / "two"])  # goes on from its own checkpoint
    for name in ("loss", "drift"):
        one, two = (read_losses(tmp_path / folder, name) for folder in ("one", "two"))
        assert two == pytest.approx(one, abs=1e-4, rel=1e-4)
    one, two = (load_file(tmp_path / name / "weights.safetensors") for name in ("one", "two"))
    for name, value in one.items():
        assert two[name].numpy() == pytest.approx(value.numpy(), abs=1e-4)
