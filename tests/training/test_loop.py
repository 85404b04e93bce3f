"""The loop with a small recipe: what checkpoints hold, what is refused, and what never costs a training."""

import json
import re
from dataclasses import replace

import pytest
import torch
from small_recipe import Points, SmallRecipe

from ovvol_bench import SettingError
from ovvol_bench.errors import CheckpointError, ContractError, PluginError, TrainingError
from ovvol_bench.runs.learned import learned_by
from ovvol_bench.training import LossScope
from ovvol_bench.training.checkpoints import Best
from ovvol_bench.training.loop import Conduct, evaluate, train
from ovvol_bench.weights import read_metadata


def trained(folder, recipe=None, **more):
    recipe = recipe or SmallRecipe()
    train(recipe, Conduct(folder, 0, {}, device="cpu", **more))
    return recipe


def tensors(recipe):
    return {name: value.clone() for name, value in recipe.named_parameters()}


def test_a_frozen_teacher_and_all_buffers_are_resumed(tmp_path):
    whole = trained(tmp_path / "whole")
    trained(tmp_path / "parts", steps=3)
    parts = trained(tmp_path / "parts")
    assert parts.passes == whole.passes == 6
    for name, value in tensors(whole).items():
        assert torch.equal(tensors(parts)[name], value), name


class TestDamage:
    @pytest.fixture
    def folder(self, tmp_path):
        trained(tmp_path, save_every=2, steps=4)
        assert [path.name for path in checkpoints(tmp_path)] == ["step-00000002", "step-00000004"]
        return tmp_path

    @pytest.mark.parametrize("file", ["module.safetensors", "optimizer.pt", "progress.json"])
    def test_the_checkpoint_before_is_taken(self, folder, file, caplog):
        flip_a_bit(checkpoints(folder)[-1] / file)
        recipe = trained(folder)
        assert [file in line and "goes on from step-00000002" in line for line in caplog.messages] == [True]
        assert torch.equal(recipe.student.weight, trained(folder / "whole").student.weight)

    def test_an_account_that_is_nested_too_deeply(self, folder, caplog):
        (checkpoints(folder)[-1] / "progress.json").write_text("[" * 10**5)
        trained(folder)
        assert "nested too deeply" in caplog.text

    def test_a_file_that_is_missing(self, folder, caplog):
        (checkpoints(folder)[-1] / "optimizer.pt").unlink()
        trained(folder)
        assert "optimizer.pt: not what was written" in caplog.text

    def test_the_damaged_one_never_crowds_out_a_whole_one(self, folder):
        flip_a_bit(checkpoints(folder)[-1] / "optimizer.pt")
        trained(folder, steps=3, keep=1)
        assert [path.name for path in checkpoints(folder)] == ["step-00000003"]

    def test_all_are_damaged(self, folder):
        for checkpoint in checkpoints(folder):
            flip_a_bit(checkpoint / "optimizer.pt")
        with pytest.raises(CheckpointError, match="no whole one is left"):
            trained(folder)

    def test_one_of_another_module_is_not_called_damaged(self, folder):
        recipe = SmallRecipe()
        recipe.further = torch.nn.Linear(2, 2)
        with pytest.raises(CheckpointError, match="does not fit this training"):
            trained(folder, recipe)


def test_a_checkpoint_says_how_it_was_made(tmp_path):
    trained(tmp_path, micro_batch=2)
    progress = json.loads((checkpoints(tmp_path)[-1] / "progress.json").read_text())
    assert (progress["processes"], progress["micro_batch"]) == (1, 2)


class TestLossesThatCompareExamples:
    @pytest.mark.parametrize("scope", [LossScope.PROCESS, LossScope.STEP])
    def test_no_parts(self, tmp_path, scope):
        with pytest.raises(SettingError, match="--micro-batch 2: this recipe's loss compares"):
            trained(tmp_path, SmallRecipe(scope), micro_batch=2)
        trained(tmp_path, SmallRecipe(scope), micro_batch=4)

    def test_nothing_to_compare(self, tmp_path):
        with pytest.raises(SettingError, match="nothing is learned from one"):
            trained(tmp_path, SmallRecipe(LossScope.STEP, batch_size=1))


