"""Learning-rate factors by optimizer step."""

from __future__ import annotations

import math


def warmup_cosine(step: int, total: int, warmup: int, floor: float = 0.0, from_zero: bool = False) -> float:
    """Linear rise, then half a cosine down to ``floor`` (Loshchilov & Hutter, SGDR, ICLR 2017, eq. 5).

    Args:
        step: optimizer steps done, in [0, total].
        total: steps in all.
        warmup: steps of the rise, from 1 / warmup in the first step.
        floor: factor at the end, in [0, 1].
        from_zero: the rise is from 0 in the first step to 1 in its last, as in MAE's and VideoMAE's programs.

    Returns:
        Factor in [0, 1].

    >>> [round(warmup_cosine(step, 6, 2), 2) for step in range(7)]
    [0.5, 1.0, 1.0, 0.85, 0.5, 0.15, 0.0]
    """
    if step < warmup and from_zero:
        return step / max(1, warmup - 1)
    if step < warmup:
        return (step + 1) / warmup
    passed = (step - warmup) / max(1, total - warmup)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, passed)))
