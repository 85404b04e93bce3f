"""Score stored predictions against ground truth: which metrics fit, their values, remarks; no model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np

from ovvol_bench.data.base import Dataset
from ovvol_bench.detections import Detections
from ovvol_bench.errors import SettingError
from ovvol_bench.formats.entries import Report
from ovvol_bench.metrics.base import DetectionMetric, Metric
from ovvol_bench.metrics.by_video import ByVideo, by_video
from ovvol_bench.metrics.evaluation import OF_DETECTIONS, evaluate
from ovvol_bench.predictions import ClipPrediction, Predictions, frame_name, own_frames, predicted_frames
from ovvol_bench.registry import Filled, FromPredictions, Registry
from ovvol_bench.runs.build import build_metrics, fit
from ovvol_bench.runs.learned import RENDERED, Learned
from ovvol_bench.runs.selection import Choice
from ovvol_bench.runs.store import Coverage
from ovvol_bench.types import ClipInfo, FrameRows, FrameTable, FrameTruth


def needs_masks(metrics: Sequence[Metric]) -> bool:
    """Tell whether a metric may look at slots; those of boxes say that they don't."""
    return any(getattr(metric, "needs_masks", True) for metric in metrics)


def score_videos(
    predictions: Predictions, infos: Sequence[ClipInfo], metrics: Sequence[Metric]
) -> dict[str, Any]:
    """Return the ``videos`` object of a result: what intervals and paired comparisons are made of.

    Args:
        predictions: of some or all of the clips.
        infos: of the clips asked for.
        metrics: fresh ones, left so.

    Returns:
        ``names`` of the videos, and ``terms``: by number its ``sums`` and ``counts``, one a video. See
        ``by_video``.
    """
    return videos_record(
        by_video(predictions, {info.id: info for info in infos}, _computable(metrics, infos))
    )


def videos_record(found: ByVideo) -> dict[str, Any]:
    """Return the ``videos`` object of a result."""
    terms = {
        key: {
            "sums": [round(each, 6) for each in terms.sums.tolist()],
            "counts": terms.counts.astype(int).tolist(),
        }
        for key, terms in found.terms.items()
    }
    return {"names": list(found.videos), "terms": terms}


def missing_clips(predictions: Predictions, infos: Sequence[ClipInfo]) -> list[str]:
    """Ids of the clips that predictions lack, in the order of the dataset."""
    there = set(predictions.clip_ids)
    return [info.id for info in infos if info.id not in there]


def unread_frames(predictions: Predictions, infos: Sequence[ClipInfo]) -> list[str]:
    """Names of the frames that the predicted clips have in the dataset and lack in predictions, sorted."""
    found = {clip.id: set(clip.frame_indices) for clip in predictions.identities()}
    return sorted(
        frame_name(info.video, index)
        for info in map(own_frames, infos)
        for index in info.frame_indices
        if index not in found.get(info.id, info.frame_indices)
    )


def usable(predictions: Predictions, infos: Sequence[ClipInfo]) -> tuple[Predictions, dict[str, int]]:
    """Select the clips that can be scored, and count those that can't by reason."""
    truth = {info.id: own_frames(info) for info in infos}
    reasons = [_unusable(clip, truth.get(clip.info.id)) for clip in predictions.without_masks()]
    kept = np.array([row for row, reason in enumerate(reasons) if reason is None], np.int64)
    return predictions.select(kept), dict(Counter(filter(None, reasons)))


def _unusable(clip: ClipPrediction, truth: ClipInfo | None) -> str | None:
    """Return the reason why a clip can't be scored, or None."""
    info, found = clip.info, clip.localization
    if truth is None:
        return "unknown clip"
    truth = predicted_frames(truth, info.frame_indices)
    if (truth.video, truth.frame_indices, truth.frame_size) != (
        info.video,
        info.frame_indices,
        info.frame_size,
    ):
        return "clip of other frames"
    if not (np.isfinite(found.boxes).all() and np.isfinite(found.probabilities).all()):
        return "not a number"
    return "inverted box" if (found.boxes[..., 2:] < found.boxes[..., :2]).any() else None


def score(
    predictions: Predictions, infos: Sequence[ClipInfo], metrics: Sequence[Metric]
) -> tuple[Coverage, dict[str, Any]]:
    """Score predictions against the truth of a dataset.

    Args:
        predictions: of some or all of the clips.
        infos: of the clips asked for.
        metrics: fresh ones; where a clip has no truth, only those that say ``needs_truth = False``
            are computed.

    Returns:
        How much was predicted, and the ``metrics`` object of a result.

    Raises:
        DataError: if predictions and dataset don't belong together.
    """
    frames = int(predictions.frame_counts.sum())
    coverage = Coverage(len(predictions), frames, unread=unread_frames(predictions, infos))
    values = evaluate(predictions, {info.id: info for info in infos}, _computable(metrics, infos))
    return coverage, {key: asdict(value) for key, value in values.items()}


def _computable(metrics: Sequence[Metric], infos: Sequence[ClipInfo]) -> Sequence[Metric]:
    """Select the metrics that the ground truth is enough for."""
    if all(info.truth is not None for info in infos):
        return metrics
    return [metric for metric in metrics if not getattr(metric, "needs_truth", True)]


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
    """Metrics that fit, and those that don't.

    Attributes:
        metrics: fresh ones that fit.
        left_out: name to reason.
    """

    metrics: tuple[Metric, ...]
    left_out: Mapping[str, str]


