"""The loops over frames and scores: in numpy words, and compiled by numba where there is much to do.

Both forms have the same functions and give the same arrays. numpy is there at once, numba takes time to
load; so numpy works until numba would have been worth it, see ``PATIENCE``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from time import process_time
from types import ModuleType
from typing import Any

from ovvol_bench.metrics import kernels_numpy

VARIABLE = "OVVOL_BENCH_KERNELS"
"""Environment variable: ``numpy`` never loads numba, ``numba`` loads it with the first call."""

PATIENCE = 2.0
"""Seconds that numpy works in a process before numba is loaded, which takes 0.3 s (the first time on a
machine 3 s, to compile) and 100 MB: more than all the kernels of most evaluations."""


def chosen_kernels() -> ModuleType:
    """The compiled kernels, or those of numpy if they are asked for or numba can't be used."""
    if os.environ.get(VARIABLE) == "numpy":
        return kernels_numpy
    try:
        return import_module("ovvol_bench.metrics.kernels_numba")
    except (ImportError, RuntimeError):  # RuntimeError: no folder where machine code could be kept
        return kernels_numpy


class Kernels:
    """Calls kernels by name, in the form that is quicker in all."""

    def __init__(self) -> None:
        self._form = kernels_numpy
        self._patience = 0.0 if os.environ.get(VARIABLE) == "numba" else PATIENCE
        self._settled = False

    def __getitem__(self, name: str) -> Callable[..., Any]:
        """A kernel; its form is decided when it is called."""

        def call(*arguments: Any) -> Any:
            if not self._settled and self._patience <= 0:
                self._form, self._settled = chosen_kernels(), True
            start = process_time()
            result = getattr(self._form, name)(*arguments)
            self._patience -= process_time() - start
            return result

        return call


_kernels = Kernels()
best_boxes = _kernels["best_boxes"]
pair_up = _kernels["pair_up"]
queue_groups = _kernels["queue_groups"]
take = _kernels["take"]
places = _kernels["places"]
tally = _kernels["tally"]
