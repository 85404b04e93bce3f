"""Engines that run the steps, and the group of processes that they run in.

`Engine` is the interface; Accelerate's, on one process or many, is here, DeepSpeed's in ``deepspeed``.
"""

from __future__ import annotations

import os
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ovvol_bench.errors import SettingError, calling
from ovvol_bench.training.optimization import check_groups, make_optimizer, set_numbers, trained_parameters
from ovvol_bench.training.recipe import Batch, Losses, Recipe

Precision = str
"""``float32``, ``bfloat16`` or ``float16``."""

MIXED = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}
"""Precisions by Accelerate's names."""


class Launcher(NamedTuple):
    """Environment variables by which a launcher states a process's place.

    Attributes:
        rank: of the process, from 0.
        size: number of processes.
        local_rank: among those of its machine.
        local_size: how many its machine has.
        job: the same in all processes of a start, and in no other's.
    """

    rank: str
    size: str
    local_rank: str
    local_size: str
    job: str


_MPI = "OMPI_COMM_WORLD"
LAUNCHERS = (
    # Of the step, which srun makes: a batch script's own process has SLURM_NTASKS as well, and is alone.
    Launcher(
        "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE", "SLURM_JOB_ID"
    ),
    Launcher(f"{_MPI}_RANK", f"{_MPI}_SIZE", f"{_MPI}_LOCAL_RANK", f"{_MPI}_LOCAL_SIZE", "PMIX_NAMESPACE"),
    Launcher("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", "PMI_JOBID"),  # MPICH, Intel
)
_PORTS = range(20_000, 40_000)


def join_group() -> None:
    """Let PyTorch find the processes that Slurm's srun or an mpirun started beside this one.

    What torchrun states is left as it is. On several machines MASTER_ADDR and MASTER_PORT must be given.

    Raises:
        SettingError: if the place of this process, or where to meet, is not stated.
    """
    found = os.environ
    if "RANK" in found or "WORLD_SIZE" in found:
        _check_place("RANK", "WORLD_SIZE")
        return
    launcher = next((each for each in LAUNCHERS if found.get(each.size, "1") != "1"), None)
    if launcher is None:
        return
    rank, size = _check_place(launcher.rank, launcher.size)
    if "MASTER_ADDR" not in found and found.get(launcher.local_size, size) != size:
        raise SettingError(
            f"{launcher.size}={size} processes on several machines: set MASTER_ADDR and MASTER_PORT to where "
            "the first one is reached, or start the training with torchrun."
        )
    found["RANK"], found["WORLD_SIZE"] = rank, size
    found["LOCAL_RANK"] = found.get(launcher.local_rank, rank)
    found["LOCAL_WORLD_SIZE"] = found.get(launcher.local_size, size)
    found.setdefault("MASTER_ADDR", "127.0.0.1")
    # All processes of a start must meet at one port, and those of another start at another.
    job = found.get(launcher.job) or str(os.getppid())
    found.setdefault("MASTER_PORT", str(_PORTS[zlib.crc32(job.encode()) % len(_PORTS)]))


def _check_place(rank: str, size: str) -> tuple[str, str]:
    """Read rank and number of processes from two variables, if they make sense."""
    given = os.environ.get(rank, ""), os.environ.get(size, "")
    if all(text.isdecimal() for text in given) and int(given[0]) < int(given[1]):
        return given
    raise SettingError(
        f"{rank}={given[0] or 'not set'}, {size}={given[1] or 'not set'} in the environment: expected a "
        "number from 0 and a larger one. Start the processes with torchrun, or unset both to train with one."
    )


