"""Fidelity and precision: how exactly components compute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Literal

from ovvol_bench.errors import SettingError

if TYPE_CHECKING:  # the command line lists the choices and loads no torch
    import torch

Fidelity = Literal["fast", "reference"]
"""``fast`` computes as quickly as the numbers allow; ``reference`` takes float32 and no shortcuts."""

Precision = Literal["auto", "float32", "bfloat16"]
"""``auto`` is what the fidelity and the hardware give."""

DEFAULT: Fidelity = "fast"


def check_precision(fidelity: Fidelity, precision: Precision) -> None:
    """Refuse a precision that contradicts the fidelity.

    Raises:
        SettingError: if ``reference`` is to compute in bfloat16.
    """
    if fidelity == "reference" and precision == "bfloat16":
        raise SettingError(
            "--fidelity reference is float32 by definition, but --precision is bfloat16. Drop one of the two."
        )


def dtype_of(fidelity: Fidelity, precision: Precision, device: torch.device) -> torch.dtype:
    """Return the type that components multiply in; of ``fast`` and ``auto`` the hardware's best."""
    import torch

    if precision == "auto":
        return torch.float32 if fidelity == "reference" else best_precision(device)
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def best_precision(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the hardware multiplies it natively (AVX512-BF16, Ampere), else float32."""
    import torch

    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return torch.bfloat16 if native else torch.float32


@contextmanager
def arithmetic(fidelity: Fidelity) -> Iterator[None]:
    """For ``reference`` take no shortcuts on GPUs: no TF32, deterministic convolutions."""
    if fidelity != "reference":
        yield
        return
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def autocast(device: torch.device, precision: torch.dtype) -> AbstractContextManager[object]:
    """Return the context to run components in: float32 as they are, else mixed precision."""
    import torch

    if precision == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype=precision)
