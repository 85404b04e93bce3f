"""Steps run by DeepSpeed, which spreads optimizer states, gradients and parameters over processes (ZeRO)."""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ovvol_bench.errors import DataError, SettingError
from ovvol_bench.files import read_json
from ovvol_bench.training.engine import Engine, Precision, leave_group, optimizer_of
from ovvol_bench.training.optimization import Optimization, set_numbers
from ovvol_bench.training.order import Share
from ovvol_bench.training.recipe import Batch, Losses, Recipe

STAGES = {"zero1": 1, "zero2": 2, "zero3": 3}


def read_config(asked: str) -> dict[str, Any]:
    """Return the settings that a ``--deepspeed`` value means.

    Args:
        asked: ``zero1``, ``zero2``, ``zero3``, or a JSON file in DeepSpeed's own format.

    Raises:
        SettingError: if it is none of these, or the file isn't JSON.
    """
    if asked in STAGES:
        return {
            "zero_optimization": {
                "stage": STAGES[asked],
                "stage3_gather_16bit_weights_on_model_save": True,
            }
        }
    path = Path(asked)
    if not path.is_file():
        raise SettingError(f"--deepspeed {asked}: expected {', '.join(STAGES)}, or an existing JSON file.")
    try:
        config = read_json(path)
    except DataError as error:
        raise SettingError(f"--deepspeed {error}") from error
    if not isinstance(config, dict):
        raise SettingError(f"--deepspeed {asked}: expected a JSON object of DeepSpeed's settings.")
    return config


class DeepSpeedEngine(Engine):
    """DeepSpeed itself, not by way of Accelerate, which would need the transformers package.

    Args:
        recipe: is trained in place.
        precision: bfloat16 and float16 convert the module itself.
        device: ``auto``, ``cpu`` or ``cuda``.
        share: how steps are spread, which DeepSpeed wants to know.
        asked: see `read_config`.

    Raises:
        SettingError: if DeepSpeed isn't installed or can't work here.
    """

    def __init__(self, recipe: Recipe, precision: Precision, device: str, share: Share, asked: str) -> None:
        config = _full_config(read_config(asked), recipe.optimization, precision, share)
        self._stage = int(config.get("zero_optimization", {}).get("stage", 0))
        self.name = f"deepspeed zero{self._stage}"
        if importlib.util.find_spec("deepspeed") is None:
            raise SettingError(
                "--deepspeed needs DeepSpeed, which is not installed: pip install 'ovvol-bench[deepspeed]'. "
                "Training works without it: leave --deepspeed out, and use torchrun for several processes."
            )
        if "RANK" not in os.environ:
            _stand_alone()
        if device == "cpu" or not torch.cuda.is_available():
            os.environ.setdefault("DS_ACCELERATOR", "cpu")  # DeepSpeed asks the environment
        self._recipe, self._type = recipe, getattr(torch, precision)
        optimizer = optimizer_of(recipe)
        try:
            import deepspeed

            deepspeed.init_distributed()
            self._engine, self._optimizer, _, _ = deepspeed.initialize(
                model=recipe, optimizer=optimizer, config=config
            )
        except (ImportError, RuntimeError, ValueError, AssertionError, OSError) as error:
            raise SettingError(
                f"--deepspeed: DeepSpeed can't start here: {error}. Leave --deepspeed out to train without."
            ) from error
        self.device = self._engine.device
        self.processes, self.rank = share.processes, share.rank
        self.overflow_is_handled = precision == "float16"

    def wait(self) -> None:
        torch.distributed.barrier()

    def mean(self, values: Tensor) -> Tensor:
        mean = values.to(self.device)
        torch.distributed.all_reduce(mean)
        return mean / self.processes

    def autocast(self) -> AbstractContextManager[object]:
        mixed = self._type != torch.float32
        return torch.autocast(self.device.type, self._type) if mixed else nullcontext()

    def losses(self, batch: Batch) -> Losses:
        with self.autocast():
            losses: Losses = self._engine(batch)
        return losses

    def exchange(self, last: bool) -> AbstractContextManager[object]:
        return nullcontext()  # DeepSpeed counts the parts itself

    def backward(self, loss: Tensor, last: bool) -> None:
        self._engine.backward(loss)  # divides by the number of parts itself
        if not last:
            self._engine.step()  # no update yet: it counts

    def gradient_norm(self) -> Tensor:
        # Of the step before, as DeepSpeed measures it while updating.
        norm = self._engine.get_global_grad_norm()
        return torch.as_tensor(0.0 if norm is None else norm, dtype=torch.float32, device=self.device)

    def update(self, factor: float, weight_decay: float) -> None:
        set_numbers(self._optimizer, factor, weight_decay)
        self._engine.step()

    def save(self, folder: Path) -> None:
        self._engine.save_checkpoint(str(folder), tag="state", exclude_frozen_parameters=False)

    def load(self, folder: Path) -> None:
        from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
        from deepspeed.runtime.zero.config import ZeroStageEnum
        from deepspeed.utils.tensor_fragment import fragment_address

        # DeepSpeed unpickles what it reads.
        refuse_objects(folder, (LossScaler, DynamicLossScaler, ZeroStageEnum, fragment_address))
        self._engine.load_checkpoint(str(folder), tag="state", load_module_strict=False)

    def whole_weights(self, to_write: bool = False) -> AbstractContextManager[object]:
        if self._stage < 3:
            return nullcontext()
        import deepspeed

        gathered: AbstractContextManager[object] = deepspeed.zero.GatheredParameters(
            list(self._recipe.parameters()), modifier_rank=0 if to_write else None
        )
        return gathered

    def close(self) -> None:
        leave_group()


def refuse_objects(folder: Path, records: Sequence[type]) -> None:
    """Refuse files that hold more than tensors, plain values and DeepSpeed's own records of them.

    Args:
        folder: that DeepSpeed wrote a checkpoint into.
        records: its own kinds.

    Raises:
        UnpicklingError: names what a file holds; nothing of it was run.
    """
    with torch.serialization.safe_globals(list(records)):
        for file in sorted(folder.rglob("*.pt")):
            torch.load(file, map_location="cpu", weights_only=True)


def _full_config(
    config: dict[str, Any], numbers: Optimization, precision: Precision, share: Share
) -> dict[str, Any]:
    """Complete a configuration by all that the recipe and the command line decide."""
    types = {"bf16": {"enabled": precision == "bfloat16"}, "fp16": {"enabled": precision == "float16"}}
    return {
        **config,
        **{name: {**config.get(name, {}), **values} for name, values in types.items()},
        "train_micro_batch_size_per_gpu": share.micro_batch,
        "gradient_accumulation_steps": share.parts,
        "gradient_clipping": numbers.clip_gradients or 0.0,
        "zero_allow_untested_optimizer": True,
    }


def _stand_alone() -> None:
    """Make a process that no launcher started a group of one: DeepSpeed needs one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    alone = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in alone.items()})
