"""Use of slots, whatever they are named, and whether they split or merge true objects.

The definitions are in ``docs/metrics.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Doubles
from ovvol_bench.errors import SettingError
from ovvol_bench.metrics.base import MetricValue, RecordMetric
from ovvol_bench.metrics.contingency import Overlaps, check_slots, weighted_counts
from ovvol_bench.metrics.masks import MaskMetric, mean_value
from ovvol_bench.predictions import ClipPrediction


class SlotDiagnostics(RecordMetric):
    """``active_slots``, ``slot_entropy`` and ``slot_stability``.

    They describe, and need no truth: more isn't better as such, but a collapse shows.

    Args:
        min_share: least share of a clip's patches that makes a slot active.
    """

    averages = True
    needs = frozenset({"slots"})
    needs_truth: ClassVar[bool] = False

    def __init__(self, *, min_share: float = 0.01) -> None:
        if not 0 <= min_share <= 1:
            raise SettingError(f"min_share is {min_share}; expected a share between 0 and 1")
        super().__init__("slots-patch")
        self.min_share = min_share

    def record(self, clip: ClipPrediction) -> SlotUsage:
        check_slots(clip)
        found = clip.localization
        return slot_usage(found.slot_map, len(found.segment_of_slot), self.min_share)

    def compute(self) -> Mapping[str, MetricValue]:
        clips: list[SlotUsage] = self.in_order()
        slots = mean_value([clip.slots for clip in clips]).value
        effective = mean_value([clip.effective for clip in clips]).value
        return {
            "active_slots": mean_value(
                [clip.active for clip in clips], {"slots": slots, "min_share": self.min_share}
            ),
            "slot_entropy": mean_value([clip.entropy for clip in clips], {"effective_slots": effective}),
            "slot_stability": mean_value([clip.stability for clip in clips]),
        }


class SplitsAndMerges(MaskMetric):
    """``over_segmentation_UNIT`` and ``under_segmentation_UNIT``; see `pieces` and `company`."""

    name = "splits_and_merges"
    higher_is_better = False

    def score(self, overlaps: Overlaps) -> Mapping[str, Doubles]:
        objects = overlaps.foreground()
        return {"over_segmentation": pieces(objects), "under_segmentation": company(objects)}


@dataclass(frozen=True)
class SlotUsage:
    """Use of a clip's slots.

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
    """Return the mean IoU of the patches of a slot in one frame and in the next.

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


def pieces(overlaps: Overlaps) -> Doubles:
    """Return over-segmentation: in how many groups true objects lie.

    For an object 1 / Σ q² over groups, with q the share of its points in a group: 1 if one group holds
    all of it, n if n groups hold equal parts (inverse Simpson index).

    Args:
        overlaps: of S tables, without background rows.

    Returns:
        (S,) mean over the objects of each table, NaN where there are none.
    """
    share = overlaps.points / overlaps.row_points[overlaps.row]
    return overlaps.mean_over_rows(1 / weighted_counts(overlaps.row, share**2))


def company(overlaps: Overlaps) -> Doubles:
    """Return under-segmentation: how many true objects share the groups that each of them lies in.

    A group that holds the shares q of objects has (Σ q)² / Σ q² objects: 1 if it lies in one object
    only, n if it holds n whole ones, of any size. The mean over an object's groups, weighted with q.

    Args:
        overlaps: of S tables, without background rows.

    Returns:
        (S,) mean over the objects of each table, NaN where there are none.
    """
    share = overlaps.points / overlaps.row_points[overlaps.row]
    held = weighted_counts(overlaps.column, share) ** 2 / weighted_counts(overlaps.column, share**2)
    return overlaps.mean_over_rows(weighted_counts(overlaps.row, share * held[overlaps.column]))
