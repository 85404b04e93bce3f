"""Examples of a step: a pure function of the seed and the step, so that nothing needs to be kept."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ovvol_bench.errors import SettingError
from ovvol_bench.training.recipe import LossScope


class Position(NamedTuple):
    """Example of a step.

    Attributes:
        step: optimizer step, from 0.
        lap: pass over the data, from 0.
        example: its index.
        place: in the step, from 0.
    """

    step: int
    lap: int
    example: int
    place: int


@dataclass(frozen=True)
class Order:
    """Every pass shows all examples once, shuffled anew; batches run on over the end of a pass.

    Attributes:
        count: examples in a pass.
        batch_size: examples of an optimizer step.
        seed: of the shuffling.
    """

    count: int
    batch_size: int
    seed: int

    def steps(self, epochs: float) -> int:
        """Optimizer steps that so many passes take, at least 1."""
        return max(1, math.ceil(epochs * self.count / self.batch_size))

    def batch(self, step: int) -> list[Position]:
        """Return the examples of a step."""
        found = []
        for place in range(self.batch_size):
            lap, number = divmod(step * self.batch_size + place, self.count)
            example = int(_shuffled(self.count, self.seed, lap)[number])
            found.append(Position(step, lap, example, place))
        return found


@lru_cache(maxsize=2)  # a batch touches two passes at most, or all examples several times
def _shuffled(count: int, seed: int, lap: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng([seed, lap]).permutation(count)


@dataclass(frozen=True)
class Share:
    """Spread of a step's examples over processes, and over parts computed one after the other.

    Attributes:
        batch_size: examples of a step.
        processes: number of them.
        rank: of this one.
        micro_batch: examples that this process computes at a time.
    """

    batch_size: int
    processes: int
    rank: int
    micro_batch: int

    @classmethod
    def of(
        cls, batch_size: int, processes: int, rank: int, micro_batch: int | None, alike: int | None = None
    ) -> Share:
        """Spread a step evenly.

        Args:
            batch_size: examples of a step.
            processes: number of them.
            rank: of this one.
            micro_batch: examples at a time; None: all of a process's, or as many as are of one shape.
            alike: examples of a step that are of one shape, the first so many, the next, and so on; None:
                all.

        Raises:
            SettingError: if it doesn't divide.
        """
        if batch_size % processes:
            raise SettingError(
                f"recipe.batch_size={batch_size} can't be spread evenly over {processes} processes. It "
                "counts the examples of a step over all of them: choose a multiple, or other processes."
            )
        own = batch_size // processes
        if micro_batch is not None and own % micro_batch:
            raise SettingError(
                f"--micro-batch {micro_batch} doesn't divide the {own} examples that each of {processes} "
                f"processes has of a step (recipe.batch_size={batch_size})."
            )
        if alike is not None and alike % (micro_batch or 1):
            raise SettingError(
                f"--micro-batch {micro_batch}: {alike} examples after each other are of one shape, and only "
                f"those can be computed together. Choose a divisor of {alike}, or leave --micro-batch out."
            )
        return cls(batch_size, processes, rank, micro_batch or math.gcd(own, alike or own))

    @property
    def parts(self) -> int:
        """Parts of a step that a process computes one after the other."""
        return self.batch_size // self.processes // self.micro_batch

    def check_scope(self, scope: LossScope) -> None:
        """Refuse to take apart what a loss compares.

        Raises:
            SettingError: if the loss compares examples and would see a part of them, or one alone.
        """
        if scope is LossScope.EXAMPLE:
            return
        if self.parts > 1:
            raise SettingError(
                f"--micro-batch {self.micro_batch}: this recipe's loss compares {scope.value}; computed in "
                f"parts it would be another loss, with other gradients. Leave --micro-batch out (a process "
                f"has {self.parts * self.micro_batch} examples of a step), or lower recipe.batch_size."
            )
        compared = self.batch_size if scope is LossScope.STEP else self.micro_batch
        if compared < 2:
            raise SettingError(
                f"recipe.batch_size={self.batch_size} over {self.processes} processes: this recipe's loss "
                f"compares {scope.value}, and nothing is learned from one. Choose a larger batch_size."
            )

    def of_step(self, batch: list[Position]) -> Iterator[list[Position]]:
        """This process's parts of a step."""
        own = self.parts * self.micro_batch
        mine = batch[self.rank * own : (self.rank + 1) * own]
        for first in range(0, own, self.micro_batch):
            yield mine[first : first + self.micro_batch]
