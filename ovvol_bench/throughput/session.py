"""Measure every configuration of ``bench`` in a process of its own, into one result."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ovvol_bench.files import canonical_digest, json_ready, sealed
from ovvol_bench.parallel import ChildError, Report, in_fresh_process
from ovvol_bench.registry import Registry
from ovvol_bench.results.machine import code_facts, machine_facts
from ovvol_bench.runs.build import build_dataset
from ovvol_bench.runs.spec import PartSpec
from ovvol_bench.throughput.agreement import agree
from ovvol_bench.throughput.arithmetic import Counts, count
from ovvol_bench.throughput.measure import Job, measure
from ovvol_bench.throughput.record import SCHEMA
from ovvol_bench.throughput.request import Request, SizedJob, configurations, size_text

Progress = Callable[..., None]
"""Called with a name, steps finished, steps in all, and as ``text`` what is going on."""


class Step(NamedTuple):
    """Work of one process."""

    title: str
    work: Callable[[Any, Report], Any]
    job: Any


def bench(
    request: Request, registry: Registry, progress: Progress = lambda *_, **__: None
) -> Iterator[dict[str, Any]]:
    """Measure every configuration of a request; one that fails stops no other.

    Args:
        request: what to measure.
        registry: knows the dataset.
        progress: told how far it is.

    Yields:
        The result so far, after every step from the first that was measured on; the last is complete. See
        ``docs/throughput.md``.

    Raises:
        UnknownNameError, SettingError, DataError: if the dataset can't be built.
        ChildError: if nothing could be measured: the first reason.
    """
    spec, _ = build_dataset(registry, request.selection.datasets[0])
    load, steps = os.getloadavg()[0], list(_steps(request))
    answers: list[tuple[Step, Any]] = []
    failures: list[tuple[Step, ChildError]] = []
    for place, step in enumerate(steps):

        def report(text: str, place: int = place, title: str = step.title) -> None:
            progress("bench", place, len(steps), text=f"{title}: {text}")

        report("starting")
        try:
            answers.append((step, in_fresh_process(step.work, step.job, report)))
        except ChildError as error:
            failures.append((step, error))
        if any(done.work is measure for done, _ in answers):
            yield _result(request, spec, answers, failures, load)
    progress("bench", len(steps), len(steps), text="")
    if not any(done.work is measure for done, _ in answers):
        raise failures[0][1]


def _steps(request: Request) -> Iterator[Step]:
    for size in request.sizes:
        yield Step(f"operations at {size_text(size)}", count, SizedJob(request, size))
    for configuration in configurations(request):
        yield Step(configuration.title, measure, Job(request, configuration))
    if len(request.fidelities) > 1:
        for size in request.sizes:
            yield Step(f"agreement at {size_text(size)}", agree, SizedJob(request, size))


def _result(
    request: Request,
    spec: PartSpec,
    answers: Sequence[tuple[Step, Any]],
    failures: Sequence[tuple[Step, ChildError]],
    load: float,
) -> dict[str, Any]:
    # Operations depend on the size alone: all rows of a size share one count.
    counts = {step.job.size: counted for step, counted in answers if step.work is count}
    rows = [
        _with_arithmetic(row, counts.get(step.job.configuration.size, {}))
        for step, row in answers
        if step.work is measure
    ]
    machine = machine_facts(rows[0]["gpu"]) | {"threads": rows[0]["threads"]}
    result = {
        "throughput": SCHEMA,
        "asked": {
            "repeats": request.repeats,
            "warmup": request.warmup,
            "fidelities": list(request.fidelities),
            "limit": request.selection.limit,
            "random_weights": request.random_weights,
            "naming": dict(request.selection.naming),
            "preset": request.preset,
            "method": request.method,
        },
        "dataset": {"name": spec.name, "options": dict(spec.options), "fingerprint": spec.digest},
        "rows": [{key: value for key, value in row.items() if key not in ("gpu", "threads")} for row in rows],
        "agreement": [entry for step, entries in answers if step.work is agree for entry in entries],
        "failures": [{"what": step.title, "error": str(error)} for step, error in failures],
        "machine": machine,
        "fingerprint": canonical_digest(machine)[:8],
        "load": load,
        "code": code_facts(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return sealed(json_ready(result))


def _with_arithmetic(row: Mapping[str, Any], counts: Counts) -> dict[str, Any]:
    """Add the arithmetic of a row's combination at its size, and the share of the matrix peak."""
    counted = counts.get((row["encoder"]["name"], row["grouper"]["name"], row["labeler"]["name"]))
    if counted is None:
        return {**row, "parameters": None, "flops": None, "share_of_peak": None}
    stages, parameters = counted
    flops = {**stages, "whole": sum(stages.values())}
    peak, seconds = row["matrix_peak"], row["seconds"]
    share = {
        stage: each / seconds[stage]["median"] / peak for stage, each in flops.items() if stage in seconds
    }
    return {**row, "parameters": dict(parameters), "flops": flops, "share_of_peak": share}