def test_validation_of_float16_examples_under_bfloat16(tmp_path):
    recipe = trained(tmp_path, SmallRecipe(validation=Points(torch.float16)), precision="bfloat16")
    assert recipe is not None
    assert "validation_loss" in (tmp_path / "log.jsonl").read_text()


def test_a_validation_that_fails_costs_nothing(tmp_path):
    recipe = SmallRecipe()
    recipe.evaluate = lambda: 1 / 0
    with pytest.raises(PluginError, match=r"SmallRecipe\.evaluate failed: ZeroDivisionError: .*line \d+"):
        trained(tmp_path, recipe, measure_every=4, save_every=4)
    assert (tmp_path / "weights.safetensors").is_file()
    assert checkpoints(tmp_path)[-1].name == "step-00000004"


@pytest.mark.parametrize("method", ["prepare", "evaluate", "pictures"])
def test_a_recipe_that_returns_none(tmp_path, method):
    recipe = SmallRecipe(validation=Points())
    setattr(recipe, method, lambda *arguments: None)
    with pytest.raises(ContractError, match=f"SmallRecipe.{method} returned a NoneType"):
        trained(tmp_path, recipe)


@pytest.mark.parametrize(
    "losses", [None, {}, {"loss": None}, {"loss": torch.zeros(())}, {"loss": torch.zeros(2)}, 0.5]
)
def test_losses_that_are_none(tmp_path, losses):
    recipe = SmallRecipe()
    recipe.forward = lambda batch: losses
    with pytest.raises(ContractError, match=r"SmallRecipe\.forward returned"):
        trained(tmp_path, recipe)


def fail(*arguments, **named):
    raise KeyError("no such key")


HERE = rf"failed: KeyError: 'no such key' \({re.escape(__file__)}, line {fail.__code__.co_firstlineno + 1}\)$"


@pytest.mark.parametrize(
    "method", ["prepare", "evaluate", "pictures", "remark", "save_weights", "finish", "parameter_groups"]
)
def test_a_recipe_that_fails_is_one_line_with_its_place(tmp_path, method):
    recipe = SmallRecipe(validation=Points())
    setattr(recipe, method, fail)
    with pytest.raises(PluginError, match=rf"^SmallRecipe\.{method} {HERE}"):
        trained(tmp_path, recipe)


def test_losses_that_fail_are_one_line_with_their_place(tmp_path):
    recipe = SmallRecipe()
    recipe.forward = fail
    with pytest.raises(PluginError, match=rf"^SmallRecipe\.forward {HERE}"):
        trained(tmp_path, recipe)


def test_gradients_that_fail_are_one_line(tmp_path):
    recipe = SmallRecipe()
    recipe.student.weight.register_hook(fail)
    with pytest.raises(PluginError, match=rf"^SmallRecipe\.forward {HERE}"):
        trained(tmp_path, recipe)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_example_that_fails_is_one_line_with_its_place(tmp_path, workers):
    recipe = SmallRecipe()
    recipe.examples.example = fail
    with pytest.raises(PluginError, match=rf"^reading training example 'point \d' {HERE}"):
        trained(tmp_path, recipe, workers=workers)


def test_a_killed_reader_is_not_blamed_on_the_recipe(tmp_path):
    def killed(batch):
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")

    recipe = SmallRecipe()
    recipe.forward = killed
    with pytest.raises(TrainingError, match="reading examples ahead failed"):
        trained(tmp_path, recipe)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_example_that_is_none(tmp_path, workers):
    recipe = SmallRecipe()
    recipe.examples.example = nothing
    with pytest.raises(ContractError, match=r"^example 'point \d' returned a NoneType; expected"):
        trained(tmp_path, recipe, workers=workers)


