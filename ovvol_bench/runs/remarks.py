"""Remarks on a run: frames that could not be read, what was found where there is no truth, empty names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from ovvol_bench.predictions import Predictions
from ovvol_bench.runs.learned import RENDERED, Learned

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
    """How many boxes of which names were found, the most frequent first."""
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
