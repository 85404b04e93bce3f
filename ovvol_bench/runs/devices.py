"""Where to run."""

from __future__ import annotations

import torch

from ovvol_bench.errors import SettingError


def pick_device(asked: str) -> torch.device:
    """The device that a name means.

    Args:
        asked: ``cpu``, ``cuda`` or ``auto``, which is CUDA where there is a device.

    Raises:
        SettingError: if CUDA is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if asked == "cuda" and not available:
        raise SettingError("--device cuda: PyTorch finds no CUDA device. Use --device cpu or auto.")
    return torch.device("cuda" if available and asked != "cpu" else "cpu")
