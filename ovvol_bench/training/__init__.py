"""Training: what a recipe states, and the one loop that runs every recipe.

The names below are what a plugin's recipe needs.
"""

from ovvol_bench.training.optimization import Optimization, warmup_cosine, warmup_exponential
from ovvol_bench.training.recipe import Batch, Draws, Examples, Losses, LossScope, Recipe, TrainingTask

__all__ = [
    "Batch",
    "Draws",
    "Examples",
    "LossScope",
    "Losses",
    "Optimization",
    "Recipe",
    "TrainingTask",
    "warmup_cosine",
    "warmup_exponential",
]
