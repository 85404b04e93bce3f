"""A plugin with an encoder that is trained in milliseconds: it learns to tell a picture's mean colour."""

import os
import signal
import time
from copy import deepcopy

import torch
from torch import nn

from ovvol_bench import DecodeError, Encoder, Entry, Features, hookimpl
from ovvol_bench.training import Examples, Optimization, Recipe
from ovvol_bench.weights import load_strict, read_state, save_state


class ToyEncoder(Encoder):
    patch_size, tubelet_size, dim = 4, 1, 3

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def encode(self, video):
        pooled = nn.functional.avg_pool2d(video.flatten(0, 1), 4).unflatten(0, video.shape[:2])
        return Features(self.layer(pooled.permute(0, 1, 3, 4, 2)))

    def load_weights(self, path):
        load_strict(self, read_state(path), path)


def unreadable():
    raise DecodeError("the file is torn.")


FAILURES = {
    "": lambda: None,
    "unreadable": unreadable,
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hangs": lambda: time.sleep(60),
}


class Noise(Examples):
    def __init__(self, count, failure=""):
        self.count, self.failure = count, failure

    def __len__(self):
        return self.count

    def name(self, index):
        return f"toy {index}"

    def example(self, index, draws):
        if index == 7:
            FAILURES[self.failure]()
        values = torch.randn(3, generator=draws.torch) + index
        return {"values": values, "index": torch.tensor(index)}


class ToyRecipe(Recipe):
    def __init__(self, task, optimization, examples, broken_at):
        super().__init__()
        self.encoder, self.broken_at = task.component, broken_at
        self.average = deepcopy(self.encoder.layer).requires_grad_(False)
        self.optimization = optimization
        self.examples, self.validation = examples, Noise(5)

    def forward(self, batch):
        predicted = self.encoder.layer(batch["values"])
        loss = (predicted - batch["values"].flip(1)).square().mean()
        if bool((batch["index"] == self.broken_at).any()):
            loss = loss * float("nan")
        drift = (predicted - self.average(batch["values"])).abs().mean()
        return {"loss": loss, "drift": drift.detach()}

    def after_step(self, step, total):
        for own, other in zip(self.average.parameters(), self.encoder.layer.parameters(), strict=True):
            own.lerp_(other, 0.5)

    def evaluate(self):
        return {"norm": float(self.encoder.layer.weight.norm())}

    def save_weights(self, path, about):
        save_state(self.encoder, path, about)


def toy_recipe(
    task, *, batch_size: int = 4, epochs: float = 5, learning_rate: float = 0.05, examples: int = 12,
    broken_at: int = -1, failure: str = "",
):  # fmt: skip
    """Learn to mirror colours.

    Args:
        task: what to train.
        batch_size: examples of a step.
        epochs: passes.
        learning_rate: of Adam.
        examples: in a pass.
        broken_at: example that gives NaN.
        failure: what reading example 7 ends in: unreadable, killed or hangs.
    """
    numbers = Optimization(
        "adam", learning_rate, lambda step, total: 1 - step / total, batch_size, epochs, clip_gradients=5.0
    )
    return ToyRecipe(task, numbers, Noise(examples, failure), broken_at)


@hookimpl
def ovvol_encoders():
    yield Entry("toy", ToyEncoder, "mean colours", {"toy": toy_recipe})
