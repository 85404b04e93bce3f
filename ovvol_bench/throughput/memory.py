"""Memory of this process and of its device."""

from __future__ import annotations

import re
import resource
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")


def host_memory() -> tuple[int, int]:
    """Resident bytes of this process, now and at their peak.

    On Linux the peak is of this program alone: what ``getrusage`` says also counts the process that it was
    forked from. Elsewhere that is all there is.
    """
    if _STATUS.exists():
        text = _STATUS.read_text(encoding="ascii", errors="replace")
        now, peak = (int(re.search(rf"{field}:\s+(\d+) kB", text)[1]) for field in ("VmRSS", "VmHWM"))  # type: ignore[index]
        return 1024 * now, 1024 * peak
    unit = 1 if sys.platform == "darwin" else 1024
    peak = unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak, peak


def peak_memory(device: torch.device) -> Mapping[str, int | None]:
    """Peak bytes until now: ``host``, and ``device`` as PyTorch allocated them, None on a CPU."""
    cuda = device.type == "cuda"
    return {"host": host_memory()[1], "device": torch.cuda.max_memory_allocated(device) if cuda else None}
