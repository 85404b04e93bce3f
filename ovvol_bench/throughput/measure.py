"""Speed and memory of one configuration, measured in the process that this is called in."""

from __future__ import annotations

import re
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch

from ovvol_bench.data.transforms import resize_frames
from ovvol_bench.fidelity import arithmetic
from ovvol_bench.naming.localize import segment_boxes
from ovvol_bench.parallel import Report
from ovvol_bench.pipeline import stack
from ovvol_bench.predictions import Predictions
from ovvol_bench.registry import Registry
from ovvol_bench.runs.build import build_dataset, build_metrics
from ovvol_bench.runs.clock import Clock, DecodeStage, Stage
from ovvol_bench.runs.plan import Plan
from ovvol_bench.runs.predictions import read_predictions
from ovvol_bench.runs.score import score
from ovvol_bench.runs.session import Conduct, run_plan
from ovvol_bench.runs.store import part_record
from ovvol_bench.throughput.arithmetic import matrix_peak
from ovvol_bench.throughput.record import Spread
from ovvol_bench.throughput.request import Configuration, Request, as_stored, plan_at, sized, start
from ovvol_bench.types import Clip

LEAST_READ = 8
"""Clips that are read for a sample of ``decode``, or more: some datasets do the work of a video at once."""


WHOLE = "whole"
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class TransformStage(Stage):
    """Resize stored frames for models."""

    name = "transform"


class Job(NamedTuple):
    """Configuration of a request."""

    request: Request
    configuration: Configuration


def measure(job: Job, report: Report) -> dict[str, Any]:
    """Measure a configuration.

    The passes are those of ``run``, into a folder that is thrown away. What they hide or leave to the end
    (decoding, transform, boxes, metrics) is timed apart, after the memory was read.

    Args:
        job: what to measure.
        report: told how far it is.

    Returns:
        A row of the result, without what is counted once for all configurations (see ``session``).

    Raises:
        Exception: what ended the pass.
    """
    request, asked = job.request, job.configuration
    registry, device = start(request)
    with arithmetic(asked.fidelity), TemporaryDirectory(prefix="ovvol-bench-") as folder:
        count = (request.repeats + request.warmup) * asked.batch_size
        plan = plan_at(asked.of(request.selection), registry, device, asked.size, count)
        loaded, clock = host_memory()[0], Clock(device)
        laps = Laps(clock, asked.batch_size, report)
        conduct = Conduct(Path(folder), device, asked.batch_size, request.workers, progress=laps)
        (finished,) = run_plan(plan, registry, conduct, clock)
        if finished.error:
            raise finished.error
        report("decoding, boxes, metrics")
        found = read_predictions(finished.folder.predictions)
        spreads = laps.spreads(request.warmup)
        # Runs call the time waited for frames ``decode``; here that is the reading itself.
        spreads = {"wait" if stage == "decode" else stage: spread for stage, spread in spreads.items()}
        spreads |= _frames(job, registry, plan) | _ends(job, registry, plan, found)
        return _row(plan, asked, spreads) | {
            "cores": laps.cores(request.warmup),
            "memory": {"loaded": loaded, **laps.memory},
            "matrix_peak": matrix_peak(device, plan.precision),
            "gpu": plan.gpu,
            "threads": torch.get_num_threads(),
        }


def _frames(job: Job, registry: Registry, plan: Plan) -> dict[str, Spread]:
    """Time reading clips in one thread, and the transform for models; each alone."""
    request, size = job.request, job.configuration.size
    # A dataset of its own: it has decoded nothing yet.
    _, dataset = build_dataset(registry, sized(registry, request.selection.datasets[0], size))
    lap, clock = max(LEAST_READ, job.configuration.batch_size), Clock(plan.device)
    laps, clips = Laps(clock, lap), (request.repeats + request.warmup) * lap
    laps("", 0, clips)
    for first in range(0, clips, lap):
        with clock.measure(DecodeStage()):
            batch = [dataset.clip(index % len(dataset)) for index in range(first, first + lap)]
        stored = [(clip.info, as_stored(clip)) for clip in batch]
        with clock.measure(TransformStage()):
            resized = (
                Clip(info, resize_frames(frames, size or frames.shape[1:3], len(frames)))
                for info, frames in stored
            )
            stack(list(resized), plan.device)
        laps("", first + lap, clips)
    return {stage: spread for stage, spread in laps.spreads(request.warmup).items() if stage != WHOLE}


