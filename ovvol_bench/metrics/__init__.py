"""Metrics: pure functions on columns of boxes, and thin accumulators around them.

The names below load on first use: the registry imports this package to find the metrics, and shall
not wait for their code.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ovvol_bench.metrics.evaluation import (
        default_metrics,
        evaluate,
        evaluate_detections,
        held_out_ids,
    )

__all__ = ["default_metrics", "evaluate", "evaluate_detections", "held_out_ids"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'ovvol_bench.metrics' has no attribute '{name}'")
    return getattr(import_module("ovvol_bench.metrics.evaluation"), name)
