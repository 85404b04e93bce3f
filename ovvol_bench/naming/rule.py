"""The naming rule: from slots and prompts to named segments.

Post-processing of the paper (arXiv 2309.09858), in this order: score every prompt, drop background slots,
unite touching slots of one name, score every name. Its conventions are settings, see ``NamingSettings``;
mergers of other papers name them. Plain functions on small arrays, no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Bools, Doubles, Floats, Ints
from ovvol_bench.errors import SettingError
from ovvol_bench.naming.prompts import TextBank
from ovvol_bench.naming.settings import NamingSettings

Group = tuple[int, ...]
NORM_EPSILON = 1e-6  # of the published program: a slot without features has logits 0


def inner_products(features: npt.ArrayLike, text: TextBank) -> Floats:
    """Return the inner products of features (N, E) with P prompts, (N, P) float32."""
    # Summed in float64 and rounded once: equal prompts then tie exactly, whatever order a library adds in.
    products = np.asarray(features, dtype=np.float64) @ text.embeddings.T.astype(np.float64)
    rounded: Floats = products.astype(np.float32)
    return rounded


def prompt_logits(pooled: npt.ArrayLike, text: TextBank, temperature: float) -> Floats:
    """Return the temperature times the cosine between pooled features and prompts.

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
    """Return the logit of the best prompt of every class.

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
    """Return the softmax over classes.

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
    """Return the probability of every name for every segment.

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
    """Return the class id in [0, C] of the best prompt, (N,), the first of equals; no background words."""
    names = text.names
    ids: Ints = names.prompts.class_ids[inner_products(pooled, names).argmax(axis=1)]
    return ids


@dataclass(frozen=True)
class ForegroundVerdict:
    """Decision of the background filter on N slots.

    Attributes:
        best_prompt: (N,) position of the best prompt of all.
        names_object: (N,) bool, whether that prompt is a foreground class.
        is_positive: (N,) bool, whether the best foreground logit is above 0.
        kept: (N,) bool.
        forced: whether no slot passed and the best of them was kept all the same.
    """

    best_prompt: Ints
    names_object: Bools
    is_positive: Bools
    kept: Bools
    forced: bool


def judge_slots(pooled: Floats, text: TextBank, settings: NamingSettings) -> ForegroundVerdict:
    """Decide which slots are objects: the best prompt must be a foreground class, with a positive logit.

    Args:
        pooled: (N, E) sums of patch embeddings, N >= 1.
        text: prompts of classes and background words.
        settings: temperature and ``keep_one``.
    """
    logits = prompt_logits(pooled, text, settings.temperature)
    is_foreground = text.prompts.is_foreground
    best_prompt = logits.argmax(axis=1)
    best_foreground = logits[:, is_foreground].max(axis=1)
    names_object, is_positive = is_foreground[best_prompt], best_foreground > 0
    kept = names_object & is_positive
    forced = settings.keep_one and not kept.any()
    if forced:
        kept = np.arange(len(pooled)) == best_foreground.argmax()
    return ForegroundVerdict(best_prompt, names_object, is_positive, kept, forced)


def touching(
    slot_map: npt.NDArray[np.integer], num_slots: int, neighbours: Literal["full", "reference"]
) -> Bools:
    """Mark pairs of slots that have neighbouring patches, in space or time.

    Args:
        slot_map: (T, h, w) slot of every patch, in [0, num_slots).
        num_slots: K.
        neighbours: see ``NamingSettings``.

    Returns:
        (K, K) bool, symmetric, the diagonal false.
    """
    touches = np.zeros((num_slots, num_slots), dtype=bool)
    steps = (0, 1) if neighbours == "reference" else (-1, 0, 1)
    for offset in product(steps, steps, steps):
        if offset <= (0, 0, 0):
            continue  # the opposite one stands for both
        here = slot_map[tuple(slice(max(0, -step), min(0, -step) or None) for step in offset)]
        there = slot_map[tuple(slice(max(0, step), min(0, step) or None) for step in offset)]
        touches[here, there] = True
    touches |= touches.T
    np.fill_diagonal(touches, False)
    return touches


def merge_same_name(pooled: Floats, touches: Bools, text: TextBank) -> list[Group]:
    """Unite touching slots of one name until no pair is left.

    Two slots are united if the best class of one, of the other and of their sum agree.

    Args:
        pooled: (N, E) sums of patch embeddings.
        touches: (N, N) bool, symmetric.
        text: prompts; those of background words take no part.

    Returns:
        Groups of positions, ascending by their lowest member.
    """
    sums, touches = pooled.astype(np.float64), touches.copy()
    groups: list[Group] = [(i,) for i in range(len(sums))]
    while True:
        names = best_names(sums, text)
        first, second = np.nonzero(np.triu(touches, 1) & (names[:, None] == names[None]))
        agree = np.flatnonzero(best_names(sums[first] + sums[second], text) == names[first])
        if not len(agree):
            return groups
        # With several prompts a class the outcome can depend on the order: the first pair, then all anew, as
        # the published program does.
        i, j = int(first[agree[0]]), int(second[agree[0]])
        sums[i] += sums[j]
        touches[i] |= touches[j]
        touches[:, i] |= touches[:, j]
        sums = np.delete(sums, j, axis=0)
        touches = np.delete(np.delete(touches, j, axis=0), j, axis=1)
        groups[i] = tuple(sorted(groups[i] + groups.pop(j)))


@dataclass(frozen=True)
class Evidence:
    """Evidence on the slots of a clip beside the labeler's embeddings, for mergers that look at no name.

    Attributes:
        features: (K, D) sums of the encoder's features over each slot's patches; None where not known.
        overlap: (K, K) in [0, 1], IoU of the patches that two slots are active on; None where there are no
            soft masks.
    """

    features: Floats | None = None
    overlap: Floats | None = None


NO_EVIDENCE = Evidence()


def merge_alike(features: npt.ArrayLike, threshold: float) -> list[Group]:
    """Unite slots by complete linkage on cosine distance, as SOLV does (Aydemir et al., NeurIPS 2023).

    Args:
        features: (N, D); a zero row is at distance 1 from every other.
        threshold: largest distance (1 - cosine) within a group.

    Returns:
        Groups of positions, ascending by their lowest member.
    """
    rows = np.asarray(features, dtype=np.float64)
    if len(rows) < 2:
        return [(i,) for i in range(len(rows))]
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    unit = rows / (np.linalg.norm(rows, axis=1, keepdims=True) + NORM_EPSILON**2)
    distances = np.clip(1 - unit @ unit.T, 0, None)
    tree = linkage(squareform(distances, checks=False), method="complete")
    return _groups(fcluster(tree, threshold, criterion="distance"))


def merge_overlapping(overlap: npt.ArrayLike, threshold: float) -> list[Group]:
    """Unite slots that overlap, and whatever overlaps with one of them in turn.

    SSync's transitive merging (arXiv 2606.15527, section 3): an edge between slots whose IoU is above the
    threshold, and every connected component is one object.

    Args:
        overlap: (N, N) IoU in [0, 1], symmetric.
        threshold: IoU above which two slots are one.

    Returns:
        Groups of positions, ascending by their lowest member.
    """
    from scipy.sparse.csgraph import connected_components

    _, labels = connected_components(np.asarray(overlap) > threshold, directed=False)
    return _groups(labels)


def _groups(labels: Ints) -> list[Group]:
    """Return positions by label, in the order of the labels' first members."""
    groups: dict[int, list[int]] = {}
    for position, label in enumerate(labels.tolist()):
        groups.setdefault(label, []).append(position)
    return [tuple(members) for members in groups.values()]