def _ends(job: Job, registry: Registry, plan: Plan, found: Predictions) -> dict[str, Spread]:
    """Time boxes, a part of naming, and metrics over all clips; each alone."""
    clips, repeats = list(found), job.request.repeats

    def boxes() -> None:
        for clip in clips:
            each = clip.localization
            segment_boxes(each.segment_of_slot[each.slot_map], len(each), clip.info.frame_size)

    def metrics() -> None:
        # Built anew for each sample, as in a run.
        built, _ = build_metrics(registry, plan.selection.metrics, plan.dataset.vocabulary)
        score(found, plan.infos, built)

    works = {"boxes": boxes, "metrics": metrics}
    return {stage: repeated(work, repeats, len(clips)) for stage, work in works.items()}


def _row(plan: Plan, asked: Configuration, spreads: Mapping[str, Spread]) -> dict[str, Any]:
    """Describe a configuration and its times."""
    ((spec, _),) = plan.combinations
    whole, frames = spreads[WHOLE].inverse, len(plan.infos[0].frame_indices)
    clips_per_s = whole.to_json()
    return {
        **{kind: part_record(getattr(spec, kind)) for kind in ("encoder", "grouper", "labeler")},
        "size": list(plan.dataset.clip(0).frames.shape[1:3]),
        "resized": asked.size is not None,
        "frames": frames,
        "batch_size": asked.batch_size,
        "fidelity": spec.fidelity,
        "precision": spec.precision,
        "clips_per_s": clips_per_s,
        "frames_per_s": {name: frames * rate for name, rate in clips_per_s.items()},
        "seconds": {stage: spread.to_json() for stage, spread in spreads.items()},
    }


class Laps:
    """Reads a clock after every batch; can be given to ``Conduct`` as its progress.

    Args:
        clock: that measures the stages.
        batch_size: clips of every batch.
        report: told how far it is.

    Attributes:
        memory: peaks after the last batch, bytes: ``host``, and ``device`` as PyTorch allocated them, None on
            a CPU.
    """

    def __init__(self, clock: Clock, batch_size: int, report: Report = lambda text: None) -> None:
        self._clock, self._batch_size, self._report = clock, batch_size, report
        self._marks: list[tuple[float, Mapping[Stage, float]]] = []
        self._processor: list[float] = []
        self.memory: Mapping[str, int | None] = {}

    def __call__(self, name: str, done: int, total: int) -> None:
        """Read the clock after a batch, or at 0 before the first."""
        self._marks.append((time.perf_counter(), self._clock.seconds))
        self._processor.append(time.process_time())
        self._report(f"clip {done} of {total}")
        if done == total:
            device = self._clock.device
            allocated = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
            self.memory = {"host": host_memory()[1], "device": allocated}

    def spreads(self, warmup: int) -> dict[str, Spread]:
        """Return seconds a clip by stage, and of a whole batch, over the batches after ``warmup``."""
        samples: defaultdict[str, list[float]] = defaultdict(list)
        for (begin, before), (end, after) in pairwise(self._marks[warmup:]):
            passed: defaultdict[str, float] = defaultdict(float)
            for stage, seconds in after.items():  # stages of one kind are summed by their first word
                passed[stage.name] += seconds - before.get(stage, 0.0)
            for name, seconds in {**passed, WHOLE: end - begin}.items():
                samples[name].append(seconds / self._batch_size)
        return {name: Spread.of(values) for name, values in samples.items()}

    def cores(self, warmup: int) -> float:
        """Return the busy cores of this process, on average over the batches after ``warmup``."""
        busy = self._processor[-1] - self._processor[warmup]
        return busy / (self._marks[-1][0] - self._marks[warmup][0])


def repeated(work: Callable[[], object], repeats: int, clips: int) -> Spread:
    """Time some work over so many clips, in seconds a clip, ``repeats`` times after a warm-up."""
    work()
    samples = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        samples.append((time.perf_counter() - start) / clips)
    return Spread.of(samples)


def host_memory() -> tuple[int, int]:
    """Return the resident bytes of this process, now and at their peak."""
    # getrusage also counts the process that this one was forked from, but it is there on every system.
    if _STATUS.exists():
        text = _STATUS.read_text(encoding="ascii", errors="replace")
        now, peak = (int(re.search(rf"{field}:\s+(\d+) kB", text)[1]) for field in ("VmRSS", "VmHWM"))  # type: ignore[index]
        return 1024 * now, 1024 * peak
    unit = 1 if sys.platform == "darwin" else 1024
    peak = unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak, peak
