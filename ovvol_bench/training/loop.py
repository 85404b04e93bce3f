"""The one loop that trains every recipe."""

from __future__ import annotations

import logging
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, MappingProxyType, TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ovvol_bench.errors import CheckpointError, ContractError, TrainingError, calling
from ovvol_bench.pipeline import seed_from
from ovvol_bench.runs.learned import STEPS
from ovvol_bench.training.board import Board, Pictures, Row
from ovvol_bench.training.checkpoints import UNREADABLE, Best, Checkpoints, Progress
from ovvol_bench.training.deepspeed import DeepSpeedEngine
from ovvol_bench.training.engine import AccelerateEngine, Engine, Precision
from ovvol_bench.training.loader import ExampleReader, read_batches, reading_errors, stack
from ovvol_bench.training.order import Order, Position, Share
from ovvol_bench.training.recipe import Batch, Losses, LossScope, Recipe, named_values

_LOG = logging.getLogger(__name__)
_NAMED = 8  # examples that an error lists
_VALIDATION_SEED = 0  # the same in every training, so that validation losses can be compared
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
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


class StopRequest:
    """Notes SIGINT and SIGTERM while it is entered; a second one acts as ever.

    Attributes:
        asked: whether a signal has come.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class _Training:
    """Training under way; see `train`."""

    def __init__(self, recipe: Recipe, conduct: Conduct, stop: StopRequest) -> None:
        self.recipe, self.conduct, self.stop = recipe, conduct, stop
        numbers = recipe.optimization
        self.order = Order(len(recipe.examples), numbers.batch_size, conduct.seed)
        self.total = self.order.steps(numbers.epochs)
        # As launchers state them: the engine, which joins the processes, needs to know the parts.
        place = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
        self.share = Share.of(numbers.batch_size, *place, conduct.micro_batch, recipe.alike)
        self.share.check_scope(recipe.loss_scope)
        self.engine: Engine
        if conduct.deepspeed is None:
            self.engine = AccelerateEngine(recipe, conduct.precision, conduct.device, self.share.parts)
        else:
            self.engine = DeepSpeedEngine(
                recipe, conduct.precision, conduct.device, self.share, conduct.deepspeed
            )
        self.checkpoints = Checkpoints(conduct.folder / "checkpoints", conduct.keep)
        self.weights = conduct.folder / "weights.safetensors"
        self.board: Board | None = None
        self.done = 0

    def run(self) -> Outcome:
        """Train to the end, or until asked to stop."""
        found = self.checkpoints.latest_whole()
        if found is not None:
            self._load(*found)
            self.done = found[1].step
        first, last = self.done, min(self.total, self.conduct.steps or self.total)
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

    def evaluate(self, checkpoint: Path) -> Mapping[str, float]:
        """Measure a checkpoint."""
        try:
            self._load(checkpoint, Progress.read(checkpoint))
            return self._validation()[0]
        finally:
            self.engine.close()

    def _train(self, first: int, last: int) -> None:
        conduct = self.conduct
        for done, row in self._steps(first, last):
            self.done = done
            stop = row.pop("stop")
            if done % conduct.log_every == 0 or done == last:
                self._note(done, row)
            conduct.progress(done, last, row)
            if self.engine.is_main:
                with self._calling("remark"):
                    remark = self.recipe.remark(row)
                if remark:
                    _LOG.warning("step %d: %s", done, remark)
            if stop or done == last:
                break
            if done % conduct.save_every == 0:
                self._save(done)
            if done % conduct.measure_every == 0:
                self._measure(done)
        if self.done > first:
            if self.done >= self.total:
                with self.engine.whole_weights(), self._calling("finish"):
                    self.recipe.finish()
            self._save(self.done)
        if first < self.done == last:  # after saving, so that what goes wrong here loses nothing
            self._measure(self.done)

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
            with engine.exchange(last), self._calling("forward"):
                losses = checked_losses(engine.losses(batch), self.recipe)
                engine.backward(losses["loss"], last)
            for name, value in losses.items():
                summed[name] = summed.get(name, 0) + value.detach().float() / self.share.parts
        # Means over processes, and whether any was asked to stop: one exchange a step, and the only time that
        # the host waits for the device.
        stop = torch.tensor(float(self.stop.asked))
        found = {**summed, "gradient_norm": engine.gradient_norm(), "stop": stop}
        means = engine.mean(torch.stack([value.to(engine.device) for value in found.values()])).tolist()
        row = dict(zip(found, means, strict=True))
        self._check(step, "loss", row["loss"])
        if not engine.overflow_is_handled:
            self._check(step, "gradient norm", row["gradient_norm"])
        with calling(f"the schedule of {type(self.recipe).__name__}"):
            factor = numbers.factor(step, self.total)
        engine.update(factor, numbers.decay(step, self.total))
        # Bringing parameters together costs: only for a recipe that has something to do.
        if type(self.recipe).after_step is not Recipe.after_step:
            with torch.no_grad(), engine.whole_weights(to_write=True), self._calling("after_step"):
                self.recipe.after_step(step + 1, self.total)
        return {"step": step + 1, **row, "learning_rate": numbers.learning_rate * factor}

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

    def _prepared(self, batch: Batch) -> Batch:
        moved = {name: value.to(self.engine.device, non_blocking=True) for name, value in batch.items()}
        with torch.no_grad(), self.engine.autocast(), self._calling("prepare") as where:
            return named_values(self.recipe.prepare(moved), where)

    def _measure(self, step: int) -> None:
        numbers, pictures = self._validation()
        self._note(step, numbers, pictures)
        best = self.conduct.best
        if best is None:
            return
        improves = best.improves(self.conduct.folder, numbers)
        self.engine.wait()  # all have read what is noted below
        if improves:
            with self._calling("save_weights"):
                self._write_weights(step, self.conduct.folder / "best.safetensors")
            if self.engine.is_main:
                best.note(self.conduct.folder, step, numbers)

    def _validation(self) -> tuple[dict[str, float], Pictures]:
        """Measure the recipe as it is; every process does the same, for modules that are spread over them.

        Returns:
            Numbers by name, losses as ``validation_loss`` and so on; pictures by name.
        """
        recipe, size = self.recipe, self.share.micro_batch
        numbers: dict[str, float] = {}
        pictures: Pictures = _NONE
        with self.engine.measuring(recipe):
            if recipe.validation is not None:
                reader, count = ExampleReader(recipe.validation, _VALIDATION_SEED), len(recipe.validation)
                # Evenly spread, in whole batches, repeated where there are fewer examples than one holds.
                whole = max(1, min(self.conduct.measured_examples, count) // size) * size
                indices = np.linspace(0, count, whole, endpoint=False).astype(int).tolist()
                examples = [Position(0, place, index, place) for place, index in enumerate(indices)]
                found: list[Losses] = []
                for first in range(0, whole, size):
                    batch = self._prepared(stack([reader[at] for at in examples[first : first + size]]))
                    with self._calling("forward") as where:
                        found.append(named_values(recipe(batch), where))
                    if first == 0:
                        with self._calling("pictures") as where:
                            pictures = named_values(recipe.pictures(batch), where)
                for loss in found[0]:
                    numbers[f"validation_{loss}"] = float(np.mean([float(losses[loss]) for losses in found]))
            with self._calling("evaluate") as where:
                numbers |= named_values(recipe.evaluate(), where)
        return numbers, pictures

    def _save(self, step: int) -> None:
        """Write a checkpoint, and the weights beside it.

        The checkpoint counts once the weights are there: a training that is killed in between takes the
        last steps again, and never finds itself finished with weights of before.
        """
        self.checkpoints.write(step, self.engine.save)
        with self._calling("save_weights"):
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
        if progress.engine.startswith("deepspeed") and progress.processes != self.engine.processes:
            raise CheckpointError(
                f"checkpoint {checkpoint} is spread over {progress.processes} processes, now there are "
                f"{self.engine.processes}: DeepSpeed reads it with as many as wrote it. Without --deepspeed "
                "the number may change."
            )

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

    @contextmanager
    def _calling(self, method: str) -> Iterator[str]:
        """Name a method of the recipe in its errors, as ``MyRecipe.forward``."""
        where = f"{type(self.recipe).__name__}.{method}"
        with calling(where):
            yield where


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
