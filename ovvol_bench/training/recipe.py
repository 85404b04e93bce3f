"""Recipes: a component's own account of how it is trained.

A recipe says what a step sees, what it minimises and with which numbers; `loop` does the rest. The
random draws of an example depend on the seed, the pass over the data and the example alone, so that
batch size, order, number of processes and resuming leave the training as it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor, nn

from ovvol_bench.components import Component, Encoder
from ovvol_bench.data.base import Dataset
from ovvol_bench.errors import ContractError, SettingError
from ovvol_bench.pipeline import seed_from
from ovvol_bench.training.optimization import Group, Optimization, trained_parameters

Batch = dict[str, Tensor]
"""Tensors of a batch by name, the first dimension counts examples."""

Losses = dict[str, Tensor]
"""Scalars of a step by name: ``loss``, which is minimised, and whatever else is worth a curve."""

Value = TypeVar("Value")
Trained = TypeVar("Trained", bound=Component)


@dataclass(frozen=True)
class TrainingTask:
    """Task that a recipe is made for.

    Attributes:
        component: to be trained; weights that it was given are where training starts.
        dataset: to learn from.
        validation: to measure on, from another split; None: nothing is measured.
        encoder: frozen, for groupers; None otherwise.
        cache: folder for what is worth keeping between runs, such as features.
        seed: of all draws.
        workers: processes that may read for what is made beforehand, such as features; 0: none.
        frames: of a clip of the dataset.
    """

    component: Component
    dataset: Dataset
    validation: Dataset | None
    encoder: Encoder | None
    cache: Path
    seed: int
    workers: int = 0
    frames: int = 8


@dataclass(frozen=True)
class Draws:
    """Sources of an example's randomness.

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
    """Examples to learn from, by index.

    Attributes:
        skipped: what was left out, reason to count.
    """

    skipped: Mapping[str, int] = MappingProxyType({})

    @abstractmethod
    def __len__(self) -> int:
        """Number of examples in a pass over the data, at least 1."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Return the example's name, for messages and draws; unique and stable over runs."""

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
    """Scope of an example's loss: one that compares examples can't be computed in parts."""

    EXAMPLE = "the example alone"
    PROCESS = "the examples of a step that the same process has"
    STEP = "all examples of a step"


class Recipe(nn.Module, ABC):
    """Training of a component.

    A recipe is a module: modules and parameters that are assigned to it are trained, and kept in checkpoints.
    What needs no gradient, such as a teacher, isn't trained and kept all the same. What never changes, such
    as a frozen encoder, is set with `hold` and used in `prepare`.

    Attributes:
        optimization: the numbers.
        examples: what to learn from.
        validation: what to measure the loss on, or None.
        loss_scope: what the loss of one example depends on.
        alike: examples of a step that are of one shape: the first so many, the next, and so on; only these
            are computed together. None: all.
    """

    optimization: Optimization
    examples: Examples
    validation: Examples | None = None
    loss_scope: LossScope = LossScope.EXAMPLE
    alike: int | None = None

    def hold(self, **values: object) -> None:
        """Set attributes whose modules are neither trained, nor moved to a device, nor saved."""
        for name, value in values.items():
            self._modules.pop(name, None)  # a base may have assigned it, to be trained
            object.__setattr__(self, name, value)

    @abstractmethod
    def forward(self, batch: Batch) -> Losses:
        """Compute the losses of a prepared batch, each a mean over examples of equal weight."""

    @abstractmethod
    def save_weights(self, path: Path, about: Mapping[str, str]) -> None:
        """Write what the component's ``load_weights`` reads.

        Args:
            path: a .safetensors file.
            about: how they came to be, for the file's header.
        """

    def prepare(self, batch: Batch) -> Batch:
        """Turn a batch into what `forward` takes, on its device, without gradients: for frozen parts."""
        return batch

    def parameter_groups(self) -> Sequence[Group]:
        """Split the trained parameters for the optimizer, as PyTorch's optimizers take them.

        Returns:
            Dictionaries with ``params``; where they are not those of ``optimization`` with ``lr``, which the
            schedule multiplies, and ``weight_decay``, which then stays as it is.
        """
        trained = list(trained_parameters(self).values())
        if self.optimization.decay_vectors:
            return [{"params": trained}]
        vectors = [value for value in trained if value.ndim < 2]
        others: list[Group] = [{"params": [value for value in trained if value.ndim >= 2]}]
        return others + ([{"params": vectors, "weight_decay": 0.0}] if vectors else [])

    def after_step(self, step: int, total: int) -> None:
        """Follow an optimizer step, without gradients and in all processes alike: for teachers, for example.

        Args:
            step: optimizer steps done, from 1.
            total: steps in all.
        """

    def evaluate(self) -> Mapping[str, float]:
        """Measure further numbers by name on validation data, with the module as it is."""
        return {}

    def pictures(self, batch: Batch) -> Mapping[str, npt.NDArray[np.uint8]]:
        """Draw pictures by name, each (H, W, 3) uint8, of a prepared batch with the module as it is."""
        return {}

    def remark(self, numbers: Mapping[str, float]) -> str | None:
        """Return what is wrong with how the training goes, to be said once; called after each step.

        Args:
            numbers: of the step by name: ``step``, the losses, ``learning_rate``, ``gradient_norm``.
        """
        return None

    def finish(self) -> None:
        """Follow the last step, before the weights are saved; does nothing by default."""


def component_of(task: TrainingTask, kind: type[Trained]) -> Trained:
    """Return the component to train.

    Raises:
        SettingError: if it is of another kind.
    """
    if not isinstance(task.component, kind):
        given = type(task.component).__name__
        raise SettingError(f"the recipe trains components of class {kind.__name__}; it was given a {given}.")
    return task.component


def normalised(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Bring pixels (..., 3, H, W) uint8 to float32, by mean and deviation of values in [0, 1]."""
    values = pixels.to(torch.float32, copy=True)
    center, spread = (255 * values.new_tensor(numbers).view(3, 1, 1) for numbers in (mean, std))
    return values.sub_(center).div_(spread)


def named_values(given: Mapping[str, Value], where: str) -> dict[str, Value]:
    """Return the values that a recipe gave, if they have names.

    Args:
        given: by the recipe's own code.
        where: it came from, for the message.

    Raises:
        ContractError: if it is something else, such as None where a ``return`` was forgotten.
    """
    if not isinstance(given, Mapping):
        raise ContractError(f"{where} returned a {type(given).__name__}; expected values by name, a dict.")
    return dict(given)
