"""Arithmetic: what models need, and what the machine can do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch.utils.flop_counter import FlopCounterMode

from ovvol_bench.runs.clock import Clock, Stage

SIDES = {"cpu": (1024, 2048), "cuda": (4096, 8192)}
"""Sides of the square matrices whose product is timed."""
_PRODUCTS = 8


def matrix_peak(device: torch.device, precision: torch.dtype) -> float:
    """FLOP/s of the fastest of some products of square matrices: the most that is to be had here and now."""
    with torch.inference_mode():
        return max(_fastest(side, device, precision) for side in SIDES[device.type])


def _fastest(side: int, device: torch.device, precision: torch.dtype) -> float:
    first, second = (torch.randn(side, side, device=device, dtype=precision) for _ in range(2))
    clock = Clock(device)
    for turn in range(_PRODUCTS):
        with clock.measure((str(turn),)):
            first @ second
    return float(2 * side**3 / min(clock.seconds.values()))


class FlopClock(Clock):
    """Counts the arithmetic of each stage beside its seconds: products of matrices and convolutions.

    PyTorch's counter sees PyTorch's own operators, of which fused ones are kept from being used; kernels of
    other libraries and numpy are not in it.

    Attributes:
        flops: of every stage until now.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.flops: defaultdict[Stage, int] = defaultdict(int)

    @contextmanager
    def measure(self, stage: Stage) -> Iterator[None]:
        """Add the operations of the block to a stage."""
        with super().measure(stage), _unfused(), FlopCounterMode(display=False) as counter:
            yield
        self.flops[stage] += counter.get_total_flops()

    def of(self, stages: Mapping[str, tuple[Stage, ...]]) -> dict[str, int]:
        """The operations of some stages, summed under each name."""
        return {name: sum(self.flops.get(stage, 0) for stage in each) for name, each in stages.items()}


@contextmanager
def _unfused() -> Iterator[None]:
    """Without the one operator that stands for a whole attention layer: it hides what is in it."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
