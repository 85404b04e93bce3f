"""What slots do, whatever they are named: how they are used, and whether they split or merge objects.

The definitions are in ``docs/metrics.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Doubles
from ovvol_bench.metrics.contingency import Overlaps
from ovvol_bench.metrics.segmentation import ObjectScores, weighted_counts


@dataclass(frozen=True)
class SlotUsage:
    """How one clip uses its slots.

    Attributes:
        slots: K.
        active: slots with at least the least share of the patches.
        entropy: of the shares, in units of log K, in [0, 1]; NaN for a single slot.
        effective: as many slots of equal share have this entropy, in [1, K].
        stability: mean IoU of slots with themselves in the next frame, in [0, 1]; NaN for one frame.
    """

    slots: int
    active: int
    entropy: float
    effective: float
    stability: float


def slot_usage(slot_map: npt.NDArray[np.int16], num_slots: int, min_share: float) -> SlotUsage:
    """Describe the slots of a clip.

    Args:
        slot_map: (T, h, w) slot of every patch, in [0, num_slots).
        num_slots: K.
        min_share: least share of the clip's patches that makes a slot active, in [0, 1]; one patch at least.
    """
    shares = np.bincount(slot_map.ravel(), minlength=num_slots) / slot_map.size
    used = shares[shares > 0]
    entropy = -float(used @ np.log(used)) + 0.0  # + 0.0 turns -0.0 into 0.0
    return SlotUsage(
        slots=num_slots,
        active=int((used >= min_share).sum()),
        entropy=entropy / float(np.log(num_slots)) if num_slots > 1 else float("nan"),
        effective=float(np.exp(entropy)),
        stability=temporal_stability(slot_map, num_slots),
    )


def temporal_stability(slot_map: npt.NDArray[np.int16], num_slots: int) -> float:
    """Mean IoU of the patches of a slot in one frame and in the next.

    Over all slots and pairs of neighbouring frames; a slot that neither frame of a pair shows is left
    out, one that only one of them shows counts as 0.

    Args:
        slot_map: (T, h, w) slot of every patch, in [0, num_slots).
        num_slots: K.

    Returns:
        A number in [0, 1]; NaN for a single frame.
    """
    frames = len(slot_map)
    cell = np.arange(frames)[:, None] * num_slots + slot_map.reshape(frames, -1)
    patches = np.bincount(cell.ravel(), minlength=frames * num_slots).reshape(frames, num_slots)
    stays = cell[1:][cell[1:] - cell[:-1] == num_slots] - num_slots
    both = np.bincount(stays, minlength=(frames - 1) * num_slots).reshape(frames - 1, num_slots)
    either = patches[:-1] + patches[1:] - both
    return float((both[either > 0] / either[either > 0]).mean()) if frames > 1 else float("nan")


def pieces(overlaps: Overlaps) -> ObjectScores:
    """Over-segmentation: in how many groups each true object lies.

    1 / Σ q² over groups, with q the share of the object's points in a group: 1 if one group holds
    all of it, n if n groups hold equal parts (inverse Simpson index).

    Args:
        overlaps: without background rows.
    """
    share = _shares(overlaps)
    concentration = weighted_counts(overlaps.row, share**2)
    return ObjectScores(overlaps.row_sample, 1 / concentration, overlaps.samples)


def company(overlaps: Overlaps) -> ObjectScores:
    """Under-segmentation: how many true objects share the groups that each of them lies in.

    A group that holds the shares q of objects has (Σ q)² / Σ q² objects: 1 if it lies in one object
    only, n if it holds n whole ones, of any size. The mean over an object's groups, weighted with q.

    Args:
        overlaps: without background rows.
    """
    share = _shares(overlaps)
    held = weighted_counts(overlaps.column, share) ** 2 / weighted_counts(overlaps.column, share**2)
    value = weighted_counts(overlaps.row, share * held[overlaps.column])
    return ObjectScores(overlaps.row_sample, value, overlaps.samples)


def _shares(overlaps: Overlaps) -> Doubles:
    """(E,) share of its row's points in each cell."""
    shares: Doubles = overlaps.points / overlaps.row_points[overlaps.row]
    return shares
