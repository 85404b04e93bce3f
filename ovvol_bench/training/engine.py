"""What runs the steps: `Engine` is what the loop asks of it; Accelerate does it, on one process or many."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ovvol_bench.errors import SettingError
from ovvol_bench.training.recipe import Batch, Losses, Optimization, Recipe

Precision = str
"""``float32``, ``bfloat16`` or ``float16``."""

MIXED = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}
"""Precisions by Accelerate's names."""


def trained_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that want gradients, by name."""
    return {name: value for name, value in module.named_parameters() if value.requires_grad}


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """All that a module holds by name: parameters, frozen ones too, and buffers, persistent or not."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def make_optimizer(parameters: Sequence[nn.Parameter], numbers: Optimization) -> torch.optim.Optimizer:
    """The optimizer that a recipe states, over some parameters."""
    vectors = [value for value in parameters if value.ndim < 2 and not numbers.decay_vectors]
    others = [value for value in parameters if value.ndim >= 2 or numbers.decay_vectors]
    groups = [
        {"params": values, "weight_decay": decay, "decays": values is others}
        for values, decay in ((others, numbers.weight_decay), (vectors, 0.0))
        if values
    ]
    if numbers.optimizer == "sgd":
        return torch.optim.SGD(groups, numbers.learning_rate, numbers.momentum, fused=True)
    kind = torch.optim.AdamW if numbers.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, numbers.learning_rate, numbers.betas, fused=True)


def set_numbers(optimizer: Any, learning_rate: float, weight_decay: float) -> None:
    """Let an optimizer take its next step with these; what `make_optimizer` made not to decay doesn't."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
        if group["decays"]:
            group["weight_decay"] = weight_decay


class Engine(ABC):
    """Forward, backward and update of a recipe's module on this process's device.

    Attributes:
        name: kept in checkpoints; another engine can't read them.
        device: where this process computes.
        processes: how many take part.
        rank: of this process, from 0.
        overflow_is_handled: whether steps with infinite gradients are left out and the loss scale
            lowered, as float16 needs.
    """

    name: str
    device: torch.device
    processes: int
    rank: int
    overflow_is_handled: bool

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    @abstractmethod
    def wait(self) -> None:
        """Wait until all processes are here."""

    @abstractmethod
    def mean(self, values: Tensor) -> Tensor:
        """Mean over processes of a float32 vector."""

    @abstractmethod
    def autocast(self) -> AbstractContextManager[object]:
        """The context of forward passes outside the trained module."""

    @abstractmethod
    def losses(self, batch: Batch) -> Losses:
        """Forward pass, for training."""

    @abstractmethod
    def backward(self, loss: Tensor, last: bool) -> None:
        """Add the gradients of one part of a step; processes exchange them after the last."""

    @abstractmethod
    def exchange(self, last: bool) -> AbstractContextManager[object]:
        """Around forward and backward of one part of a step: holds gradients back until the last."""

    @abstractmethod
    def gradient_norm(self) -> Tensor:
        """Norm of all gradients together, before they are clipped here: a float32 scalar on the device."""

    @abstractmethod
    def update(self, learning_rate: float, weight_decay: float) -> None:
        """Take the optimizer's step and forget the gradients."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write all that the module holds and the optimizer's state; called in every process."""

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Read what `save` wrote; called in every process."""

    @abstractmethod
    def close(self) -> None:
        """Leave the group of processes."""

    def whole_weights(self) -> AbstractContextManager[object]:
        """While parameters are read as a whole; entered by all processes."""
        return nullcontext()

    @contextmanager
    def measuring(self, module: nn.Module) -> Iterator[None]:
        """For forward passes that nothing is learned from."""
        module.eval()
        with torch.no_grad(), self.autocast():
            yield
        module.train()


