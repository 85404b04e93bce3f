"""Slots of a grouper in training: how well they find objects and how they are used."""

from __future__ import annotations

from itertools import chain

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ovvol_bench.arrays import Ints
from ovvol_bench.benchmark import Dataset
from ovvol_bench.components import Encoder, Grouper
from ovvol_bench.data.loading import prefetch
from ovvol_bench.errors import DecodeError
from ovvol_bench.metrics.base import ColumnMetric
from ovvol_bench.metrics.corloc import CorLoc
from ovvol_bench.metrics.detrate import DetectionRate
from ovvol_bench.naming.localize import segment_boxes, winning_slots
from ovvol_bench.pipeline import clip_generator, encode, group, stack
from ovvol_bench.types import Clip, Localization


def localization_quality(
    encoder: Encoder, grouper: Grouper, dataset: Dataset, clips: int, seed: int
) -> dict[str, float]:
    """Measure CorLoc and DetRate of slots before naming: each is one segment, none is dropped or merged.

    An upper bound of what naming can keep, and the number to watch in training.

    Args:
        encoder: of the grouper's features, on its device.
        grouper: to measure, on the same device.
        dataset: with truth.
        clips: how many are looked at, evenly spread over the dataset; all if there are fewer.
        seed: of the grouper's draws.

    Returns:
        ``corloc`` (any box counts) and ``detrate`` under protocol vid-reference, NaN where no clip shows
        an object; and ``unreadable_clips``, which were left out, where there are any.

    Raises:
        DataError: if a clip has no truth.
        ContractError: if a component breaks its contract.
    """
    metrics: dict[str, ColumnMetric] = {"corloc": CorLoc(), "detrate": DetectionRate()}
    indices = np.linspace(0, len(dataset) - 1, min(clips, len(dataset))).round().astype(int)
    first = next(chain(encoder.parameters(), grouper.parameters()), None)
    device = torch.device("cpu") if first is None else first.device
    unreadable = 0
    for _, clip in prefetch(dataset, indices.tolist(), workers=1):
        if isinstance(clip, DecodeError):
            unreadable += 1
            continue
        with torch.inference_mode():
            features = encode(encoder, stack([clip], device), truth=[clip.info])
            draws = [clip_generator(seed, clip.info.id, "grouper")]
            masks = group(grouper, features, draws, truth=[clip.info]).masks[0]
            slot_map = winning_slots(masks, len(clip.frames)).cpu().numpy()
        found = slots_as_segments(clip, slot_map, len(masks), len(dataset.vocabulary.classes))
        for metric in metrics.values():
            metric.update(found, clip.info)
    numbers = {name: value.value for name, metric in metrics.items() for value in metric.compute().values()}
    return numbers | ({"unreadable_clips": float(unreadable)} if unreadable else {})


def slots_as_segments(clip: Clip, slot_map: Ints, slots: int, classes: int) -> Localization:
    """Make every slot a segment of its own, without a name.

    Args:
        clip: that was grouped.
        slot_map: (T, h, w) winning slot of every patch, in [0, K).
        slots: K.
        classes: C of the vocabulary.

    Returns:
        N = K segments; all probabilities are 0, for metrics that don't look at names.
    """
    boxes, present = segment_boxes(slot_map.astype(np.int16), slots, clip.info.frame_size)
    return Localization(
        boxes=boxes,
        present=present,
        probabilities=np.zeros((slots, classes + 1), np.float32),
        slot_map=slot_map.astype(np.int16),
        segment_of_slot=np.arange(slots, dtype=np.int16),
        input_size=(clip.frames.shape[1], clip.frames.shape[2]),
    )


def slots_used(masks: Tensor) -> Tensor:
    """Count the slots that win at least one patch.

    Args:
        masks: (B, K, S, h, w).

    Returns:
        (B,) int64 in [1, K].
    """
    winners = F.one_hot(masks.argmax(dim=1).flatten(1), masks.shape[1])
    return winners.any(dim=1).sum(dim=1)


def slot_entropy(masks: Tensor) -> Tensor:
    """Mean over patches of the entropy of their masks: how undecided they are between slots.

    Args:
        masks: (B, K, S, h, w), sums to 1 over K.

    Returns:
        (B,) float32 in nats: 0 where every patch belongs to one slot, log K where all slots share every
        patch alike.
    """
    entropy: Tensor = torch.special.entr(masks.float()).sum(dim=1)
    return entropy.flatten(1).mean(dim=1)
