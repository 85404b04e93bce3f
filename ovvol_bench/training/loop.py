"""The one loop that trains every recipe."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ovvol_bench.errors import CheckpointError, ContractError, TrainingError, calling
from ovvol_bench.pipeline import seed_from
from ovvol_bench.runs.learned import STEPS
from ovvol_bench.training.best import Best
from ovvol_bench.training.board import Board, Pictures, Row
from ovvol_bench.training.checkpoints import UNREADABLE, Checkpoints, Progress, read_progress
from ovvol_bench.training.deepspeed import DeepSpeedEngine
from ovvol_bench.training.engine import AccelerateEngine, Engine, Precision
from ovvol_bench.training.loader import ExampleReader, read_batches, reading_errors
from ovvol_bench.training.measure import measure
from ovvol_bench.training.order import Order, Share
from ovvol_bench.training.recipe import Batch, Losses, LossScope, Recipe, named_values
from ovvol_bench.training.stopping import StopRequest

_LOG = logging.getLogger(__name__)
_NAMED = 8  # examples that an error lists
_NONE: Pictures = MappingProxyType({})


@dataclass(frozen=True)
class Conduct:
    """Conduct of a training; nothing here changes what is learned, save rounding.

    Attributes:
        folder: of this training: log, checkpoints, pictures, weights.
        seed: of order and draws; the recipe was made with the same.
        about: how the weights come to be, for their file's header.
        device: ``auto``, ``cpu`` or ``cuda``.
        precision: ``float32``, ``bfloat16`` or ``float16``.
        deepspeed: a ZeRO stage or configuration file, or None.
        micro_batch: examples a process computes at a time; None: its whole part of a step.
        workers: processes that read examples ahead, for each training process.
        steps: stop after so many, None: at the recipe's end. The schedule is not shortened.
        keep: checkpoints that stay.
        save_every: steps between checkpoints.
        log_every: steps between rows of the log.
        measure_every: steps between validations.
        measured_examples: validation examples whose loss is taken.
        best: which validation's weights are kept in ``best.safetensors``; None: no such file.
        progress: called with the steps done, steps in all and the last numbers.
        spec: what is trained, with its ``id``, for plugins that follow the training.
        tell: calls a hook of all plugins, as `Registry.tell`; by the first process alone.
    """

    folder: Path
    seed: int
    about: Mapping[str, str]
    device: str = "auto"
    precision: Precision = "float32"
    deepspeed: str | None = None
    micro_batch: int | None = None
    workers: int = 0
    steps: int | None = None
    keep: int = 2
    save_every: int = 500
    log_every: int = 10
    measure_every: int = 500
    measured_examples: int = 64
    best: Best | None = None
    progress: Callable[[int, int, Row], None] = lambda done, total, row: None
    spec: Mapping[str, Any] = field(default_factory=dict)
    tell: Callable[..., None] = lambda event, **payload: None


@dataclass(frozen=True)
class Outcome:
    """End of a training.

    Attributes:
        step: optimizer steps done.
        total: steps in all.
        weights: file of the weights as they are now.
        resumed_from: steps that were done before this call.
    """

    step: int
    total: int
    weights: Path
    resumed_from: int

    @property
    def is_finished(self) -> bool:
        """True if all steps are done."""
        return self.step >= self.total


def train(recipe: Recipe, conduct: Conduct) -> Outcome:
    """Train, from the last checkpoint of the folder if there is one.

    A request to stop (SIGINT, SIGTERM) ends the step at hand, saves and returns.

    Raises:
        SettingError: if batch size, processes, device or DeepSpeed don't fit together.
        CheckpointError: if a checkpoint can't be read or written, or was made by another engine.
        TrainingError: if the loss or the gradients are not finite, or a reading process is killed.
        DecodeError: if an example can't be read.
        PluginError: if the recipe's own code fails, with its file and line.
    """
    torch.manual_seed(conduct.seed)
    with StopRequest() as stop, reading_errors():
        return _Training(recipe, conduct, stop).run()


def evaluate(recipe: Recipe, conduct: Conduct, checkpoint: Path) -> Mapping[str, float]:
    """Measure a checkpoint of this training as validation does, and train nothing; no file is written.

    Args:
        recipe: that the checkpoint is of.
        conduct: as for `train`.
        checkpoint: a folder ``checkpoints/step-N``.

    Returns:
        The validation's numbers by name.

    Raises:
        CheckpointError: if the checkpoint is damaged, or of another training.
        SettingError: as `train`.
    """
    with reading_errors():
        return _Training(recipe, conduct, StopRequest()).evaluate(checkpoint)


class _Training:
    """Training under way; see `train`."""

    def __init__(self, recipe: Recipe, conduct: Conduct, stop: StopRequest) -> None:
        self.recipe, self.conduct, self.stop = recipe, conduct, stop
        numbers = recipe.optimization
        self.order = Order(len(recipe.examples), numbers.batch_size, conduct.seed)
        self.total = self.order.steps(numbers.epochs)
        self.share = Share.of(numbers.batch_size, *_place(), conduct.micro_batch, recipe.alike)
        self.share.check_scope(recipe.loss_scope)
        self.engine = _engine(recipe, conduct, self.share)
        self.checkpoints = Checkpoints(conduct.folder / "checkpoints", conduct.keep)
        self.weights = conduct.folder / "weights.safetensors"
        self.board: Board | None = None
        self.done = 0

    def run(self) -> Outcome:
        """Train to the end, or until asked to stop."""
        self.done = first = self._resume()
        last = min(self.total, self.conduct.steps or self.total)
        self.board = Board(self.conduct.folder, first) if self.engine.is_main else None
        try:
            self._tell("started", spec=self.conduct.spec, folder=self.conduct.folder, step=first, steps=last)
            self._train(first, last)
        except Exception as error:
            self._tell_end("failed", last, str(error))
            raise
        finally:
            if self.board:
                self.board.close()
            self.engine.close()
        self._tell_end("done" if self.done >= last else "stopped", last)
        return Outcome(self.done, last, self.weights, first)

    def _train(self, first: int, last: int) -> None:
        for done, row in self._steps(first, last):
            self.done = done
            stop = row.pop("stop")
            if done % self.conduct.log_every == 0 or done == last:
                self._note(done, row)
            self.conduct.progress(done, last, row)
            if self.engine.is_main:
                self._remark(done, row)
            if stop or done == last:
                break
            if done % self.conduct.save_every == 0:
                self._save(done)
            if done % self.conduct.measure_every == 0:
                self._measure(done)
        if self.done > first:
            self._end(self.done)
        if first < self.done == last:  # after saving, so that what goes wrong here loses nothing
            self._measure(self.done)

    def _note(self, step: int, numbers: Mapping[str, float], pictures: Pictures = _NONE) -> None:
        """Write a row of the log, and let plugins know."""
        if self.board is None:
            return
        numbers = {name: value for name, value in numbers.items() if name != "step"}
        self.board.add(step, numbers, pictures)
        if numbers or pictures:
            of = self.conduct.spec.get("id", "")
            self._tell("measured", training_id=of, step=step, numbers=numbers, pictures=pictures)

    def _tell(self, event: str, **payload: Any) -> None:
        if self.engine.is_main:
            self.conduct.tell(f"ovvol_training_{event}", **payload)

    def _tell_end(self, status: str, steps: int, error: str | None = None) -> None:
        result = {"id": self.conduct.spec.get("id", ""), "status": status, "step": self.done, "steps": steps}
        weights = str(self.weights) if self.weights.is_file() else None
        self._tell("finished", result={**result, "weights": weights, "error": error})

    def evaluate(self, checkpoint: Path) -> Mapping[str, float]:
        """Measure a checkpoint."""
        try:
            self._load(checkpoint, read_progress(checkpoint))
            with self.engine.measuring(self.recipe):
                count = self.conduct.measured_examples
                return measure(self.recipe, self._prepared, count, self.share.micro_batch).numbers
        finally:
            self.engine.close()

    def _steps(self, first: int, last: int) -> Iterator[tuple[int, Row]]:
        """Take steps; yields how many are done and the numbers of the last."""
        reader = ExampleReader(self.recipe.examples, self.conduct.seed)
        batches = read_batches(reader, self.order, self.share, range(first, last), self.conduct.workers)
        begun = time.perf_counter()
        for step in range(first, last):
            # Draws that a module makes itself, as in dropout, also follow from the step alone.
            torch.manual_seed(seed_from(f"{self.conduct.seed}\0{step}\0{self.engine.rank}"))
            row = self._step(step, batches)
            now = time.perf_counter()
            row["seconds"] = now - begun
            row["examples_per_s"] = self.order.batch_size / (now - begun)
            begun = now
            yield step + 1, row

    def _step(self, step: int, batches: Iterator[Batch]) -> Row:
        engine, numbers = self.engine, self.recipe.optimization
        summed: Losses = {}
        for part in range(self.share.parts):
            batch = self._prepared(next(batches))
            last = part == self.share.parts - 1
            with engine.exchange(last), calling(f"{type(self.recipe).__name__}.forward"):
                losses = checked_losses(engine.losses(batch), self.recipe)
                engine.backward(losses["loss"], last)
            for name, value in losses.items():
                summed[name] = summed.get(name, 0) + value.detach().float() / self.share.parts
        row = self._means({**summed, "gradient_norm": engine.gradient_norm()})
        self._check(step, "loss", row["loss"])
        if not engine.overflow_is_handled:
            self._check(step, "gradient norm", row["gradient_norm"])
        with calling(f"the schedule of {type(self.recipe).__name__}"):
            factor = numbers.factor(step, self.total)
        engine.update(factor, numbers.decay(step, self.total))
        if type(self.recipe).after_step is not Recipe.after_step:
            with (
                torch.no_grad(),
                engine.whole_weights(to_write=True),
                calling(f"{type(self.recipe).__name__}.after_step"),
            ):
                self.recipe.after_step(step + 1, self.total)
        return {"step": step + 1, **row, "learning_rate": numbers.learning_rate * factor}

    def _remark(self, step: int, row: Row) -> None:
        with calling(f"{type(self.recipe).__name__}.remark"):
            remark = self.recipe.remark(row)
        if remark:
            _LOG.warning("step %d: %s", step, remark)

    def _prepared(self, batch: Batch) -> Batch:
        moved = {name: value.to(self.engine.device, non_blocking=True) for name, value in batch.items()}
        where = f"{type(self.recipe).__name__}.prepare"
        with torch.no_grad(), self.engine.autocast(), calling(where):
            return named_values(self.recipe.prepare(moved), where)

    def _means(self, numbers: Losses) -> Row:
        """Means over processes, and whether any was asked to stop.

        One exchange a step, and the only time that the host waits for the device.
        """
        asked = torch.tensor(float(self.stop.asked))
        values = torch.stack([value.to(self.engine.device) for value in (*numbers.values(), asked)])
        means = self.engine.mean(values).tolist()
        return dict(zip([*numbers, "stop"], means, strict=True))

    def _check(self, step: int, what: str, value: float) -> None:
        if math.isfinite(value):
            return
        names = [self.recipe.examples.name(position.example) for position in self.order.batch(step)]
        shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" * (len(names) > _NAMED))
        latest = self.checkpoints.latest()
        raise TrainingError(
            f"the {what} is {value} in step {step + 1}, on {shown}. "
            + (f"The last good checkpoint is {latest}" if latest else "There is no checkpoint yet")
            + ". Try a smaller recipe.learning_rate, recipe.clip_gradients, or --precision float32."
        )

    def _measure(self, step: int) -> None:
        """On validation data; every process does the same, for modules that are spread over them."""
        with self.engine.measuring(self.recipe):
            measures = measure(
                self.recipe, self._prepared, self.conduct.measured_examples, self.share.micro_batch
            )
        self._note(step, measures.numbers, measures.pictures)
        best = self.conduct.best
        if best is None:
            return
        improves = best.improves(self.conduct.folder, measures.numbers)
        self.engine.wait()  # all have read what is noted below
        if improves:
            with calling(f"{type(self.recipe).__name__}.save_weights"):
                self._write_weights(step, self.conduct.folder / "best.safetensors")
            if self.engine.is_main:
                best.note(self.conduct.folder, step, measures.numbers)

    def _save(self, step: int) -> None:
        """A checkpoint, and the weights beside it.

        The checkpoint counts once the weights are there: a training that is killed in between takes the
        last steps again, and never finds itself finished with weights of before.
        """
        self.checkpoints.write(step, self.engine.save)
        with calling(f"{type(self.recipe).__name__}.save_weights"):
            self.checkpoints.write(step, lambda _: self._write_weights(step, self.weights))
        self.engine.wait()
        if self.engine.is_main:
            self.checkpoints.complete(
                Progress(step, self.engine.processes, self.engine.name, self.share.micro_batch)
            )
        self.engine.wait()

    def _write_weights(self, step: int, path: Path) -> None:
        about = {**self.conduct.about, "step": str(step), STEPS: str(self.total)}
        with self.engine.whole_weights():
            if self.engine.is_main:
                self.recipe.save_weights(path, about)

    def _end(self, step: int) -> None:
        if step >= self.total:
            with self.engine.whole_weights(), calling(f"{type(self.recipe).__name__}.finish"):
                self.recipe.finish()
        self._save(step)

    def _resume(self) -> int:
        """Steps done before."""
        found = self.checkpoints.latest_whole()
        if found is None:
            return 0
        self._load(*found)
        return found[1].step

    def _load(self, checkpoint: Path, progress: Progress) -> None:
        self._check_engine(checkpoint, progress)
        try:
            self.engine.load(checkpoint)
        except UNREADABLE as error:
            raise CheckpointError(
                f"checkpoint {checkpoint} does not fit this training ({error}). Choose another --output, or "
                "delete it to start anew."
            ) from error

    def _check_engine(self, checkpoint: Path, progress: Progress) -> None:
        if self.recipe.loss_scope is LossScope.PROCESS and progress.processes != self.engine.processes:
            _LOG.warning(
                "%d processes went on to be %d: this recipe's loss compares %s, and is another one now.",
                *(progress.processes, self.engine.processes, LossScope.PROCESS.value),
            )
        if progress.engine != self.engine.name:
            raise CheckpointError(
                f"checkpoint {checkpoint} was written by {progress.engine}, this is {self.engine.name}: the "
                "states of their optimizers differ. Go on as before, or choose another --output."
            )
        spread = progress.engine.startswith("deepspeed")
        if spread and progress.processes != self.engine.processes:
            raise CheckpointError(
                f"checkpoint {checkpoint} is spread over {progress.processes} processes, now there are "
                f"{self.engine.processes}: DeepSpeed reads it with as many as wrote it. Without --deepspeed "
                "the number may change."
            )


def checked_losses(losses: Losses, recipe: Recipe) -> Losses:
    """Return the losses of a recipe, if they are what was promised.

    Raises:
        ContractError: if there is no ``loss`` that can be minimised.
    """
    where = f"{type(recipe).__name__}.forward"
    loss = named_values(losses, where).get("loss")
    if not (isinstance(loss, Tensor) and loss.ndim == 0 and loss.requires_grad):
        raise ContractError(
            f"{where} returned no 'loss' that can be minimised: expected a scalar tensor with "
            f"gradients among {', '.join(losses) or 'no names'}."
        )
    return losses


def _place() -> tuple[int, int]:
    """Number of processes and rank of this one, as launchers state them."""
    return int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))


def _engine(recipe: Recipe, conduct: Conduct, share: Share) -> Engine:
    if conduct.deepspeed is None:
        return AccelerateEngine(recipe, conduct.precision, conduct.device, share.parts)
    return DeepSpeedEngine(recipe, conduct.precision, conduct.device, share, conduct.deepspeed)
