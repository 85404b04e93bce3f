"""What runs the steps: Hugging Face Accelerate, on one process or many; `deepspeed` is the other one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ovvol_bench.errors import SettingError
from ovvol_bench.training.recipe import Batch, Losses, Optimization, Recipe

if TYPE_CHECKING:
    from accelerate import Accelerator

Precision = str
"""``float32``, ``bfloat16`` or ``float16``."""

MIXED = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}
"""Precisions by Accelerate's names."""


def trained_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that want gradients, by name."""
    return {name: value for name, value in module.named_parameters() if value.requires_grad}


def make_optimizer(parameters: list[nn.Parameter], numbers: Optimization) -> torch.optim.Optimizer:
    """The optimizer that a recipe states, over some parameters."""
    rate, decay = numbers.learning_rate, numbers.weight_decay
    if numbers.optimizer == "sgd":
        return torch.optim.SGD(parameters, rate, numbers.momentum, weight_decay=decay, fused=True)
    kind = torch.optim.AdamW if numbers.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, rate, numbers.betas, weight_decay=decay, fused=True)


class Engine:
    """Forward, backward and update of a recipe's module on this process's device.

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
        self._parts = parts
        self._numbers = recipe.optimization
        self.accelerator = self._accelerator(precision, device)
        recipe.module.to(self.device)
        parameters = list(trained_parameters(recipe.module).values())
        optimizer = make_optimizer(parameters, recipe.optimization)
        self.model, self.optimizer = self.accelerator.prepare(recipe.module, optimizer)
        self._module, self._parameters = recipe.module, parameters

    def _accelerator(self, precision: Precision, device: str) -> Accelerator:
        from accelerate import Accelerator

        if precision == "float16" and not torch.cuda.is_available():
            raise SettingError("--precision float16 needs a GPU. Use bfloat16 or float32.")
        return Accelerator(mixed_precision=MIXED[precision], cpu=device == "cpu")

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        device: torch.device = self.accelerator.device
        return device

    @property
    def processes(self) -> int:
        """How many processes take part."""
        return int(self.accelerator.num_processes)

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return int(self.accelerator.process_index)

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.accelerator.wait_for_everyone()

    def mean(self, values: Tensor) -> Tensor:
        """Mean over processes of a float32 vector."""
        mean: Tensor = self.accelerator.reduce(values.to(self.device), "mean")
        return mean

    def losses(self, batch: Batch) -> Losses:
        """Forward pass, for training."""
        with self.accelerator.autocast():
            losses: Losses = self.model(batch)
        return losses

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """For forward passes that nothing is learned from."""
        self._module.eval()
        with torch.no_grad(), self.accelerator.autocast():
            yield
        self._module.train()

    @contextmanager
    def synchronised(self, last: bool) -> Iterator[None]:
        """Around forward and backward of one part of a step; gradients are exchanged after the last."""
        if last:
            yield
        else:
            with self.accelerator.no_sync(self.model):
                yield

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of one part of a step."""
        self.accelerator.backward(loss / self._parts)

    def gradient_norm(self) -> float:
        """Norm of all gradients together, before they are clipped here; infinite if they overflowed."""
        largest = self._numbers.clip_gradients
        norm = self.accelerator.clip_grad_norm_(self._parameters, largest or float("inf"))
        return float(norm)

    @property
    def overflow_is_handled(self) -> bool:
        """Whether steps with infinite gradients are left out and the loss scale lowered (float16)."""
        return self.accelerator.scaler is not None

    def update(self, learning_rate: float) -> None:
        """Take the optimizer's step and forget the gradients."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def save(self, folder: Path) -> None:
        """Write what is trained and the optimizer's state; by one process."""
        if not self.is_main:
            return
        save_file(self._state(), folder / "module.safetensors")
        scaler = self.accelerator.scaler
        states = {"optimizer": self.optimizer.state_dict(), "scaler": scaler.state_dict() if scaler else {}}
        torch.save(states, folder / "optimizer.pt")

    def load(self, folder: Path) -> None:
        """Read what `save` wrote, in every process."""
        tensors = load_file(folder / "module.safetensors", device=str(self.device))
        self._module.load_state_dict(tensors, strict=False)
        states: dict[str, Any] = torch.load(
            folder / "optimizer.pt", map_location=self.device, weights_only=True
        )
        self.optimizer.load_state_dict(states["optimizer"])
        if self.accelerator.scaler is not None and states["scaler"]:
            self.accelerator.scaler.load_state_dict(states["scaler"])

    @contextmanager
    def whole_weights(self) -> Iterator[None]:
        """While parameters are read as a whole; entered by all processes."""
        yield

    def close(self) -> None:
        """Leave the process group."""
        self.accelerator.end_training()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    def _state(self) -> dict[str, Tensor]:
        """Trained parameters and persistent buffers."""
        kept = trained_parameters(self._module).keys() | dict(self._module.named_buffers()).keys()
        state = self._module.state_dict()
        return {name: state[name].detach().cpu().clone() for name in state if name in kept}
