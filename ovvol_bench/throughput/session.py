"""One call of ``bench``: every configuration in a process of its own, and one result of all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ovvol_bench.data.transforms import Size
from ovvol_bench.files import json_ready
from ovvol_bench.registry import Registry
from ovvol_bench.runs.benchmark import build_dataset
from ovvol_bench.runs.machine import code_facts, machine_facts
from ovvol_bench.runs.spec import PartSpec, canonical_digest, sealed
from ovvol_bench.throughput.agreement import agree
from ovvol_bench.throughput.children import ChildError, Tell, Work, in_fresh_process
from ovvol_bench.throughput.counting import Counted, SizedJob, count
from ovvol_bench.throughput.files import SCHEMA
from ovvol_bench.throughput.measure import Job, measure
from ovvol_bench.throughput.request import Request, configurations, size_text

Progress = Callable[..., None]
"""Called with a name, steps finished, steps in all, and as ``text`` what is going on."""


class Step(NamedTuple):
    """One process.

    Attributes:
        title: in words.
        work: what it does.
        job: with what.
    """

    title: str
    work: Work[Any]
    job: Any


@dataclass(frozen=True)
class Answers:
    """What came of the steps: the answer of each that succeeded, and why the others failed."""

    done: list[tuple[Step, Any]]
    failed: list[tuple[Step, ChildError]]

    def add(self, step: Step, tell: Tell) -> None:
        """Take a step."""
        tell("starting")
        try:
            self.done.append((step, in_fresh_process(step.work, step.job, tell)))
        except ChildError as error:
            self.failed.append((step, error))

    def of(self, work: Work[Any]) -> list[tuple[Any, Any]]:
        """Job and answer of every step of one kind."""
        return [(step.job, answer) for step, answer in self.done if step.work is work]


def bench(
    request: Request, registry: Registry, progress: Progress = lambda *_, **__: None
) -> Iterator[dict[str, Any]]:
    """Measure everything that is asked for; a configuration that fails stops no other.

    Args:
        request: what to measure.
        registry: knows the dataset.
        progress: told how far it is.

    Yields:
        The result so far, after every step from the first that was measured on; the last is complete. See
        ``docs/throughput.md``.

    Raises:
        UnknownNameError, SettingError, DataError: if the dataset can't be had.
        ChildError: if nothing could be measured: the first reason.
    """
    spec, _ = build_dataset(registry, request.selection.datasets[0])
    load, answers, steps = os.getloadavg()[0], Answers([], []), list(_steps(request))
    for place, step in enumerate(steps):

        def tell(text: str, place: int = place, title: str = step.title) -> None:
            progress("bench", place, len(steps), text=f"{title}: {text}")

        answers.add(step, tell)
        if answers.of(measure):
            yield _result(request, spec, answers, load)
    progress("bench", len(steps), len(steps), text="")
    if not answers.of(measure):
        raise answers.failed[0][1]


def _steps(request: Request) -> Iterator[Step]:
    for size in request.sizes:
        yield Step(f"operations at {size_text(size)}", count, SizedJob(request, size))
    for configuration in configurations(request):
        yield Step(configuration.title, measure, Job(request, configuration))
    if len(request.fidelities) > 1:
        for size in request.sizes:
            yield Step(f"agreement at {size_text(size)}", agree, SizedJob(request, size))


def _result(request: Request, spec: PartSpec, answers: Answers, load: float) -> dict[str, Any]:
    rows = [_row(job, row, answers) for job, row in answers.of(measure)]
    machine = machine_facts(rows[0]["gpu"]) | {"threads": rows[0]["threads"]}
    result = {
        "throughput": SCHEMA,
        "asked": _asked(request),
        "dataset": {"name": spec.name, "options": dict(spec.options), "fingerprint": spec.digest},
        "rows": [{key: value for key, value in row.items() if key not in ("gpu", "threads")} for row in rows],
        "agreement": [entry for _, entries in answers.of(agree) for entry in entries],
        "failures": [{"what": step.title, "error": str(error)} for step, error in answers.failed],
        "machine": machine,
        "fingerprint": canonical_digest(machine)[:8],
        "load": load,
        "code": code_facts(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return sealed(json_ready(result))


def _row(job: Job, row: Mapping[str, Any], answers: Answers) -> dict[str, Any]:
    """A row with what was counted for its combination and size, and the share of the matrix peak."""
    names = row["encoder"]["name"], row["grouper"]["name"], row["labeler"]["name"]
    counted: Counted | None = _at(answers, job.configuration.size).get(names)
    if counted is None:
        return {**row, "parameters": None, "flops": None, "share_of_peak": None}
    flops = {**counted.flops, "whole": sum(counted.flops.values())}
    peak, seconds = row["matrix_peak"], row["seconds"]
    share = {
        stage: each / seconds[stage]["median"] / peak for stage, each in flops.items() if stage in seconds
    }
    return {**row, "parameters": dict(counted.parameters), "flops": flops, "share_of_peak": share}


def _at(answers: Answers, size: Size | None) -> dict[Any, Counted]:
    return next((counted for job, counted in answers.of(count) if job.size == size), {})


def _asked(request: Request) -> dict[str, Any]:
    return {
        "repeats": request.repeats,
        "warmup": request.warmup,
        "fidelities": list(request.fidelities),
        "limit": request.selection.limit,
        "random_weights": request.random_weights,
        "naming": dict(request.selection.naming),
        "preset": request.preset,
        "method": request.method,
    }
