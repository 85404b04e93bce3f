"""Arithmetic and parameters of models, and the products a second that the machine can do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ovvol_bench.fidelity import arithmetic
from ovvol_bench.parallel import Report
from ovvol_bench.runs.clock import Clock, Stage
from ovvol_bench.runs.plan import Plan
from ovvol_bench.runs.session import Conduct, run_plan
from ovvol_bench.runs.spec import RunSpec
from ovvol_bench.throughput.request import SizedJob, at_fidelity, names_of, plan_at, start

SIDES = {"cpu": (1024, 2048), "cuda": (4096, 8192)}
"""Sides of the square matrices whose product is timed."""
_PRODUCTS = 8


@dataclass(frozen=True)
class ProductStage(Stage):
    """Product of matrices."""

    name = "product"
    turn: int


def matrix_peak(device: torch.device, precision: torch.dtype) -> float:
    """Return the FLOP/s of the fastest product of square matrices, the machine's peak at this moment."""
    peak = 0.0
    for side in SIDES[device.type]:
        first, second = (torch.randn(side, side, device=device, dtype=precision) for _ in range(2))
        clock = Clock(device)
        for turn in range(_PRODUCTS):
            with torch.inference_mode(), clock.measure(ProductStage(turn)):
                first @ second
        peak = max(peak, 2 * side**3 / min(clock.seconds.values()))
    return peak


class FlopClock(Clock):
    """Counts the arithmetic of each stage beside its seconds: products of matrices and convolutions.

    PyTorch's counter sees PyTorch's own operators, of which fused ones are kept from being used; kernels of
    other libraries and numpy are not in it.

    Attributes:
        flops: of every stage until now.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.flops: defaultdict[Stage, int] = defaultdict(int)

    @contextmanager
    def measure(self, stage: Stage) -> Iterator[None]:
        """Add the operations of the block to a stage."""
        with super().measure(stage), _unfused(), FlopCounterMode(display=False) as counter:
            yield
        self.flops[stage] += counter.get_total_flops()

    def of(self, stages: Collection[Stage]) -> dict[str, int]:
        """Sum the operations of some stages by name: those of the components."""
        return {
            name: sum(self.flops.get(stage, 0) for stage in stages if stage.name == name)
            for name in ("encode", "group", "label")
        }


@contextmanager
def _unfused() -> Iterator[None]:
    """Keep out the one operator that stands for a whole attention layer: it hides its products."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


Counts = Mapping[tuple[str, str, str], tuple[Mapping[str, int], Mapping[str, int]]]
"""By names of encoder, grouper and labeler: operations of a clip by stage, and parameters by kind."""


def count(job: SizedJob, report: Report) -> Counts:
    """Count operations and parameters on one clip through every combination, as ``reference`` computes it.

    There the components do their arithmetic in plain float32 operators, which PyTorch's counter sees; the
    kernels and packed weights of ``fast`` would hide from it.

    Args:
        job: the combinations.
        report: told what is done.

    Returns:
        By combination; those that fail are missing. A multiplication and an addition are two operations.
    """
    registry, device = start(job.request)
    report("counting operations")
    selection = at_fidelity(job.request.selection, "reference")
    with arithmetic("reference"), TemporaryDirectory(prefix="ovvol-bench-") as folder:
        plan, clock = plan_at(selection, registry, device, job.size, 1), FlopClock(device)
        finished = run_plan(plan, registry, Conduct(Path(folder), device, 1), clock)
    specs = (spec for (spec, _), each in zip(plan.combinations, finished, strict=True) if not each.error)
    return {names_of(spec): (clock.of(spec.stages), _parameters(plan, spec)) for spec in specs}


def _parameters(plan: Plan, spec: RunSpec) -> dict[str, int]:
    encoder, grouper, labeler = names_of(spec)
    built: dict[str, nn.Module] = {
        "encoder": plan.encoders[encoder].value,
        "grouper": plan.groupers[encoder, grouper].value,
        "labeler": plan.labelers[labeler].value.labeler,
    }
    return {kind: sum(each.numel() for each in part.parameters()) for kind, part in built.items()}
