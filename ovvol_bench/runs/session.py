"""Session of ``run``: every dataset's matrix, from a selection to written results."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import torch

from ovvol_bench.data.base import IncompleteClipError
from ovvol_bench.data.loading import prefetch
from ovvol_bench.errors import DataError, DecodeError, SettingError, error_text
from ovvol_bench.fidelity import arithmetic
from ovvol_bench.files import ensure_writable
from ovvol_bench.locks import make_room_for
from ovvol_bench.registry import Registry
from ovvol_bench.runs.build import build_metrics
from ovvol_bench.runs.clock import Clock, DecodeStage, Timing
from ovvol_bench.runs.combination import Run
from ovvol_bench.runs.matrix import Matrix, OnError
from ovvol_bench.runs.plan import Plan, make_plan
from ovvol_bench.runs.predictions import read_predictions
from ovvol_bench.runs.score import (
    missing_clips,
    needs_masks,
    remarks,
    score,
    score_videos,
    strangers,
    unread_text,
)
from ovvol_bench.runs.selection import Selection
from ovvol_bench.runs.spec import RunSpec
from ovvol_bench.runs.store import Outcome, Overwrite, RunFolder, build_result
from ovvol_bench.types import Clip

MANY = 100  # combinations; fewer have room under any usual limit of open files
Progress = Callable[[str, int, int], None]
"""Called with the dataset's name, clips finished and clips to compute, after every batch."""


@dataclass(frozen=True)
class Conduct:
    """Conduct of a session: nothing here changes results.

    Attributes:
        output: root of the run folders.
        device: where components run.
        batch_size: clips that go through a component together; None for as many as fit.
        workers: that read frames ahead; None: a processor each, see ``loading.prefetch``.
        overwrite: what to do about folders that are there.
        on_error: whether a frame that can't be read, or a clip that fails, ends the run or is left out and
            counted.
        progress: told how far the run is.
        soft_masks: whether soft masks are kept with the predictions, also where no metric asks for them.
    """

    output: Path
    device: torch.device
    batch_size: int | None = None
    workers: int | None = None
    overwrite: Overwrite = Overwrite.MISSING
    on_error: OnError = "fail"
    progress: Progress = lambda name, done, total: None
    soft_masks: bool = False

    def sizes(self) -> Callable[[Shape], int]:
        """Return the function that gives the batch size for a shape."""
        asked = self.batch_size
        return FittingBatches(self.device).size if asked is None else lambda shape: asked


@dataclass(frozen=True)
class Finished:
    """Result of one combination.

    Attributes:
        result: as written to ``result.json``.
        folder: of the run.
        error: what ended it, None if it is done.
        remarks: what else there is to say, a line each; see ``remarks``.
    """

    result: dict[str, Any]
    folder: RunFolder
    error: Exception | None = None
    remarks: tuple[str, ...] = ()


def run_all(selection: Selection, registry: Registry, conduct: Conduct) -> list[Finished]:
    """Run a matrix on each of its datasets.

    Args:
        selection: what to run.
        registry: builds the components.
        conduct: how to run it.

    Returns:
        One entry a combination, failed ones too; nothing is written for a dataset on which no
        combination could start.

    Raises:
        OvvolError: for wrong names and settings, unreadable data, a folder that can't be written or
            is in use, and, unless ``on_error`` is ``skip``, a clip that can't be read.
    """
    ensure_writable(conduct.output)
    with arithmetic(selection.fidelity):
        finished: list[Finished] = []
        for dataset in selection.datasets:
            finished += run_plan(make_plan(selection, dataset, registry, conduct.device), registry, conduct)
        return finished


