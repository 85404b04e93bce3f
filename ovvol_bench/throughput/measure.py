"""One configuration, measured in the process that this is called in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from ovvol_bench.data.memory import keep_freed_memory
from ovvol_bench.data.readers import Image
from ovvol_bench.data.transforms import Size, resize_frames
from ovvol_bench.naming.localize import segment_boxes
from ovvol_bench.pipeline import stack
from ovvol_bench.predictions import ClipPrediction, Predictions
from ovvol_bench.registry import Registry, load_registry
from ovvol_bench.runs.benchmark import build_dataset, build_metrics
from ovvol_bench.runs.clock import Clock
from ovvol_bench.runs.devices import pick_device
from ovvol_bench.runs.plan import Plan
from ovvol_bench.runs.predictions import read_predictions
from ovvol_bench.runs.results import part_record
from ovvol_bench.runs.scoring import score
from ovvol_bench.runs.session import Conduct, arithmetic, run_plan
from ovvol_bench.throughput.arithmetic import matrix_peak
from ovvol_bench.throughput.children import Tell
from ovvol_bench.throughput.clips import as_stored, plan_at, sized
from ovvol_bench.throughput.memory import host_memory
from ovvol_bench.throughput.request import Configuration, Request
from ovvol_bench.throughput.samples import WHOLE, Laps, Spread, repeated
from ovvol_bench.types import Clip, ClipInfo

LEAST_READ = 8
"""Clips that are read for a sample of ``decode``, or more: some datasets do the work of a video at once."""


@dataclass(frozen=True)
class Job:
    """A configuration of a request."""

    request: Request
    configuration: Configuration


def measure(job: Job, tell: Tell) -> dict[str, Any]:
    """Measure a configuration.

    The passes are those of ``run``, into a folder that is thrown away. What they hide or leave to the end
    (decoding, transform, boxes, metrics) is timed apart, after the memory was read.

    Args:
        job: what to measure.
        tell: told how far it is.

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
        laps = Laps(clock, asked.batch_size, tell)
        conduct = Conduct(Path(folder), device, asked.batch_size, request.workers, progress=laps)
        (finished,) = run_plan(plan, registry, conduct, clock)
        if finished.error:
            raise finished.error
        tell("decoding, boxes, metrics")
        found = read_predictions(finished.folder.predictions)
        spreads = (
            _passes(laps, request.warmup) | _frames(job, registry, plan) | _ends(job, registry, plan, found)
        )
        return _row(plan, asked, spreads) | {
            "cores": laps.cores(request.warmup),
            "memory": {"loaded": loaded, **laps.memory},
            "matrix_peak": matrix_peak(device, plan.precision),
            "gpu": plan.gpu,
            "threads": torch.get_num_threads(),
        }


def start(request: Request) -> tuple[Registry, torch.device]:
    """What every measuring process begins with: memory as in ``run``, threads, plugins, device."""
    keep_freed_memory()
    if request.threads:
        torch.set_num_threads(request.threads)
    return load_registry(request.plugins), pick_device(request.device)


def _passes(laps: Laps, warmup: int) -> dict[str, Spread]:
    """Stages of the pass; the time waited for frames, which results call ``decode``, is called so."""
    spreads = laps.spreads(warmup)
    return {"wait" if stage == "decode" else stage: spread for stage, spread in spreads.items()}


def _frames(job: Job, registry: Registry, plan: Plan) -> dict[str, Spread]:
    """Reading clips in one thread, and making of them what models take; each alone."""
    request, size = job.request, job.configuration.size
    # A dataset of its own: it has decoded nothing yet.
    _, dataset = build_dataset(registry, sized(registry, request.selection.datasets[0], size))
    lap, clock = max(LEAST_READ, job.configuration.batch_size), Clock(plan.device)
    laps, clips = Laps(clock, lap), (request.repeats + request.warmup) * lap
    laps("", 0, clips)
    for first in range(0, clips, lap):
        with clock.measure(("decode",)):
            batch = [dataset.clip(index % len(dataset)) for index in range(first, first + lap)]
        stored = [(clip.info, as_stored(clip)) for clip in batch]
        with clock.measure(("transform",)):
            stack([_resized(*each, size) for each in stored], plan.device)
        laps("", first + lap, clips)
    return {stage: spread for stage, spread in laps.spreads(request.warmup).items() if stage != WHOLE}


def _resized(info: ClipInfo, stored: Image, size: Size | None) -> Clip:
    return Clip(info, resize_frames(stored, size or stored.shape[1:3], len(stored)))


def _ends(job: Job, registry: Registry, plan: Plan, found: Predictions) -> dict[str, Spread]:
    """What comes last: boxes, which is a part of naming, and metrics over all clips; each alone."""
    localized, repeats = list(found), job.request.repeats
    return {
        "boxes": repeated(partial(_boxes, localized), repeats, len(localized)),
        "metrics": repeated(partial(_score, registry, plan, found), repeats, len(localized)),
    }


def _boxes(clips: Iterable[ClipPrediction]) -> None:
    for clip in clips:
        found = clip.localization
        segment_boxes(found.segment_of_slot[found.slot_map], len(found), clip.info.frame_size)


def _score(registry: Registry, plan: Plan, found: Predictions) -> None:
    metrics, _ = build_metrics(registry, plan.selection.metrics, plan.dataset.vocabulary)
    score(found, plan.infos, metrics)


def _row(plan: Plan, asked: Configuration, spreads: Mapping[str, Spread]) -> dict[str, Any]:
    """What a configuration is, and its times."""
    ((spec, _),) = plan.combinations
    whole, frames = spreads[WHOLE].to_json(), len(plan.infos[0].frame_indices)
    seconds = {"median": whole["median"], "low": whole["high"], "high": whole["low"]}
    return {
        **{kind: part_record(getattr(spec, kind)) for kind in ("encoder", "grouper", "labeler")},
        "size": list(plan.dataset.clip(0).frames.shape[1:3]),
        "resized": asked.size is not None,
        "frames": frames,
        "batch_size": asked.batch_size,
        "fidelity": spec.fidelity,
        "precision": spec.precision,
        "clips_per_s": {name: 1 / each for name, each in seconds.items()},
        "frames_per_s": {name: frames / each for name, each in seconds.items()},
        "seconds": {stage: spread.to_json() for stage, spread in spreads.items()},
    }
