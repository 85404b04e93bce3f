"""The numbers of an optimization, learning rates over time, and the optimizer that they make."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from ovvol_bench.errors import ContractError, SettingError

Factor = Callable[[int, int], float]
"""(optimizer steps done, steps in all) to a factor of the learning rate."""

Group = dict[str, Any]
"""Parameters for an optimizer: ``params``, and ``lr`` and ``weight_decay`` unless as usual."""


@dataclass(frozen=True)
class Optimization:
    """The numbers of an optimization.

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
        """Return the weight decay of a step, from 0."""
        if self.final_weight_decay is None:
            return self.weight_decay
        passed = 0.5 * (1 - math.cos(math.pi * step / max(1, total - 1)))
        return self.weight_decay + (self.final_weight_decay - self.weight_decay) * passed


def warmup_cosine(step: int, total: int, warmup: int, floor: float = 0.0, from_zero: bool = False) -> float:
    """Linear rise, then half a cosine down to ``floor`` (Loshchilov & Hutter, SGDR, ICLR 2017, eq. 5).

    Args:
        step: optimizer steps done, in [0, total].
        total: steps in all.
        warmup: steps of the rise, from 1 / warmup in the first step.
        floor: factor at the end, in [0, 1].
        from_zero: the rise is from 0 in the first step to 1 in its last, as in MAE's and VideoMAE's programs.

    Returns:
        Factor in [0, 1].

    >>> [round(warmup_cosine(step, 6, 2), 2) for step in range(7)]
    [0.5, 1.0, 1.0, 0.85, 0.5, 0.15, 0.0]
    """
    if step < warmup and from_zero:
        return step / max(1, warmup - 1)
    if step < warmup:
        return (step + 1) / warmup
    passed = (step - warmup) / max(1, total - warmup)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, passed)))


def warmup_exponential(step: int, total: int, warmup: int, decay_rate: float, decay_steps: int) -> float:
    """Linear rise from 0, times an exponential decay that already runs meanwhile (Locatello et al. 2020).

    Args:
        step: optimizer steps done, from 0.
        total: steps in all; they change nothing.
        warmup: steps of the rise.
        decay_rate: factor gained every ``decay_steps`` steps.
        decay_steps: see ``decay_rate``.

    Returns:
        Factor in [0, 1].
    """
    rise = min(1.0, step / warmup) if warmup else 1.0
    return rise * math.pow(decay_rate, step / decay_steps)


def make_schedule(name: str, warmup_steps: int, decay_rate: float, decay_steps: int) -> Factor:
    """Make the schedule that a recipe's settings name.

    Args:
        name: ``cosine``, see `warmup_cosine`, or ``exponential``, see `warmup_exponential`.
        warmup_steps: of both.
        decay_rate: of ``exponential``, in (0, 1].
        decay_steps: of ``exponential``.

    Raises:
        SettingError: if a number is out of range.
    """
    if warmup_steps < 0:
        raise SettingError(f"recipe.warmup_steps={warmup_steps}: expected 0 or more.")
    if not 0 < decay_rate <= 1:
        raise SettingError(f"recipe.decay_rate={decay_rate:g}: expected above 0 and at most 1.")
    if decay_steps < 1:
        raise SettingError(f"recipe.decay_steps={decay_steps}: expected at least 1.")
    if name == "cosine":
        return partial(warmup_cosine, warmup=warmup_steps)
    return partial(warmup_exponential, warmup=warmup_steps, decay_rate=decay_rate, decay_steps=decay_steps)


def check_final_rate(final: float, peak: float) -> None:
    """Refuse a learning rate at the end of a cosine that is not in [0, peak].

    Raises:
        SettingError: names the settings.
    """
    if not 0 <= final <= peak:
        raise SettingError(
            f"recipe.final_learning_rate={final:g}: expected 0 to recipe.learning_rate={peak:g}."
        )


def trained_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that want gradients, by name."""
    return {name: value for name, value in module.named_parameters() if value.requires_grad}


def make_optimizer(groups: Sequence[Mapping[str, Any]], numbers: Optimization) -> torch.optim.Optimizer:
    """Make the optimizer that a recipe states.

    Args:
        groups: its parameters, see `Recipe.parameter_groups`.
        numbers: for what the groups leave open.
    """
    full = [
        {
            "weight_decay": numbers.weight_decay,
            **group,
            "initial_lr": group.get("lr", numbers.learning_rate),
            "decays": "weight_decay" not in group,
        }
        for group in groups
    ]
    if numbers.optimizer == "sgd":
        return torch.optim.SGD(full, numbers.learning_rate, numbers.momentum, fused=True)
    kind = torch.optim.AdamW if numbers.optimizer == "adamw" else torch.optim.Adam
    return kind(full, numbers.learning_rate, numbers.betas, fused=True)


def set_numbers(optimizer: Any, factor: float, weight_decay: float) -> None:
    """Set the numbers of the next step: a factor of every group's learning rate, and the usual decay."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
        if group["decays"]:
            group["weight_decay"] = weight_decay


def check_groups(groups: Sequence[Mapping[str, Any]], module: nn.Module, where: str) -> None:
    """Refuse groups that leave a trained parameter out, or have one twice.

    Args:
        groups: of an optimizer.
        module: that is trained.
        where: the groups came from, for the message.

    Raises:
        ContractError: names the parameter.
    """
    listed = [id(value) for group in groups for value in group["params"]]
    for name, value in trained_parameters(module).items():
        if listed.count(id(value)) != 1:
            times = "in none of the groups" if id(value) not in listed else "in several groups"
            raise ContractError(f"{where}: parameter {name} is {times}; expected every trained one once.")
