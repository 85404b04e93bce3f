"""How well segments fit prompts and classes: plain functions on small arrays, no torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Doubles, Floats, Ints
from ovvol_bench.naming.prompts import TextBank

NORM_EPSILON = 1e-6


def inner_products(features: npt.ArrayLike, text: TextBank) -> Floats:
    """Compare features with every prompt.

    Summed in float64 and rounded once, so that equal prompts tie exactly whatever order the matrix
    library adds in.

    Args:
        features: (N, E).
        text: P prompts.

    Returns:
        (N, P) float32.
    """
    products = np.asarray(features, dtype=np.float64) @ text.embeddings.T.astype(np.float64)
    rounded: Floats = products.astype(np.float32)
    return rounded


def prompt_logits(pooled: npt.ArrayLike, text: TextBank, temperature: float) -> Floats:
    """Temperature times the cosine between pooled features and prompts.

    Args:
        pooled: (N, E) sums of patch embeddings; a zero row has logits 0.
        text: P prompts.
        temperature: above 0.

    Returns:
        (N, P) float32.
    """
    features = np.asarray(pooled, dtype=np.float64)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return inner_products(temperature * features / (lengths + NORM_EPSILON), text)


def class_logits(logits: Floats, class_ids: Ints, num_ids: int) -> Doubles:
    """Best prompt of every class.

    Args:
        logits: (N, P).
        class_ids: (P,) in [0, num_ids).
        num_ids: number of class ids.

    Returns:
        (N, num_ids) float64; -inf where a class has no prompt.
    """
    order = np.argsort(class_ids, kind="stable")
    ids, starts = np.unique(class_ids[order], return_index=True)
    best = np.full((len(logits), num_ids), -np.inf)
    best[:, ids] = np.maximum.reduceat(logits[:, order], starts, axis=1)
    return best


def class_probabilities(logits: npt.ArrayLike) -> Doubles:
    """Softmax over classes.

    Args:
        logits: (N, C) with at least one finite value a row; -inf gives probability 0.

    Returns:
        (N, C) float64, rows sum to 1.
    """
    values = np.asarray(logits, dtype=np.float64)
    weights = np.exp(values - values.max(axis=1, keepdims=True))
    probabilities: Doubles = weights / weights.sum(axis=1, keepdims=True)
    return probabilities


def name_probabilities(pooled: npt.ArrayLike, text: TextBank, temperature: float) -> Doubles:
    """Probability of every name for every segment.

    Args:
        pooled: (N, E) sums of patch embeddings.
        text: the prompts; those of background words take no part.
        temperature: above 0.

    Returns:
        (N, C + 1) float64; column 0 is 0 unless there is a prompt for ``__background__``.
    """
    names = text.names
    logits = prompt_logits(pooled, names, temperature)
    return class_probabilities(class_logits(logits, names.prompts.class_ids, names.prompts.num_classes + 1))


def best_names(pooled: npt.ArrayLike, text: TextBank) -> Ints:
    """(N,) class id in [0, C] of the best prompt, the first of equals; background words excluded."""
    names = text.names
    ids: Ints = names.prompts.class_ids[inner_products(pooled, names).argmax(axis=1)]
    return ids
