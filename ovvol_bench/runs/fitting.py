"""Which metrics fit what predictions and truth hold; the others are refused or left out with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec

from ovvol_bench.data.base import Dataset
from ovvol_bench.detections import Detections
from ovvol_bench.errors import SettingError
from ovvol_bench.formats.entries import Report
from ovvol_bench.metrics.base import DetectionMetric, Metric
from ovvol_bench.metrics.evaluation import OF_DETECTIONS
from ovvol_bench.registry import Filled, FromPredictions, Registry
from ovvol_bench.runs.benchmark import build_metrics, fit
from ovvol_bench.runs.selection import Choice
from ovvol_bench.types import ClipInfo, FrameRows, FrameTable, FrameTruth

Lacks = Mapping[str, str]
"""What is missing, of the words of ``Metric.needs`` and ``true boxes``, and why it is."""


@dataclass(frozen=True)
class Wanted:
    """The metrics to compute.

    Attributes:
        choices: in order.
        lenient: whether those that don't fit are left out, or refused.
    """

    choices: tuple[Choice, ...]
    lenient: bool


@dataclass(frozen=True)
class Fitting:
    """What came of fitting metrics.

    Attributes:
        metrics: fresh ones that fit.
        left_out: name to reason.
    """

    metrics: tuple[Metric, ...]
    left_out: Mapping[str, str]


def fitting(registry: Registry, dataset: Dataset, wanted: Wanted, lacks: Lacks) -> Fitting:
    """The metrics that can be computed.

    Raises:
        UnknownNameError: if a metric isn't installed.
        SettingError: if a setting is wrong, or a metric doesn't fit and is not to be left out.
    """
    built, _ = build_metrics(registry, wanted.choices, dataset.vocabulary)
    reasons = [
        _misfit(choice.name, metric, lacks) for choice, metric in zip(wanted.choices, built, strict=True)
    ]
    left_out = {choice.name: why for choice, why in zip(wanted.choices, reasons, strict=True) if why}
    if left_out and not wanted.lenient:
        raise SettingError(f"{next(iter(left_out.values()))}. Leave it out of --metrics")
    return Fitting(tuple(metric for metric, why in zip(built, reasons, strict=True) if not why), left_out)


def of_segments(registry: Registry, wanted: Wanted) -> Wanted:
    """The metrics with masks of detections in place of slots, unless chosen otherwise."""
    follows: dict[Filled, str] = {FromPredictions("groups"): "segments"}
    return replace(wanted, choices=tuple(fit(registry, "metric", each, follows) for each in wanted.choices))


def lacks_of_truth(infos: Sequence[ClipInfo], name: str) -> dict[str, str]:
    """What the truth of a dataset lacks.

    Args:
        infos: of the clips asked for.
        name: of the dataset.
    """
    bare = next((info for info in infos if info.truth is None), None)
    if bare is not None:
        reason = f"clip '{bare.id}' of dataset '{name}' has no truth"
        return dict.fromkeys(("true boxes", "true masks", "true tracks"), reason)
    truths = _truths(infos)
    lacks = {}
    if any(truth.masks is None for truth in truths):
        lacks["true masks"] = f"dataset '{name}' has none"
    if any((truth.track_ids < 0).any() for truth in truths):
        lacks["true tracks"] = f"dataset '{name}' doesn't know the tracks of all objects"
    return lacks


def _truths(infos: Sequence[ClipInfo]) -> list[FrameTruth | FrameTable]:
    """The truth of frames with objects; of clips whose truth is in a table, that table as it is."""
    clips = [info.truth for info in infos if info.truth is not None]
    tables = {id(truth.table): truth.table for truth in clips if isinstance(truth, FrameRows)}
    loose = [frame for truth in clips if not isinstance(truth, FrameRows) for frame in truth if len(frame)]
    return [*tables.values(), *loose]


def lacks_of_detections(found: Detections, report: Report, name: str) -> dict[str, str]:
    """What detections of a file lack.

    Args:
        found: in the file.
        report: of reading it.
        name: of the file.
    """
    lacks = dict.fromkeys(("slots", "soft masks"), f"files in the format {report.format} have none")
    if len(found) and not (found.class_ids > 0).any():
        lacks["classes"] = f"{name} names none"
    if (found.tracks < 0).any():
        lacks["tracks"] = f"{name} has boxes without a track"
    if found.masks is None:
        lacks["masks"] = f"{name} has none"
    if report.unscored:
        lacks["probabilities"] = f"{name} gives {report.unscored} detections no score (conf -1)"
    elif report.scores_outside:
        others = f" ({report.scores_outside} such entries)" if report.scores_outside > 1 else ""
        lacks["probabilities"] = f"expected scores between 0 and 1; {report.first_outside}{others}"
    return lacks


def _misfit(name: str, metric: Metric, lacks: Lacks) -> str | None:
    """Why a metric can't be computed, or None."""
    missing = [need for need in _needs(metric) if need in lacks]
    package = getattr(metric, "package", None)
    if not missing and package and not find_spec(package):
        return f"metric '{name}' needs the package {package}, which is not installed"
    return f"metric '{name}' needs {missing[0]}: {lacks[missing[0]]}" if missing else None


def _needs(metric: Metric) -> list[str]:
    """Everything that must be there for a metric, what says most first."""
    needs = ["true boxes"] if getattr(metric, "needs_truth", True) else []
    if not isinstance(metric, OF_DETECTIONS):
        needs.append("slots")
    if isinstance(metric, DetectionMetric) and metric.needs_masks:
        needs += ["masks", "true masks"]
    return needs + sorted(metric.needs)
