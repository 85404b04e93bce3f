"""What is the same for all configurations of one size: parameters, and the arithmetic of a clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import nn

from ovvol_bench.data.transforms import Size
from ovvol_bench.runs.clock import Stage
from ovvol_bench.runs.plan import Plan
from ovvol_bench.runs.session import Conduct, arithmetic, run_plan
from ovvol_bench.runs.spec import RunSpec
from ovvol_bench.throughput.arithmetic import FlopClock
from ovvol_bench.throughput.children import Tell
from ovvol_bench.throughput.clips import plan_at
from ovvol_bench.throughput.measure import start
from ovvol_bench.throughput.request import Request, at_fidelity

Names = tuple[str, str, str]
"""Of encoder, grouper and labeler."""


@dataclass(frozen=True)
class SizedJob:
    """All combinations of a request at one size."""

    request: Request
    size: Size | None


@dataclass(frozen=True)
class Counted:
    """What was counted for a combination.

    Attributes:
        flops: operations of a clip by stage, a multiplication and an addition counted as two.
        parameters: by kind.
    """

    flops: Mapping[str, int]
    parameters: Mapping[str, int]


def count(job: SizedJob, tell: Tell) -> dict[Names, Counted]:
    """Count on one clip through every combination, as ``reference`` computes it.

    There the components do their arithmetic in plain float32 operators, which PyTorch's counter sees; the
    kernels and packed weights of ``fast`` would hide from it.

    Args:
        job: the combinations.
        tell: told what is done.

    Returns:
        By combination; those that fail are missing.
    """
    registry, device = start(job.request)
    tell("counting operations")
    selection = at_fidelity(job.request.selection, "reference")
    with arithmetic("reference"), TemporaryDirectory(prefix="ovvol-bench-") as folder:
        plan, clock = plan_at(selection, registry, device, job.size, 1), FlopClock(device)
        finished = run_plan(plan, registry, Conduct(Path(folder), device, 1), clock)
    specs = (spec for (spec, _), each in zip(plan.combinations, finished, strict=True) if not each.error)
    return {names_of(spec): Counted(clock.of(_stages(spec)), _parameters(plan, spec)) for spec in specs}


def names_of(spec: RunSpec) -> Names:
    """Names of encoder, grouper and labeler."""
    return spec.encoder.name, spec.grouper.name, spec.labeler.name


def _stages(spec: RunSpec) -> dict[str, tuple[Stage, ...]]:
    """The stages of a combination by their first word; a labeler has one of three."""
    encoder, grouper, labeler = names_of(spec)
    label = ("label", labeler)
    return {
        "encode": (("encode", encoder),),
        "group": (("group", encoder, grouper, str(spec.seeds[0])),),
        "label": (label, (*label, encoder), (*label, spec.id, "slots")),
    }


def _parameters(plan: Plan, spec: RunSpec) -> dict[str, int]:
    encoder, grouper, labeler = names_of(spec)
    built: dict[str, nn.Module] = {
        "encoder": plan.encoders[encoder].value,
        "grouper": plan.groupers[encoder, grouper].value,
        "labeler": plan.labelers[labeler].value.labeler,
    }
    return {kind: sum(each.numel() for each in part.parameters()) for kind, part in built.items()}
