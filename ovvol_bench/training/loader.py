"""Examples read ahead, in worker processes where asked for."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from threading import Thread
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from ovvol_bench.data.loading import processors
from ovvol_bench.errors import ContractError, DecodeError, PluginError, TrainingError, calling
from ovvol_bench.training.order import Order, Position, Share
from ovvol_bench.training.recipe import Batch, Draws, Examples, named_values
from ovvol_bench.tuning import keep_freed_memory

_MOST_READERS = 8
_PATIENCE = 600.0  # seconds that a batch may take; a decoder that hangs is given up long before


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
        """Read an example; a failure names it."""
        step, lap, index, place = position
        name = self.examples.name(index)
        draws = Draws(f"{self.seed}\0{lap}\0{name}", f"{self.seed}\0step {step}", place)
        try:
            with calling(f"reading training example '{name}'"):
                return named_values(self.examples.example(index, draws), f"example '{name}'")
        except DecodeError as error:
            raise DecodeError(f"training example '{name}' (step {step}): {error}") from error


def reading_processes() -> int:
    """Count those started unasked: half of the processors that fall to this training process, 1 to 8."""
    return max(1, min(_MOST_READERS, processors() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) // 2))


@contextmanager
def reading_errors() -> Iterator[None]:
    """Say in one line what befell reading processes: PyTorch tells it with their tracebacks, or as a bug.

    Raises:
        DecodeError, ContractError, PluginError: as the process raised it.
        TrainingError: if a process was killed, or a batch took longer than ten minutes.
    """
    try:
        yield
    except (DecodeError, ContractError, PluginError, RuntimeError) as error:
        # That a process was killed is raised in whatever this one is doing, a recipe's code included.
        killed = error.__cause__ if isinstance(error, PluginError) else error
        first, _, _ = str(killed).partition("\n")
        kind = type(error)
        if not (isinstance(killed, RuntimeError) and first.startswith("DataLoader ")):
            if isinstance(error, RuntimeError):
                raise
            raise kind(str(error).rpartition(f"{kind.__name__}: ")[2].strip()) from error
        raise TrainingError(
            f"reading examples ahead failed ({first.rstrip('.')}), perhaps because memory ran out. Give the "
            "same command again, with fewer --workers, or 0 to read in this process."
        ) from error


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
    return read_ahead(reader, workers, batch_sampler=sampler, collate_fn=stack)


def read_ahead(dataset: Dataset[Any], workers: int, **options: Any) -> Iterator[Any]:
    """Iterate PyTorch's loader, with processes that are fit to be forked from this one.

    Args:
        dataset: examples by index.
        workers: processes; 0: none, examples are read when they are needed.
        options: of the loader: which examples, in which batches.
    """
    loader = DataLoader(
        dataset,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_settle if workers else None,
        timeout=_PATIENCE if workers else 0,
        **options,
    )
    with _single_opencv_thread() if workers else nullcontext():
        yield from loader


@dataclass(frozen=True)
class _Parts:
    order: Order
    share: Share
    steps: range

    def __iter__(self) -> Iterator[list[Position]]:
        for step in self.steps:
            yield from self.share.of_step(self.order.batch(step))


def stack(examples: Sequence[Batch]) -> Batch:
    """Examples to a batch, in the types that they have: autocast would refuse to stack float16."""
    with torch.autocast("cpu", enabled=False):
        batch: Batch = default_collate(list(examples))
    return batch


@contextmanager
def _single_opencv_thread() -> Iterator[None]:
    """Let processes that are forked meanwhile have an OpenCV without threads.

    A fork copies what OpenCV knows of its threads and not the threads: the copy waits for them forever, even
    when it is told to do without.
    """
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _settle(worker: int) -> None:
    """Use one thread, and leave Ctrl-C and requests to stop to the training, which ends its step first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        Thread(target=_end_when_asked_by, args=(os.getppid(),), daemon=True).start()
    torch.set_num_threads(1)
    keep_freed_memory()


def _end_when_asked_by(parent: int) -> None:
    """Heed a SIGTERM from the training; schedulers and ``timeout`` send one to all processes at once."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
