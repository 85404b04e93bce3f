"""The truth's own masks on the patch grid: no hard assignment of patches agrees with more pixels.

Box metrics that forgive further boxes (CorLoc of any box) may come out higher with more slots: a slot of
border patches can fit a box better than the patches that an object has most of.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ovvol_bench import ClipInfo, Features, Grouper, SettingError, SlotMasks
from ovvol_bench.truth import patch_truth


class Oracle(Grouper):
    """Slot 0 is the background, every further one an object; a patch belongs to what covers most of it.

    Args:
        num_slots: K. Of more objects those that cover least fall to the background.

    Raises:
        SettingError: if there are fewer than two slots.
    """

    needs_truth = True

    def __init__(self, num_slots: int) -> None:
        super().__init__()
        if num_slots < 2:
            raise SettingError(f"oracle: num_slots={num_slots}; expected at least 2, one is the background.")
        self.num_slots = num_slots
        self.max_objects = num_slots - 1

    def group(
        self, features: Features, draws: Sequence[Generator], truth: Sequence[ClipInfo] = ()
    ) -> SlotMasks:
        """See `Grouper.group`.

        Args:
            features: of which only the grid's size counts.
            draws: not used.
            truth: of every clip.

        Raises:
            DataError: if a clip has no truth.
        """
        steps, *grid = features.grid.shape[1:4]
        slots = torch.stack([self._slots(info, steps, (grid[0], grid[1])) for info in truth])
        masks = F.one_hot(slots, self.num_slots).movedim(-1, 1).float()
        return SlotMasks(masks.to(features.grid.device))

    def _slots(self, info: ClipInfo, steps: int, grid: tuple[int, int]) -> Tensor:
        """(S, h, w) int64 slot of every patch."""
        known = patch_truth(info, grid).in_steps(steps)
        sizes = known.cover[1:].sum(axis=(1, 2, 3))
        kept = np.sort(np.argsort(-sizes, kind="stable")[: self.max_objects])
        slot_of = np.zeros(len(known.cover), np.int64)
        slot_of[1 + kept] = 1 + np.arange(len(kept))
        return torch.from_numpy(slot_of[known.rows])
