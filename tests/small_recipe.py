"""A recipe that takes a millisecond a step, whose parts a test replaces."""

import torch
from torch import nn

from ovvol_bench.training import Examples, LossScope, Optimization, Recipe
from ovvol_bench.weights import save_state


class Points(Examples):
    def __init__(self, dtype=torch.float32):
        self.dtype = dtype

    def __len__(self):
        return 8

    def name(self, index):
        return f"point {index}"

    def example(self, index, draws):
        return {"values": torch.randn(3, generator=draws.torch).to(self.dtype)}


class SmallRecipe(Recipe):
    """A student learns from a teacher that follows it: a frozen module that changes in every step."""

    def __init__(self, scope=LossScope.EXAMPLE, batch_size=4, validation=None):
        super().__init__()
        torch.manual_seed(0)
        self.student, self.teacher = nn.Linear(3, 3), nn.Linear(3, 3).requires_grad_(False)
        self.register_buffer("passes", torch.zeros(()), persistent=False)
        self.examples, self.validation = Points(), validation
        self.optimization = Optimization("adam", 0.01, lambda step, total: 1.0, batch_size, epochs=3)
        self.loss_scope = scope

    def forward(self, batch):
        values = batch["values"].float()
        self.passes += self.training
        return {"loss": (self.student(values) - self.teacher(values.flip(1)) * self.passes).square().mean()}

    def after_step(self, step, total):
        for own, other in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            own.lerp_(other, 0.5)

    def save_weights(self, path, about):
        save_state(self.student, path, about)