def run_plan(plan: Plan, registry: Registry, conduct: Conduct, clock: Clock | None = None) -> list[Finished]:
    """Run one dataset's matrix with all its folders claimed.

    Args:
        plan: the built parts.
        registry: builds the metrics.
        conduct: how to run it.
        clock: one to look at from outside; by default the matrix has its own.

    Returns:
        One entry a combination, failed ones too.
    """
    refused = [(spec, error) for spec, error in plan.combinations if error]
    if len(refused) == len(plan.combinations):
        place = partial(RunFolder.of, conduct.output)
        return [Finished(_failed(plan, spec, error), place(spec), error) for spec, error in refused]
    metrics, _ = build_metrics(registry, plan.selection.metrics, plan.dataset.vocabulary)
    conduct = replace(
        conduct, soft_masks=conduct.soft_masks or any("soft masks" in each.needs for each in metrics)
    )
    if conduct.soft_masks and plan.selection.consensus:
        raise SettingError(
            "a consensus of several seeds has no soft masks, which a metric or --soft-masks asks for. Drop "
            "these, or --consensus"
        )
    if len(plan.combinations) > MANY:
        make_room_for(len(plan.combinations))
    with ExitStack() as claims:
        claim = partial(_start, plan, registry, conduct, claims)
        runs = [claim(spec, error) for spec, error in plan.combinations]
        if conduct.on_error == "fail":
            _refuse_unread(runs)
        clock = clock or Clock(plan.device)
        try:
            _localize(plan, runs, Matrix(plan, runs, clock, registry, conduct.on_error), clock, conduct)
        finally:
            for run in runs:
                run.close()
        timings = [clock.timing(run.spec.stages, run.computed) for run in runs]
        return [_finish(plan, run, timing, registry) for run, timing in zip(runs, timings, strict=True)]


def _start(
    plan: Plan,
    registry: Registry,
    conduct: Conduct,
    claims: ExitStack,
    spec: RunSpec,
    error: Exception | None,
) -> Run:
    """Claim a run's folder and make it ready; plugins hear of runs that can start."""
    folder = RunFolder.of(conduct.output, spec)
    claims.enter_context(folder.claimed())
    folder.start(spec, conduct.overwrite)
    if not error:
        registry.tell("ovvol_run_started", spec=folder.read_json())
    return Run(spec, folder, error, len(plan.combinations), conduct.soft_masks)


def _refuse_unread(runs: list[Run]) -> None:
    """Refuse to go on with predictions that lack frames, where these were to end the run."""
    for run in runs:
        if run.unread:
            raise DataError(
                f"{run.folder.path} was made with --on-error skip and lacks {len(run.unread)} frames. "
                f"{next(iter(run.unread.values()))} Give --on-error skip again, or --overwrite always to "
                "compute all clips anew."
            )


def _localize(plan: Plan, runs: list[Run], matrix: Matrix, clock: Clock, conduct: Conduct) -> None:
    """Carry every clip that some run lacks through the matrix."""
    todo = [index for index, info in enumerate(plan.infos) if any(run.needs(info.id) for run in runs)]
    finished = 0
    conduct.progress(plan.dataset_spec.name, finished, len(todo))
    for clips in batches(_readable(plan, todo, runs, clock, conduct), conduct.sizes()):
        matrix.advance(clips)
        finished += len(clips)
        conduct.progress(plan.dataset_spec.name, finished, len(todo))
        if all(run.failure for run in runs):
            return


def _readable(plan: Plan, todo: list[int], runs: list[Run], clock: Clock, conduct: Conduct) -> Iterator[Clip]:
    """Yield clips as they come from the decoder; what can't be read of them is left out, or ends it all."""
    decoded = prefetch(plan.dataset, todo, conduct.workers, clock.count_reading)
    while True:
        with clock.measure(DecodeStage()):
            item = next(decoded, None)
        if item is None:
            return
        index, outcome = item
        if isinstance(outcome, IncompleteClipError) and conduct.on_error == "skip":
            outcome = outcome.clip
        if isinstance(outcome, Clip):
            yield outcome
            continue
        if conduct.on_error == "fail":
            raise DecodeError(f"{outcome} --on-error skip leaves such frames out and counts them.")
        for run in runs:
            run.skip([plan.infos[index].id], "frames can't be read", str(outcome))


def _finish(plan: Plan, run: Run, timing: Timing, registry: Registry) -> Finished:
    """Compute the result from the stored predictions and write it."""
    if not run.failure and not run.done:
        run.failure = DataError(f"none of {len(plan.infos)} clips could be localized: {dict(run.reasons())}")
    said: tuple[str, ...] = ()
    try:
        if not run.failure:
            result, said = _done(plan, run, timing, registry)
    except DataError as error:  # predictions that went missing, or were damaged, while the run worked
        run.failure = error
    if run.failure:
        result = _failed(plan, run.spec, run.failure)
    result = run.folder.write_result(result)
    registry.tell("ovvol_run_finished", result=result)
    return Finished(result, run.folder, run.failure, said)


