"""Rows of all processes of a training, for losses that compare the examples of a whole step."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def gathered(rows: Tensor) -> Tensor:
    """The rows of all processes, in the order of their ranks.

    Gradients are summed over processes and flow back to where the rows came from: the mean over processes
    of each one's loss then has the gradient that one process with all rows would find.

    Args:
        rows: (B, ...), as many in every process.

    Returns:
        (processes * B, ...).
    """
    return _Gathered.apply(rows) if dist.is_initialized() else rows


def anywhere(flags: Tensor) -> Tensor:
    """Whether a flag is set in any process, for every flag of a bool tensor."""
    if not dist.is_initialized():
        return flags
    found = flags.byte()
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return found.bool()


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed.chunk(dist.get_world_size())[dist.get_rank()]
