"""What a recipe is: a component's own account of how it is trained.

A recipe says what a step sees, what it minimises and with which numbers; `loop` does the rest. The
random draws of an example depend on the seed, the pass over the data and the example alone, so that
batch size, order, number of processes and resuming leave the training as it is.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor, nn

from ovvol_bench.benchmark import Dataset
from ovvol_bench.components import Component, Encoder
from ovvol_bench.errors import ContractError, SettingError
from ovvol_bench.runs.draws import seed_from

Batch = dict[str, Tensor]
"""Tensors of a batch by name, the first dimension counts examples."""

Losses = dict[str, Tensor]
"""Scalars of a step by name: ``loss``, which is minimised, and whatever else is worth a curve."""

Value = TypeVar("Value")

Factor = Callable[[int, int], float]
"""(optimizer steps done, steps in all) to a factor of the learning rate; see `schedules`."""


@dataclass(frozen=True)
class TrainingTask:
    """What a recipe is made for.

    Attributes:
        component: to be trained; weights that it was given are where training starts.
        dataset: to learn from.
        validation: to measure on, from another split; None: nothing is measured.
        encoder: frozen, for groupers; None otherwise.
        cache: folder for what is worth keeping between runs, such as features.
        seed: of all draws.
        workers: processes that may read for what is made beforehand, such as features; 0: none.
    """

    component: Component
    dataset: Dataset
    validation: Dataset | None
    encoder: Encoder | None
    cache: Path
    seed: int
    workers: int = 0


@dataclass(frozen=True)
class Optimization:
    """The numbers of an optimisation.

    Attributes:
        optimizer: by name.
        learning_rate: before ``factor``.
        factor: what the learning rate is multiplied with, by optimizer step.
        batch_size: examples of one optimizer step, over all processes and accumulated parts.
        epochs: passes over the examples.
        weight_decay: decoupled for ``adamw``, L2 for the others.
        final_weight_decay: what half a cosine takes it to by the last step; None: it stays.
        decay_vectors: false: biases and other parameters of one dimension do not decay.
        betas: of Adam and AdamW.
        momentum: of SGD.
        clip_gradients: largest norm of all gradients together; None: not clipped.

    Raises:
        SettingError: if a number is out of range.
    """

    optimizer: Literal["adam", "adamw", "sgd"]
    learning_rate: float
    factor: Factor
    batch_size: int
    epochs: float
    weight_decay: float = 0.0
    final_weight_decay: float | None = None
    decay_vectors: bool = True
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    clip_gradients: float | None = None

    def __post_init__(self) -> None:
        for name in ("learning_rate", "batch_size", "epochs"):
            if not getattr(self, name) > 0:
                raise SettingError(f"recipe.{name}={getattr(self, name)}: expected more than 0.")
        if self.clip_gradients is not None and not self.clip_gradients > 0:
            raise SettingError(f"recipe.clip_gradients={self.clip_gradients}: expected more than 0, or none.")
        if not all(0 <= beta < 1 for beta in self.betas):
            betas = ",".join(map(str, self.betas))
            raise SettingError(f"recipe.betas={betas}: expected two numbers from 0 to below 1.")
        if not 0 <= self.momentum < 1:
            raise SettingError(f"recipe.momentum={self.momentum}: expected 0 to below 1.")
        for name in ("weight_decay", "final_weight_decay"):
            if (getattr(self, name) or 0) < 0:
                raise SettingError(f"recipe.{name}={getattr(self, name)}: expected 0 or more.")

    def decay(self, step: int, total: int) -> float:
        """The weight decay of a step, from 0."""
        if self.final_weight_decay is None:
            return self.weight_decay
        passed = 0.5 * (1 - math.cos(math.pi * step / max(1, total - 1)))
        return self.weight_decay + (self.final_weight_decay - self.weight_decay) * passed


@dataclass(frozen=True)
class Draws:
    """Where the randomness of one example comes from.

    Attributes:
        key: names the seed, the pass over the data and the example.
        shared_key: names the seed and the optimizer step: the same for all examples of a step, for what
            a batch must have in common, such as its frame size.
        place: of the example in the step, from 0.
    """

    key: str
    shared_key: str
    place: int = 0

    @cached_property
    def numpy(self) -> np.random.Generator:
        """The example's own generator for numpy."""
        return np.random.default_rng(seed_from(self.key))

    @cached_property
    def torch(self) -> Generator:
        """The example's own generator for torch, on the CPU."""
        return torch.Generator().manual_seed(seed_from(self.key))

    @cached_property
    def shared(self) -> np.random.Generator:
        """The step's generator: every example of the step draws the same from it."""
        return np.random.default_rng(seed_from(self.shared_key))