def _done(plan: Plan, run: Run, timing: Timing, registry: Registry) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the result of a run and the remarks on it."""
    metrics, _ = build_metrics(registry, plan.selection.metrics, plan.dataset.vocabulary)
    predictions = read_predictions(run.folder.predictions, needs_masks(metrics))
    lost = [clip for clip in missing_clips(predictions, plan.infos) if clip not in run.skipped]
    if lost:
        raise DataError(
            f"{run.folder.predictions}: {len(lost)} of {len(plan.infos)} clips that were localized are not "
            f"there, such as '{lost[0]}'; were files removed? Run again: only these are computed."
        )
    videos = score_videos(predictions, plan.infos, metrics)
    coverage, values = score(predictions, plan.infos, metrics)
    skipped = {**plan.dataset.skipped, **run.reasons()}
    outcome = Outcome(
        replace(coverage, skipped=skipped), values, timing.to_json(), gpu=plan.gpu, videos=videos
    )
    result = build_result(run.spec, plan.truth, outcome)
    before = run.folder.read_result()
    if before and before.get("status") == "done" and not run.computed:
        # Nothing was computed: how fast it was, and on what, is what it was then.
        result |= {key: before[key] for key in ("timing", "machine", "date")}
    has_truth = any(info.truth is not None for info in plan.infos)
    names = [each.name for each in plan.dataset.vocabulary.classes]
    learned = {
        "encoder": plan.encoders[run.spec.encoder.name].learned,
        "grouper": plan.groupers[run.spec.encoder.name, run.spec.grouper.name].learned,
        "labeler": plan.labelers[run.spec.labeler.name].learned,
    }
    said = (
        *unread_text(coverage.unread, plan.truth.frames, run.unread),
        *remarks(predictions, names, has_truth),
        *strangers(plan.dataset_spec.name, learned),
    )
    return result, said


def _failed(plan: Plan, spec: RunSpec, error: Exception) -> dict[str, Any]:
    return build_result(spec, plan.truth, Outcome(error=error_text(error), gpu=plan.gpu))


Shape = tuple[int, ...]
"""Of a clip's frames, (T, H, W, 3)."""

CPU_VALUES = 3 * 2**17
"""Pixel values that a CPU takes at a time; with more, what a layer gives doesn't stay in the cache."""
MOST_CLIPS = 64
SHARE_OF_MEMORY = 0.7


class FittingBatches:
    """Batch sizes where nobody gives one.

    On a CPU a few very small clips or a single one. On a GPU a single clip first, and then as many as
    memory has room for, judged by what that one took at most.

    Args:
        device: where the components run.
        memory: (bytes that can be had, the most bytes allocated at a time since it was last asked, bytes
            allocated now) on the device.
    """

    def __init__(
        self, device: torch.device, memory: Callable[[], tuple[int, int, int]] | None = None
    ) -> None:
        self._is_cpu = device.type == "cpu"
        self._memory = memory or (lambda: gpu_memory(device))
        self._sizes: dict[Shape, int] = {}
        self._tried: Shape | None = None

    def size(self, shape: Shape) -> int:
        """Clips of a shape that make a batch; asked before each batch."""
        if self._is_cpu:
            return min(MOST_CLIPS, max(1, CPU_VALUES // prod(shape)))
        if self._tried is not None:
            free, most, now = self._memory()
            a_clip = max(1, most - now)
            self._sizes[self._tried] = min(MOST_CLIPS, max(1, int(SHARE_OF_MEMORY * free) // a_clip))
            self._tried = None
        if shape not in self._sizes:
            self._tried = shape
            self._memory()
            return 1
        return self._sizes[shape]


def gpu_memory(device: torch.device) -> tuple[int, int, int]:
    """Return the memory that `FittingBatches` asks for; what PyTorch keeps in reserve counts as free."""
    free, _ = torch.cuda.mem_get_info(device)
    now, most = torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device)
    reserve = torch.cuda.memory_reserved(device) - now
    torch.cuda.reset_peak_memory_stats(device)
    return free + reserve, most, now


def batches(clips: Iterable[Clip], size: Callable[[Shape], int]) -> Iterator[list[Clip]]:
    """Clips of equal length and frame size, so many at a time; what is left over comes last."""
    waiting: defaultdict[Shape, list[Clip]] = defaultdict(list)
    for clip in clips:
        shape = clip.frames.shape
        waiting[shape].append(clip)
        if len(waiting[shape]) >= size(shape):
            yield waiting.pop(shape)
    yield from waiting.values()
