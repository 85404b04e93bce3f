"""From slots to segments: which slots touch, which are background, which are one object.

Post-processing of the paper (arXiv 2309.09858); its conventions are settings, see ``NamingSettings``.
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
from ovvol_bench.naming.merging import NO_EVIDENCE, Evidence, Group, merge_alike, merge_overlapping
from ovvol_bench.naming.prompts import TextBank
from ovvol_bench.naming.scores import best_names, prompt_logits
from ovvol_bench.naming.settings import NamingSettings

Offset = tuple[int, int, int]


@dataclass(frozen=True)
class ForegroundVerdict:
    """Why slots are kept or dropped.

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


def touching(
    slot_map: npt.NDArray[np.integer], num_slots: int, neighbours: Literal["full", "reference"]
) -> Bools:
    """Which slots have neighbouring patches, in space or time.

    Args:
        slot_map: (T, h, w) slot of every patch, in [0, num_slots).
        num_slots: K.
        neighbours: see ``NamingSettings``.

    Returns:
        (K, K) bool, symmetric, the diagonal false.
    """
    touches = np.zeros((num_slots, num_slots), dtype=bool)
    for offset in _offsets(neighbours):
        here = slot_map[tuple(slice(max(0, -step), min(0, -step) or None) for step in offset)]
        there = slot_map[tuple(slice(max(0, step), min(0, step) or None) for step in offset)]
        touches[here, there] = True
    touches |= touches.T
    np.fill_diagonal(touches, False)
    return touches


def _offsets(neighbours: Literal["full", "reference"]) -> list[Offset]:
    """One of every pair of opposite (frame, row, column) steps."""
    steps = (0, 1) if neighbours == "reference" else (-1, 0, 1)
    return [offset for offset in product(steps, steps, steps) if offset > (0, 0, 0)]


def judge_slots(pooled: Floats, text: TextBank, settings: NamingSettings) -> ForegroundVerdict:
    """Decide which slots are objects: the best prompt must be a class, with a positive logit.

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


def merge_same_name(pooled: Floats, touches: Bools, text: TextBank) -> list[Group]:
    """Unite touching slots of one name until no pair is left.

    Two slots are united if the best class of one, of the other and of their sum agree. Where
    classes have several prompts the outcome can depend on the order: pairs are tried in ascending
    order, from the start again after every union, as in the published program.

    Args:
        pooled: (N, E) sums of patch embeddings.
        touches: (N, N) bool, symmetric.
        text: prompts; those of background words take no part.

    Returns:
        Groups of positions, ascending by their lowest member.
    """
    sums, touches = pooled.astype(np.float64), touches.copy()
    groups: list[Group] = [(i,) for i in range(len(sums))]
    while (pair := _first_agreeing_pair(sums, touches, text)) is not None:
        i, j = pair
        sums[i] += sums[j]
        touches[i] |= touches[j]
        touches[:, i] |= touches[:, j]
        sums = np.delete(sums, j, axis=0)
        touches = np.delete(np.delete(touches, j, axis=0), j, axis=1)
        groups[i] = tuple(sorted(groups[i] + groups.pop(j)))
    return groups


def _first_agreeing_pair(pooled: Doubles, touches: Bools, text: TextBank) -> tuple[int, int] | None:
    """The first pair i < j that touches and shares a name with its sum."""
    names = best_names(pooled, text)
    first, second = np.nonzero(np.triu(touches, 1) & (names[:, None] == names[None]))
    agree = np.flatnonzero(best_names(pooled[first] + pooled[second], text) == names[first])
    return (int(first[agree[0]]), int(second[agree[0]])) if len(agree) else None


def group_slots(
    slot_map: npt.NDArray[np.integer],
    pooled: Floats,
    text: TextBank,
    settings: NamingSettings,
    evidence: Evidence = NO_EVIDENCE,
) -> list[Group]:
    """Slots that make up each segment: background dropped, slots of one object united.

    Args:
        slot_map: (T, h, w) slot of every patch, in [0, K).
        pooled: (K, E) sums of patch embeddings of every slot.
        text: prompts.
        settings: which steps to take.
        evidence: what mergers look at beside that.

    Returns:
        N groups of slot ids, ascending by their lowest slot. Slots that win nowhere are in none.

    Raises:
        SettingError: if the merger in use needs evidence that there is none of.
    """
    slots = np.unique(slot_map)
    if settings.filter_background:
        slots = slots[judge_slots(pooled[slots], text, settings).kept]
    if settings.merge == "same_name":
        touches = touching(slot_map, len(pooled), settings.neighbours)[np.ix_(slots, slots)]
        groups = merge_same_name(pooled[slots], touches, text)
    else:
        groups = _merge_unnamed(slots, pooled, settings, evidence)
    return [tuple(slots[list(group)].tolist()) for group in groups]


def _merge_unnamed(slots: Ints, pooled: Floats, settings: NamingSettings, evidence: Evidence) -> list[Group]:
    """Groups of positions in ``slots``, by mergers that look at no name."""
    threshold = settings.threshold
    if settings.merge == "none" or threshold is None:
        return [(position,) for position in range(len(slots))]
    if settings.merge == "features":
        features = pooled if settings.merge_features == "labeler" else evidence.features
        return merge_alike(_known(features, "the encoder's features")[slots], threshold)
    return merge_overlapping(_known(evidence.overlap, "soft masks")[np.ix_(slots, slots)], threshold)


def _known(values: Floats | None, what: str) -> Floats:
    if values is None:
        raise SettingError(f"naming.merge needs {what}, which are not at hand here. Choose another merging.")
    return values


def segments_by_slot(groups: Sequence[Group], num_slots: int) -> npt.NDArray[np.int16]:
    """(K,) int16: the group in [0, N) that a slot belongs to, -1 for none."""
    segment_of_slot = np.full(num_slots, -1, dtype=np.int16)
    for segment, group in enumerate(groups):
        segment_of_slot[list(group)] = segment
    return segment_of_slot