class Examples(ABC):
    """What there is to learn from, by index.

    Attributes:
        skipped: what was left out, reason to count.
    """

    skipped: Mapping[str, int] = MappingProxyType({})

    @abstractmethod
    def __len__(self) -> int:
        """Number of examples in a pass over the data, at least 1."""

    @abstractmethod
    def name(self, index: int) -> str:
        """What the example is called, for messages and draws; unique and stable over runs."""

    @abstractmethod
    def example(self, index: int, draws: Draws) -> Batch:
        """Read and augment one example; called in worker processes.

        Args:
            index: in [0, len).
            draws: the only source of randomness allowed.

        Returns:
            CPU tensors without the batch dimension; of one shape over the examples of a step, or those of
            it that `Recipe.alike` names.

        Raises:
            DecodeError: if it can't be read.
        """


class LossScope(Enum):
    """What the loss of one example depends on: a loss that compares examples can't be computed in parts."""

    EXAMPLE = "the example alone"
    PROCESS = "the examples of a step that the same process has"
    STEP = "all examples of a step"


class Recipe(ABC):
    """How one component is trained.

    Attributes:
        optimization: the numbers.
        module: everything that is trained; ``forward(batch)`` gives the `Losses` of a batch, each a mean
            over examples of equal weight. What needs no gradient isn't trained, and kept in checkpoints
            like all else; what never changes belongs in `prepare`.
        loss_scope: what the loss of one example depends on.
        alike: examples of a step that are of one shape: the first so many, the next, and so on; only these
            are computed together. None: all.
        examples: what to learn from.
        validation: what to measure the loss on, or None.
    """

    optimization: Optimization
    module: nn.Module
    examples: Examples
    validation: Examples | None = None
    loss_scope: LossScope = LossScope.EXAMPLE
    alike: int | None = None

    @abstractmethod
    def save_weights(self, path: Path, about: Mapping[str, str]) -> None:
        """Write what the component's ``load_weights`` reads.

        Args:
            path: a .safetensors file.
            about: how they came to be, for the file's header.
        """

    def prepare(self, batch: Batch) -> Batch:
        """Turn a batch into what ``module`` takes, on its device, without gradients.

        For frozen parts, such as the encoder of a grouper, which would otherwise be wrapped and saved
        with the module.
        """
        return batch

    def evaluate(self) -> Mapping[str, float]:
        """Further numbers by name, measured on validation data with the module as it is."""
        return {}

    def pictures(self, batch: Batch) -> Mapping[str, npt.NDArray[np.uint8]]:
        """Pictures by name, each (H, W, 3) uint8, of a prepared batch with the module as it is."""
        return {}

    def remark(self, numbers: Mapping[str, float]) -> str | None:
        """What is wrong with how the training goes, to be said once; called after each step.

        Args:
            numbers: of the step by name: ``step``, the losses, ``learning_rate``, ``gradient_norm``.
        """
        return None

    def finish(self) -> None:
        """Called once after the last step, before the weights are saved; does nothing by default."""
        return


def named_values(given: Mapping[str, Value], where: str) -> dict[str, Value]:
    """What a recipe gave, if it has names.

    Args:
        given: by the recipe's own code.
        where: it came from, for the message.

    Raises:
        ContractError: if it is something else, such as None where a ``return`` was forgotten.
    """
    if not isinstance(given, Mapping):
        raise ContractError(f"{where} returned a {type(given).__name__}; expected values by name, a dict.")
    return dict(given)
