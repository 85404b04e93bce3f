"""Slots that were found frame by frame, brought to one numbering over the frames of a clip."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Bools, Floats, Ints


def link(slots: Floats, present: Bools | None = None) -> Ints:
    """Give slots that look alike the same number in every step.

    Step after step, slots are paired with what each number stood for when it was last seen, so that the sum
    of cosines is the largest possible (Hungarian method, as in SOLV, NeurIPS 2023). A slot that resembles
    nothing takes a number that is free.

    Args:
        slots: (S, K, D) vectors of K slots in each step.
        present: (S, K), false where a slot is empty; all are there if None.

    Returns:
        (S, K) int64: the number in [0, K) of every slot, each once a step; step 0 keeps its own.
    """
    from scipy.optimize import linear_sum_assignment

    there = np.ones(slots.shape[:2], bool) if present is None else present
    vectors = unit(slots) * there[..., None]
    seen, numbers = vectors[0].copy(), np.empty(slots.shape[:2], np.int64)
    for step, (found, visible) in enumerate(zip(vectors, there, strict=True)):
        if step:
            own, partner = linear_sum_assignment(found @ seen.T, maximize=True)
        else:  # the first step's slots keep their own numbers
            own = partner = np.arange(len(found))
        numbers[step, own] = partner
        seen[numbers[step, visible]] = found[visible]
    return numbers


def link_labels(labels: Ints, tokens: Floats, num_slots: int, fixed: int = 0) -> Ints:
    """Renumber the segments of every step, which are compared by the mean of their patches.

    Args:
        labels: (S, h, w) in [0, num_slots), found step by step.
        tokens: (S, h, w, D) features.
        num_slots: K.
        fixed: so many first labels mean the same in every step already, as a background does.

    Returns:
        (S, h, w) int64 in [0, num_slots).
    """
    members = labels[:, None] == np.arange(fixed, num_slots)[:, None, None]
    sums = np.einsum("skhw,shwd->skd", members.astype(np.float32), tokens)
    numbers = fixed + link(sums, members.any(axis=(2, 3)))
    kept = np.broadcast_to(np.arange(fixed), (len(labels), fixed))
    table = np.concatenate([kept, numbers], axis=1)
    linked: Ints = np.take_along_axis(table, labels.reshape(len(labels), -1), axis=1)
    return linked.reshape(labels.shape)


def unit(vectors: npt.NDArray[np.floating]) -> Floats:
    """Scale vectors (..., D) to length 1; zeros stay."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Floats = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return scaled
