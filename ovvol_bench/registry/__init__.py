"""The plugin host: what is installed, where it came from, and how to build it by name.

Finding plugins is light: nothing here imports torch, and a plugin's factory, which may, runs only when
its component is built.
"""

from __future__ import annotations

from ovvol_bench.registry.annotations import (
    ClipLength,
    Filled,
    FromDataset,
    FromEncoder,
    FromPredictions,
    FromSize,
    Located,
    Pretrained,
    Weights,
)
from ovvol_bench.registry.entries import KINDS, TRAINABLE, Entry, Found
from ovvol_bench.registry.hookspecs import hookimpl
from ovvol_bench.registry.host import Broken, Conflict, FoundRecipe, Registry, load_registry
from ovvol_bench.registry.lazy import Lazy
from ovvol_bench.registry.settings import Setting

__all__ = [
    "KINDS",
    "TRAINABLE",
    "Broken",
    "ClipLength",
    "Conflict",
    "Entry",
    "Filled",
    "Found",
    "FoundRecipe",
    "FromDataset",
    "FromEncoder",
    "FromPredictions",
    "FromSize",
    "Lazy",
    "Located",
    "Pretrained",
    "Registry",
    "Setting",
    "Weights",
    "hookimpl",
    "load_registry",
]
