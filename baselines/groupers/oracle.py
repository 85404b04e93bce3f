"""The truth's own masks on the patch grid: no hard assignment of patches agrees with more pixels.

Box metrics that forgive further boxes (CorLoc of any box) may come out higher with more slots: a slot of
border patches can fit a box better than the patches that an object has most of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Generator, Tensor

from ovvol_bench import ClipInfo, Features, Grouper, SlotMasks
from ovvol_bench.registry.annotations import Slots
from ovvol_bench.truth import patch_truth


class Oracle(Grouper):
    """Give every object a slot, slot 0 to the background; a patch belongs to what covers most of it.

    Args:
        num_slots: slots K: the background and one an object; of more objects those that cover least fall to
            the background.
    """

    needs_truth = True

    def __init__(self, *, num_slots: Annotated[Slots, Ge(2)] = 64) -> None:
        super().__init__()
        self.num_slots = num_slots
        self.max_objects = num_slots - 1

    def group(
        self, features: Features, draws: Sequence[Generator], truth: Sequence[ClipInfo] = ()
    ) -> SlotMasks:
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