def group_slots(
    slot_map: npt.NDArray[np.integer],
    pooled: Floats,
    text: TextBank,
    settings: NamingSettings,
    evidence: Evidence = NO_EVIDENCE,
) -> list[Group]:
    """Group slots into segments: background dropped, slots of one object united.

    Args:
        slot_map: (T, h, w) slot of every patch, in [0, K).
        pooled: (K, E) sums of patch embeddings of every slot.
        text: prompts.
        settings: which steps to take.
        evidence: for mergers that look at no name.

    Returns:
        N groups of slot ids, ascending by their lowest slot. Slots that win nowhere are in none.

    Raises:
        SettingError: if the merger in use needs evidence that there is none of.
    """
    slots, threshold = np.unique(slot_map), settings.threshold
    if settings.filter_background:
        slots = slots[judge_slots(pooled[slots], text, settings).kept]
    if settings.merge == "same_name":
        touches = touching(slot_map, len(pooled), settings.neighbours)[np.ix_(slots, slots)]
        groups = merge_same_name(pooled[slots], touches, text)
    elif settings.merge == "none" or threshold is None:
        groups = [(position,) for position in range(len(slots))]
    elif settings.merge == "features":
        features = pooled if settings.merge_features == "labeler" else evidence.features
        groups = merge_alike(_available(features, "the encoder's features")[slots], threshold)
    else:
        overlap = _available(evidence.overlap, "soft masks")
        groups = merge_overlapping(overlap[np.ix_(slots, slots)], threshold)
    return [tuple(slots[list(group)].tolist()) for group in groups]


def _available(values: Floats | None, what: str) -> Floats:
    if values is None:
        raise SettingError(f"naming.merge needs {what}, which are not at hand here. Choose another merging.")
    return values


def segments_by_slot(groups: Sequence[Group], num_slots: int) -> npt.NDArray[np.int16]:
    """Return the group in [0, N) of every slot, -1 for none, (K,) int16."""
    segment_of_slot = np.full(num_slots, -1, dtype=np.int16)
    for segment, group in enumerate(groups):
        segment_of_slot[list(group)] = segment
    return segment_of_slot
