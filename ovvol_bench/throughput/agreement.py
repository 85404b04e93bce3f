"""Agreement of ``fast`` with ``reference``, over the same clips with the same draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ovvol_bench.components import GuidedLabeler, Labeler
from ovvol_bench.errors import error_text
from ovvol_bench.fidelity import Fidelity, arithmetic, autocast
from ovvol_bench.parallel import Report
from ovvol_bench.pipeline import embed, embed_guided, encode, stack
from ovvol_bench.predictions import Predictions
from ovvol_bench.runs.plan import Plan
from ovvol_bench.runs.predictions import read_predictions
from ovvol_bench.runs.session import Conduct, Finished, run_plan
from ovvol_bench.runs.spec import RunSpec
from ovvol_bench.throughput.request import (
    FIDELITIES,
    SizedJob,
    at_fidelity,
    names_of,
    plan_at,
    start,
)
from ovvol_bench.types import Clip

EMBEDDED_CLIPS = 8
"""Clips whose patch embeddings are compared; everything else is compared over all clips."""


Side = tuple[Plan, Sequence[Finished]]
"""Plan of one fidelity, and the finished runs."""


def agree(job: SizedJob, report: Report) -> list[dict[str, Any]]:
    """Compare the fidelities on the dataset's clips, at one size.

    Args:
        job: the combinations.
        report: told how far it is.

    Returns:
        One entry a combination, see ``docs/throughput.md``; with an ``error`` where a fidelity failed.
    """
    with TemporaryDirectory(prefix="ovvol-bench-") as folder:
        sides = [_side(job, Path(folder, fidelity), fidelity, report) for fidelity in FIDELITIES["both"]]
        plan, finished = sides[0]
        clips = [plan.dataset.clip(index) for index in range(min(EMBEDDED_CLIPS, len(plan.dataset)))]
        return [_compared(place, sides, clips) for place in range(len(finished))]


def _side(job: SizedJob, folder: Path, fidelity: Fidelity, report: Report) -> Side:
    registry, device = start(job.request)
    selection = at_fidelity(job.request.selection, fidelity)

    def progress(name: str, done: int, total: int) -> None:
        report(f"clip {done} of {total}")

    with arithmetic(fidelity):
        plan = plan_at(selection, registry, device, job.size, selection.limit)
        conduct = Conduct(
            folder, device, min(job.request.batch_sizes), job.request.workers, progress=progress
        )
        return plan, run_plan(plan, registry, conduct)


def _compared(place: int, sides: Sequence[Side], clips: Sequence[Clip]) -> dict[str, Any]:
    """Compare both fidelities of one combination."""
    plans, pair = [plan for plan, _ in sides], [finished[place] for _, finished in sides]
    (spec, _), (fast, _) = (plan.combinations[place] for plan in plans)
    entry: dict[str, Any] = dict(zip(("encoder", "grouper", "labeler"), names_of(spec), strict=True))
    entry |= {"size": list(clips[0].frames.shape[1:3]), "precision": fast.precision}
    error = next((each.error for each in pair if each.error), None)
    if error:
        return entry | {"error": error_text(error)}
    found = [read_predictions(each.folder.predictions) for each in pair]
    return entry | {
        "clips": len(found[0]),
        "patches_same": patches_same(*found),
        "names_same": names_same(*found),
        "patch_cosine": _cosine(spec, plans, clips),
        "metrics": metrics_of(*(each.result["metrics"] for each in pair)),
    }


def patches_same(reference: Predictions, fast: Predictions) -> float:
    """Return the share of the patches of all clips that the same slot wins."""
    return float(np.mean(reference.slot_map == fast.slot_map))


def names_same(reference: Predictions, fast: Predictions) -> float:
    """Return the share of slots (of those that win a patch) of one name, or dropped by both."""
    same = []
    for one, other in zip(reference, fast, strict=True):
        pair = one.localization, other.localization
        slots = np.union1d(pair[0].slot_map, pair[1].slot_map)
        names = []
        for found in pair:
            classes = np.append(found.probabilities.argmax(axis=1), -1)  # segment -1 is dropped
            known = classes[found.segment_of_slot]
            missing = max(0, int(slots.max()) + 1 - len(known))  # of slots that only the other has
            names.append(np.append(known, np.full(missing, -2))[slots])
        same.append(names[0] == names[1])
    return float(np.mean(np.concatenate(same)))


def metrics_of(reference: Mapping[str, Any], fast: Mapping[str, Any]) -> dict[str, Any]:
    """Return every number of both, and the difference; None where a number is undefined."""
    numbers = {}
    for key in (key for key in reference if key in fast):
        one, other = reference[key]["value"], fast[key]["value"]
        difference = None if one is None or other is None else other - one
        numbers[key] = {"reference": one, "fast": other, "difference": difference}
    return numbers


def _cosine(spec: RunSpec, plans: Sequence[Plan], clips: Sequence[Clip]) -> dict[str, float] | None:
    """Return mean and least cosine of the patch embeddings; None for a labeler that embeds slots."""
    cosines = []
    for clip in clips:
        one, other = (_embedded(plan, spec, clip) for plan in plans)
        if one is None or other is None:
            return None
        cosines.append(F.cosine_similarity(one.double(), other.double(), dim=-1).flatten())
    every = torch.cat(cosines)
    return {"mean": every.mean().item(), "least": every.min().item()}


def _embedded(plan: Plan, spec: RunSpec, clip: Clip) -> Tensor | None:
    """Embed the patches of a clip, (1, T, h, w, E)."""
    encoder, _, name = names_of(spec)
    labeler, told = plan.labelers[name].value.labeler, [clip.info]
    with torch.inference_mode(), arithmetic(plan.selection.fidelity), autocast(plan.device, plan.precision):
        video = stack([clip], plan.device)
        if isinstance(labeler, Labeler):
            return embed(labeler, video, truth=told)
        if isinstance(labeler, GuidedLabeler):
            features = encode(plan.encoders[encoder].value, video, truth=told)
            return embed_guided(labeler, video, features, truth=told)
    return None
