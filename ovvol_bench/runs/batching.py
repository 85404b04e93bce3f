"""Clips of equal shape into batches, as large as is quick and fits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from math import prod

import torch

from ovvol_bench.types import Clip

Shape = tuple[int, ...]
"""Of a clip's frames, (T, H, W, 3)."""

CPU_VALUES = 3 * 2**17
"""Pixel values that a CPU takes at a time; with more, what a layer gives doesn't stay in the cache."""
MOST_CLIPS = 64
SHARE_OF_MEMORY = 0.7


class FittingBatches:
    """How many clips go through the components at a time where nobody says.

    On a CPU a few very small clips or a single one. On a GPU a single clip first, and then as many as
    memory has room for, judged by what that one took at most.

    Args:
        device: where the components run.
        memory: (bytes that can be had, the most bytes allocated at a time since it was last asked, bytes
            allocated now) on the device.
    """

    def __init__(
        self, device: torch.device, memory: Callable[[], tuple[int, int, int]] | None = None
    ) -> None:
        self._is_cpu = device.type == "cpu"
        self._memory = memory or (lambda: gpu_memory(device))
        self._sizes: dict[Shape, int] = {}
        self._tried: Shape | None = None

    def size(self, shape: Shape) -> int:
        """Clips of a shape that make a batch; asked before each batch."""
        if self._is_cpu:
            return min(MOST_CLIPS, max(1, CPU_VALUES // prod(shape)))
        if self._tried is not None:
            free, most, now = self._memory()
            a_clip = max(1, most - now)
            self._sizes[self._tried] = min(MOST_CLIPS, max(1, int(SHARE_OF_MEMORY * free) // a_clip))
            self._tried = None
        if shape not in self._sizes:
            self._tried = shape
            self._memory()
            return 1
        return self._sizes[shape]


def gpu_memory(device: torch.device) -> tuple[int, int, int]:
    """See `FittingBatches`; what PyTorch keeps in reserve counts as free."""
    free, _ = torch.cuda.mem_get_info(device)
    now, most = torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device)
    reserve = torch.cuda.memory_reserved(device) - now
    torch.cuda.reset_peak_memory_stats(device)
    return free + reserve, most, now


def batches(clips: Iterable[Clip], size: Callable[[Shape], int]) -> Iterator[list[Clip]]:
    """Clips of equal length and frame size, so many at a time; what is left over comes last."""
    waiting: defaultdict[Shape, list[Clip]] = defaultdict(list)
    for clip in clips:
        shape = clip.frames.shape
        waiting[shape].append(clip)
        if len(waiting[shape]) >= size(shape):
            yield waiting.pop(shape)
    yield from waiting.values()
