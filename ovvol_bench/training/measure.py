"""Validation: the loss on examples with fixed draws, the recipe's own numbers, pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ovvol_bench.errors import calling
from ovvol_bench.training.loader import ExampleReader, stack
from ovvol_bench.training.order import Position
from ovvol_bench.training.recipe import Batch, Examples, Losses, Recipe, named_values

_SEED = 0  # validation draws are the same in every training, so that their losses can be compared


@dataclass(frozen=True)
class Measures:
    """Findings of a validation.

    Attributes:
        numbers: by name; losses as ``validation_loss`` and so on.
        pictures: (H, W, 3) uint8 by name.
    """

    numbers: Mapping[str, float]
    pictures: Mapping[str, npt.NDArray[np.uint8]]


def measure(recipe: Recipe, prepare: Callable[[Batch], Batch], count: int, batch_size: int) -> Measures:
    """Measure a recipe as it is; called in eval mode and without gradients.

    Args:
        recipe: to measure.
        prepare: moves a batch to the device and runs the recipe's frozen parts.
        count: validation examples whose loss is taken, evenly spread.
        batch_size: examples at a time; those that don't fill one are left out.
    """
    numbers: dict[str, float] = {}
    name = type(recipe).__name__
    pictures: Mapping[str, npt.NDArray[np.uint8]] = {}
    if recipe.validation is not None:
        positions = _spread(recipe.validation, count, batch_size)
        reader = ExampleReader(recipe.validation, _SEED)
        found: list[Losses] = []
        for first in range(0, len(positions), batch_size):
            batch = prepare(stack([reader[at] for at in positions[first : first + batch_size]]))
            with calling(forward := f"{name}.forward"):
                found.append(named_values(recipe(batch), forward))
            if first == 0:
                with calling(drawing := f"{name}.pictures"):
                    pictures = named_values(recipe.pictures(batch), drawing)
        for loss in found[0]:
            numbers[f"validation_{loss}"] = float(np.mean([float(losses[loss]) for losses in found]))
    with calling(evaluating := f"{name}.evaluate"):
        own = named_values(recipe.evaluate(), evaluating)
    return Measures({**numbers, **own}, pictures)


def _spread(examples: Examples, count: int, batch_size: int) -> list[Position]:
    """Positions evenly over the examples, repeated where there are fewer than a batch."""
    whole = max(1, min(count, len(examples)) // batch_size) * batch_size
    indices = np.linspace(0, len(examples), whole, endpoint=False).astype(int)
    return [Position(0, number, int(index), number) for number, index in enumerate(indices)]
