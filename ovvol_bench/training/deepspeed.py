"""Steps run by DeepSpeed, which spreads optimizer states, gradients and parameters over processes (ZeRO)."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ovvol_bench.errors import SettingError
from ovvol_bench.training.engine import MIXED, Engine, Precision
from ovvol_bench.training.order import Share
from ovvol_bench.training.recipe import Recipe

if TYPE_CHECKING:
    from accelerate import Accelerator

STAGES = {"zero1": 1, "zero2": 2, "zero3": 3}


def read_config(asked: str) -> dict[str, Any]:
    """The settings that a ``--deepspeed`` value means.

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
            },
            "zero_allow_untested_optimizer": True,
        }
    path = Path(asked)
    if not path.is_file():
        raise SettingError(f"--deepspeed {asked}: expected {', '.join(STAGES)}, or an existing JSON file.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SettingError(f"--deepspeed {asked}: not valid JSON: {error}") from error
    if not isinstance(config, dict):
        raise SettingError(f"--deepspeed {asked}: expected a JSON object of DeepSpeed's settings.")
    return config


class DeepSpeedEngine(Engine):
    """As `Engine`, with DeepSpeed.

    Args:
        recipe: see `Engine`.
        precision: see `Engine`; bfloat16 and float16 convert the module itself.
        device: see `Engine`.
        share: how steps are spread, which DeepSpeed wants to know.
        asked: see `read_config`.

    Raises:
        SettingError: if DeepSpeed isn't installed or can't work here.
    """

    def __init__(self, recipe: Recipe, precision: Precision, device: str, share: Share, asked: str) -> None:
        self._config = read_config(asked) | {
            "train_micro_batch_size_per_gpu": share.micro_batch,
            "gradient_accumulation_steps": share.parts,
            "gradient_clipping": recipe.optimization.clip_gradients or 0.0,
        }
        self.stage = int(self._config.get("zero_optimization", {}).get("stage", 0))
        self.name = f"deepspeed zero{self.stage}"
        super().__init__(recipe, precision, device, share.parts)

    def _accelerator(self, precision: Precision, device: str) -> Accelerator:
        _check_installed()
        if device == "cpu" or not torch.cuda.is_available():
            os.environ.setdefault("DS_ACCELERATOR", "cpu")  # DeepSpeed asks the environment
        _stand_alone()
        try:
            from accelerate import Accelerator, DeepSpeedPlugin

            plugin = DeepSpeedPlugin(hf_ds_config=self._config)
            return Accelerator(mixed_precision=MIXED[precision], deepspeed_plugin=plugin, cpu=device == "cpu")
        except (ImportError, RuntimeError, ValueError, AssertionError, OSError) as error:
            raise SettingError(
                f"--deepspeed: DeepSpeed can't start here: {error}. Leave --deepspeed out to train without."
            ) from error

    def backward(self, loss: Tensor) -> None:
        """See `Engine.backward`; DeepSpeed divides by the number of parts itself."""
        self.model.backward(loss)

    @contextmanager
    def synchronised(self, last: bool) -> Iterator[None]:
        """See `Engine.synchronised`; DeepSpeed counts the parts itself."""
        yield
        if not last:
            self.model.step()

    def gradient_norm(self) -> float:
        """Norm of the gradients of the step before, as DeepSpeed measures it while updating; 0 at first."""
        norm = self.model.get_global_grad_norm()
        return 0.0 if norm is None else float(norm)

    @property
    def overflow_is_handled(self) -> bool:
        """See `Engine.overflow_is_handled`."""
        return bool(self.model.fp16_enabled())

    def update(self, learning_rate: float) -> None:
        """See `Engine.update`."""
        for group in self.model.optimizer.param_groups:
            group["lr"] = learning_rate
        self.model.step()

    def save(self, folder: Path) -> None:
        """See `Engine.save`; every process writes its part, in DeepSpeed's format."""
        self.model.save_checkpoint(str(folder), tag="state", exclude_frozen_parameters=True)

    def load(self, folder: Path) -> None:
        """See `Engine.load`."""
        self.model.load_checkpoint(str(folder), tag="state", load_module_strict=False)

    @contextmanager
    def whole_weights(self) -> Iterator[None]:
        """See `Engine.whole_weights`; parts of parameters are brought together."""
        if self.stage < 3:
            yield
            return
        import deepspeed

        with deepspeed.zero.GatheredParameters(list(self._module.parameters())):
            yield


def _check_installed() -> None:
    if importlib.util.find_spec("deepspeed") is None:
        raise SettingError(
            "--deepspeed needs DeepSpeed, which is not installed: pip install 'ovvol-bench[deepspeed]'. "
            "Training works without it: leave --deepspeed out, and use torchrun for several processes."
        )


def _stand_alone() -> None:
    """A process that no launcher started is a group of one."""
    if "RANK" in os.environ:
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    alone = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in alone.items()})