class AccelerateEngine(Engine):
    """Hugging Face Accelerate.

    Args:
        recipe: whose module is trained, in place.
        precision: of forward and backward; parameters stay in float32.
        device: ``auto``, ``cpu`` or ``cuda``.
        parts: parts that a step is computed in, one after the other.

    Raises:
        SettingError: if the hardware can't do what is asked.
    """

    name = "accelerate"

    def __init__(self, recipe: Recipe, precision: Precision, device: str, parts: int) -> None:
        from accelerate import Accelerator

        if precision == "float16" and not torch.cuda.is_available():
            raise SettingError("--precision float16 needs a GPU. Use bfloat16 or float32.")
        self._accelerator = Accelerator(
            mixed_precision=MIXED[precision], cpu=device == "cpu" or not torch.cuda.is_available()
        )
        self.device = self._accelerator.device
        self.processes, self.rank = self._accelerator.num_processes, self._accelerator.process_index
        self._scaler = self._accelerator.scaler
        self.overflow_is_handled = self._scaler is not None
        self._parts, self._largest = parts, recipe.optimization.clip_gradients
        self._module = recipe.module.to(self.device)
        self._parameters = list(trained_parameters(recipe.module).values())
        optimizer = make_optimizer(self._parameters, recipe.optimization)
        self._model, self._optimizer = self._accelerator.prepare(recipe.module, optimizer)

    def wait(self) -> None:
        """See `Engine.wait`."""
        self._accelerator.wait_for_everyone()

    def mean(self, values: Tensor) -> Tensor:
        """See `Engine.mean`."""
        mean: Tensor = self._accelerator.reduce(values.to(self.device), "mean")
        return mean

    def autocast(self) -> AbstractContextManager[object]:
        """See `Engine.autocast`."""
        context: AbstractContextManager[object] = self._accelerator.autocast()
        return context

    def losses(self, batch: Batch) -> Losses:
        """See `Engine.losses`."""
        losses: Losses = self._model(batch)
        return losses

    def exchange(self, last: bool) -> AbstractContextManager[object]:
        """See `Engine.exchange`."""
        context: AbstractContextManager[object] = self._accelerator.no_sync(self._model)
        return nullcontext() if last else context

    def backward(self, loss: Tensor, last: bool) -> None:
        """See `Engine.backward`."""
        self._accelerator.backward(loss / self._parts)

    def gradient_norm(self) -> Tensor:
        """See `Engine.gradient_norm`."""
        norm: Tensor = self._accelerator.clip_grad_norm_(self._parameters, self._largest or float("inf"))
        return norm.float()

    def update(self, learning_rate: float, weight_decay: float) -> None:
        """See `Engine.update`."""
        set_numbers(self._optimizer, learning_rate, weight_decay)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def save(self, folder: Path) -> None:
        """See `Engine.save`; the first process writes."""
        if not self.is_main:
            return
        tensors = {name: value.detach().cpu().clone() for name, value in tensors_of(self._module).items()}
        save_file(tensors, folder / "module.safetensors")
        scale = self._scaler.state_dict() if self._scaler else {}
        torch.save({"optimizer": self._optimizer.state_dict(), "scaler": scale}, folder / "optimizer.pt")

    def load(self, folder: Path) -> None:
        """See `Engine.load`.

        Raises:
            ValueError: if it holds other parameters than are trained.
        """
        tensors = load_file(folder / "module.safetensors")  # to the CPU: neither reader knows "cpu:0"
        held = tensors_of(self._module)
        if differing := tensors.keys() ^ held.keys():
            raise ValueError(f"it has other parameters: {', '.join(sorted(differing)[:5])}")
        for name, value in held.items():
            value.data.copy_(tensors[name])
        states: dict[str, Any] = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)
        self._optimizer.load_state_dict(states["optimizer"])
        if self._scaler is not None and states["scaler"]:
            self._scaler.load_state_dict(states["scaler"])

    def close(self) -> None:
        """See `Engine.close`; the next training of this process may have another precision or device."""
        from accelerate.state import AcceleratorState

        self._accelerator.end_training()
        AcceleratorState._reset_state(reset_partial_state=True)
        leave_group()


def leave_group() -> None:
    """Leave the process group, if there is one."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