def leave_group() -> None:
    """Leave the process group, if there is one."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Return all that a module holds by name: parameters, frozen ones too, and buffers, persistent or not."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def optimizer_of(recipe: Recipe) -> torch.optim.Optimizer:
    """Make the optimizer that a recipe states, over the groups that it gives.

    Raises:
        ContractError: if the groups don't hold every trained parameter once.
    """
    where = f"{type(recipe).__name__}.parameter_groups"
    with calling(where):
        groups = recipe.parameter_groups()
    check_groups(groups, recipe, where)
    return make_optimizer(groups, recipe.optimization)


class Engine(ABC):
    """Forward, backward and update of a recipe on this process's device.

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
        """True in the process that writes files and prints."""
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
    def update(self, factor: float, weight_decay: float) -> None:
        """Take the optimizer's step and forget the gradients; ``factor`` is of the learning rate."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write all that the module holds and the optimizer's state; called in every process."""

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Read what `save` wrote; called in every process.

        Raises:
            ValueError: if it holds other parameters than are trained.
        """

    @abstractmethod
    def close(self) -> None:
        """Leave the group of processes."""

    def whole_weights(self, to_write: bool = False) -> AbstractContextManager[object]:
        """Bring parameters together to be read, or written alike by all processes; entered by all of them."""
        return nullcontext()

    @contextmanager
    def measuring(self, recipe: Recipe) -> Iterator[None]:
        """Set up forward passes that nothing is learned from."""
        recipe.eval()
        with torch.no_grad(), self.autocast():
            yield
        recipe.train()


class AccelerateEngine(Engine):
    """Hugging Face Accelerate.

    Args:
        recipe: is trained in place.
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
        self._recipe = recipe.to(self.device)
        self._parameters = list(trained_parameters(recipe).values())
        self._model, self._optimizer = self._accelerator.prepare(recipe, optimizer_of(recipe))

    def wait(self) -> None:
        self._accelerator.wait_for_everyone()

    def mean(self, values: Tensor) -> Tensor:
        mean: Tensor = self._accelerator.reduce(values.to(self.device), "mean")
        return mean

    def autocast(self) -> AbstractContextManager[object]:
        context: AbstractContextManager[object] = self._accelerator.autocast()
        return context

    def losses(self, batch: Batch) -> Losses:
        losses: Losses = self._model(batch)
        return losses

    def exchange(self, last: bool) -> AbstractContextManager[object]:
        context: AbstractContextManager[object] = self._accelerator.no_sync(self._model)
        return nullcontext() if last else context

    def backward(self, loss: Tensor, last: bool) -> None:
        self._accelerator.backward(loss / self._parts)

    def gradient_norm(self) -> Tensor:
        norm: Tensor = self._accelerator.clip_grad_norm_(self._parameters, self._largest or float("inf"))
        return norm.float()

    def update(self, factor: float, weight_decay: float) -> None:
        set_numbers(self._optimizer, factor, weight_decay)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def save(self, folder: Path) -> None:
        if not self.is_main:  # all hold the same
            return
        tensors = {name: value.detach().cpu().clone() for name, value in tensors_of(self._recipe).items()}
        save_file(tensors, folder / "module.safetensors")
        scale = self._scaler.state_dict() if self._scaler else {}
        torch.save({"optimizer": self._optimizer.state_dict(), "scaler": scale}, folder / "optimizer.pt")

    def load(self, folder: Path) -> None:
        tensors = load_file(folder / "module.safetensors")  # to the CPU: neither reader knows "cpu:0"
        held = tensors_of(self._recipe)
        if differing := tensors.keys() ^ held.keys():
            raise ValueError(f"it has other parameters: {', '.join(sorted(differing)[:5])}")
        for name, value in held.items():
            value.data.copy_(tensors[name])
        states: dict[str, Any] = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)
        self._optimizer.load_state_dict(states["optimizer"])
        if self._scaler is not None and states["scaler"]:
            self._scaler.load_state_dict(states["scaler"])

    def close(self) -> None:
        from accelerate.state import AcceleratorState

        self._accelerator.end_training()
        # The next training of this process may have another precision or device.
        AcceleratorState._reset_state(reset_partial_state=True)
        leave_group()