def fitting(registry: Registry, dataset: Dataset, wanted: Wanted, lacks: Lacks) -> Fitting:
    """Build the metrics that can be computed.

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
    """Take masks of detections in place of slots, unless chosen otherwise."""
    follows: dict[Filled, str] = {FromPredictions("groups"): "segments"}
    return replace(wanted, choices=tuple(fit(registry, "metric", each, follows) for each in wanted.choices))


def lacks_of_truth(infos: Sequence[ClipInfo], name: str) -> dict[str, str]:
    """List what the ground truth of a dataset lacks.

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
    """Return the ground truth of frames with objects; truth in a table is that table as it is."""
    clips = [info.truth for info in infos if info.truth is not None]
    tables = {id(truth.table): truth.table for truth in clips if isinstance(truth, FrameRows)}
    loose = [frame for truth in clips if not isinstance(truth, FrameRows) for frame in truth if len(frame)]
    return [*tables.values(), *loose]


def lacks_of_detections(found: Detections, report: Report, name: str) -> dict[str, str]:
    """List what detections of a file lack.

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
    """Return the reason why a metric can't be computed, or None."""
    missing = [need for need in _needs(metric) if need in lacks]
    package = getattr(metric, "package", None)
    if not missing and package and not find_spec(package):
        return f"metric '{name}' needs the package {package}, which is not installed"
    return f"metric '{name}' needs {missing[0]}: {lacks[missing[0]]}" if missing else None


def _needs(metric: Metric) -> list[str]:
    """List the inputs a metric requires, most informative first."""
    needs = ["true boxes"] if getattr(metric, "needs_truth", True) else []
    if not isinstance(metric, OF_DETECTIONS):
        needs.append("slots")
    if isinstance(metric, DetectionMetric) and metric.needs_masks:
        needs += ["masks", "true masks"]
    return needs + sorted(metric.needs)


UNIFORM = 0.98  # share of the largest possible entropy from which on names are hardly better than drawn ones
MOST_NAMES = 10
MOST_FRAMES = 3


def remarks(predictions: Predictions, names: Sequence[str], has_truth: bool) -> Iterator[str]:
    """Say what else there is to know of a run, a line each.

    Args:
        predictions: of the run.
        names: of the C foreground classes.
        has_truth: whether the dataset has truth, so that there are numbers to look at.
    """
    if not has_truth:
        yield found_text(predictions, names)
    entropy = relative_entropy(predictions)
    if entropy > UNIFORM:
        yield (
            f"names are near uniform (entropy {entropy:.1%} of the largest possible): the labeler tells "
            f"these {len(names)} classes hardly apart. Has it weights that were trained for such pictures?"
        )


def unread_text(unread: Sequence[str], frames: int, reasons: Mapping[str, str]) -> Iterator[str]:
    """Say, in a line, which frames could not be read, and why.

    Args:
        unread: names of the frames.
        frames: that were asked for.
        reasons: by name of a frame.
    """
    if unread:
        first = " ".join(reasons.get(name, name) for name in unread[:MOST_FRAMES])
        others = len(unread) - MOST_FRAMES
        more = f" And {others} more: unread.json in the run's folder." if others > 0 else ""
        yield f"{len(unread)} of {frames} frames unreadable, not scored: {first}{more}"


def strangers(dataset: str, learned: Mapping[str, Iterable[Learned]]) -> Iterator[str]:
    """Say, in a line, which parts know nothing but the built-in dataset, on another one.

    Args:
        dataset: name of the one that is run on.
        learned: of each kind of part, what its weights say they learned from.
    """
    sources = {kind: {each.dataset for each in data} for kind, data in learned.items()}
    kinds = [kind for kind, names in sources.items() if names == {RENDERED}]
    if kinds and dataset != RENDERED:
        options = " ".join(f"-o {kind}.weights=FILE" for kind in kinds)
        yield (
            f"weights of {', '.join(kinds)} learned from the rendered '{RENDERED}' alone, and this is "
            f"'{dataset}': expect little of the result. Give others: {options}"
        )


def found_text(predictions: Predictions, names: Sequence[str]) -> str:
    """Count found boxes by name, the most frequent first."""
    best = predictions.probabilities[:, 1:].argmax(axis=1)
    boxes = np.bincount(best[predictions.segment_of_box[predictions.present]], minlength=len(names))
    order = np.argsort(-boxes, kind="stable")[: int((boxes > 0).sum())]
    listed = ", ".join(f"{boxes[each]} {names[each]}" for each in order[:MOST_NAMES])
    others = f" and {len(order) - MOST_NAMES} more names" if len(order) > MOST_NAMES else ""
    return f"found {boxes.sum()} boxes: {listed}{others}" if boxes.any() else "found no boxes"


def relative_entropy(predictions: Predictions) -> float:
    """Mean entropy of the segments' class probabilities, as a share of log C; 0 without segments."""
    shares = predictions.probabilities[:, 1:].astype(np.float64)
    shares = shares / np.maximum(shares.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    if len(shares) == 0 or shares.shape[1] < 2:
        return 0.0
    logs = np.log(np.maximum(shares, np.finfo(np.float64).tiny))  # 0 log 0 = 0
    return float(-(shares * logs).sum(axis=1).mean() / np.log(shares.shape[1]))
