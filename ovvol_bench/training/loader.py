"""Examples read ahead, in worker processes where asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from ovvol_bench.errors import DecodeError
from ovvol_bench.training.order import Order, Position, Share
from ovvol_bench.training.recipe import Batch, Draws, Examples


@dataclass(frozen=True)
class ExampleReader(Dataset[Batch]):
    """Reads the example at a position with the draws that belong there.

    Attributes:
        examples: to read from.
        seed: of all draws.
    """

    examples: Examples
    seed: int

    def __getitem__(self, position: Position) -> Batch:
        """One example; a failure names it."""
        step, lap, index = position
        name = self.examples.name(index)
        draws = Draws(f"{self.seed}\0{lap}\0{name}", f"{self.seed}\0step {step}")
        try:
            return self.examples.example(index, draws)
        except DecodeError as error:
            raise DecodeError(f"training example '{name}' (step {step}): {error}") from error


def read_batches(
    reader: ExampleReader, order: Order, share: Share, steps: range, workers: int
) -> Iterator[Batch]:
    """This process's parts of some steps, in order.

    Args:
        reader: of examples.
        order: which examples a step sees.
        share: which of them are this process's.
        steps: optimizer steps.
        workers: processes that read ahead; 0: none, examples are read when they are needed.
    """
    sampler: Any = _Parts(order, share, steps)
    yield from DataLoader(
        reader,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=stack,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_one_thread if workers else None,
    )


@dataclass(frozen=True)
class _Parts:
    order: Order
    share: Share
    steps: range

    def __iter__(self) -> Iterator[list[Position]]:
        for step in self.steps:
            yield from self.share.of_step(self.order.batch(step))


def stack(examples: Sequence[Batch]) -> Batch:
    """Examples to a batch."""
    batch: Batch = default_collate(list(examples))
    return batch


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)
