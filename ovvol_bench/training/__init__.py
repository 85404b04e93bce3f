"""Training: what a recipe states, and the one loop that runs every recipe.

The names below are what a plugin's recipe needs. They load on first use, so that a recipe's settings are read
without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ovvol_bench.training.encoding import EncoderRecipe
    from ovvol_bench.training.grouping import GroupingRecipe
    from ovvol_bench.training.labeling import LabelerRecipe
    from ovvol_bench.training.optimization import Optimization, warmup_cosine, warmup_exponential
    from ovvol_bench.training.recipe import (
        Batch,
        Draws,
        Examples,
        Losses,
        LossScope,
        Recipe,
        TrainingTask,
        component_of,
        normalised,
    )

_HOME = {
    "encoding": ["EncoderRecipe"],
    "grouping": ["GroupingRecipe"],
    "labeling": ["LabelerRecipe"],
    "optimization": ["Optimization", "warmup_cosine", "warmup_exponential"],
    "recipe": [
        "Batch", "Draws", "Examples", "LossScope", "Losses", "Recipe", "TrainingTask",
        "component_of", "normalised",
    ],
}  # fmt: skip
_MODULE_OF = {name: f"{__name__}.{module}" for module, names in _HOME.items() for name in names}

__all__ = [  # noqa: RUF022 - grouped by role
    "EncoderRecipe", "GroupingRecipe", "LabelerRecipe",
    "Recipe", "TrainingTask", "Batch", "Losses", "LossScope", "Examples", "Draws",
    "component_of", "normalised",
    "Optimization", "warmup_cosine", "warmup_exponential",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