def test_the_best_validation_is_kept(tmp_path):
    recipe, values = SmallRecipe(), iter([3.0, 1.0, 2.0, 0.5, 4.0, 5.0])
    recipe.evaluate = lambda: {"error": next(values)}
    for steps in (3, 6):  # goes on from what was noted
        trained(tmp_path, recipe, measure_every=1, steps=steps, best=Best.of("lowest:error"))
        recipe.load_state_dict(SmallRecipe().state_dict())
    assert json.loads((tmp_path / "best.json").read_text()) == {"step": 4, "error": 0.5}
    assert read_metadata(tmp_path / "best.safetensors")["step"] == "4"
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_a_best_that_validation_does_not_give(tmp_path):
    with pytest.raises(SettingError, match="validation gives no 'corloc'"):
        trained(tmp_path, best=Best.of("highest:corloc"))
    with pytest.raises(SettingError, match="expected lowest:NUMBER or highest:NUMBER"):
        Best.of("corloc")


def test_a_checkpoint_is_measured_without_training(tmp_path):
    trained(tmp_path, SmallRecipe(validation=Points()), steps=2, save_every=1)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    before = sorted(tmp_path.rglob("*"))
    numbers = evaluate(
        SmallRecipe(validation=Points()), Conduct(tmp_path, 0, {}, "cpu"), checkpoints(tmp_path)[-1]
    )
    assert numbers["validation_loss"] == pytest.approx(rows[-1]["validation_loss"])
    assert sorted(tmp_path.rglob("*")) == before


def test_weights_of_an_unfinished_training_say_so_when_they_are_used(tmp_path, caplog):
    trained(tmp_path / "part", steps=2)
    trained(tmp_path / "whole")
    for name, said in (("part", True), ("whole", False)):
        caplog.clear()
        learned_by([tmp_path / name / "weights.safetensors"])
        assert ("weights of an unfinished training, after 2 of 6 steps" in caplog.text) is said


def test_the_weight_decay_follows_its_schedule(tmp_path):
    recipe = SmallRecipe()
    recipe.optimization = replace(recipe.optimization, weight_decay=0.5, final_weight_decay=0.1)
    numbers = [recipe.optimization.decay(step, 6) for step in range(6)]
    assert numbers[0] == 0.5 and numbers[-1] == pytest.approx(0.1) and numbers == sorted(numbers)[::-1]
    plain = trained(tmp_path / "plain")
    assert not torch.equal(trained(tmp_path / "decay", recipe).student.weight, plain.student.weight)


class TestParameterGroups:
    def trained(self, folder, groups):
        recipe = SmallRecipe()
        first = tensors(recipe)
        recipe.parameter_groups = lambda: groups(recipe.student)
        trained(folder, recipe, steps=1)
        return [(tensors(recipe)[name] - first[name]).abs().max().item() for name in list(first)[:2]]

    def test_each_has_its_own_learning_rate(self, tmp_path):
        weight, bias = self.trained(
            tmp_path, lambda layer: [{"params": [layer.weight]}, {"params": [layer.bias], "lr": 0.001}]
        )
        assert (weight, bias) == (pytest.approx(0.01, rel=1e-3), pytest.approx(0.001, rel=1e-3))

    def test_each_may_have_its_own_weight_decay(self, tmp_path):
        recipe = SmallRecipe()
        recipe.optimization = replace(recipe.optimization, optimizer="adamw", weight_decay=0.5)
        recipe.parameter_groups = lambda: [
            {"params": [recipe.student.weight], "weight_decay": 0.1},
            {"params": [recipe.student.bias]},
        ]
        trained(tmp_path, recipe, steps=1)
        state = torch.load(checkpoints(tmp_path)[0] / "optimizer.pt")["optimizer"]
        assert [group["weight_decay"] for group in state["param_groups"]] == [0.1, 0.5]

    @pytest.mark.parametrize("missing", [True, False])
    def test_a_parameter_in_none_or_in_two_is_named(self, tmp_path, missing):
        where = "in none of the groups" if missing else "in several groups"
        with pytest.raises(ContractError, match=rf"parameter_groups: parameter student\.bias is {where}"):
            self.trained(
                tmp_path,
                lambda layer: [
                    {"params": [layer.weight]},
                    *[{"params": [layer.bias]}] * (0 if missing else 2),
                ],
            )


def nothing(index, draws):
    return None


def checkpoints(folder):
    return sorted((folder / "checkpoints").glob("step-*"))


def flip_a_bit(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
