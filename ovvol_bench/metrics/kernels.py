"""The loops over frames and scores: compiled by numba where it is installed, else in numpy words.

Both forms have the same five functions and give the same arrays. ``OVVOL_BENCH_KERNELS=numpy`` in the
environment asks for the second one.
"""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType

from ovvol_bench.metrics import kernels_numpy

VARIABLE = "OVVOL_BENCH_KERNELS"


def chosen_kernels() -> ModuleType:
    """The compiled kernels, or those of numpy if they are asked for or numba can't be imported."""
    if os.environ.get(VARIABLE) == "numpy":
        return kernels_numpy
    try:
        return import_module("ovvol_bench.metrics.kernels_numba")
    except ImportError:
        return kernels_numpy


_kernels = chosen_kernels()
best_boxes = _kernels.best_boxes
pair_up = _kernels.pair_up
queue_groups = _kernels.queue_groups
take = _kernels.take
places = _kernels.places
