"""Names from the truth: what naming could reach on the given slots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ovvol_bench import ClipInfo, FromDataset, Labeler, SettingError
from ovvol_bench.registry.annotations import Side, Width
from ovvol_bench.truth import patch_truth


class Oracle(Labeler):
    """Name every patch after what covers most of it; each class and the background have an axis of their own.

    Args:
        num_classes: foreground classes C; follows from the dataset.
        patch_size: side of a patch, pixels.
    """

    needs_truth = True

    def __init__(
        self, *, num_classes: Annotated[Width, FromDataset("num_classes")] = 30, patch_size: Side = 8
    ) -> None:
        super().__init__()
        self.patch_size, self.dim = patch_size, num_classes + 1

    def embed_patches(self, video: Tensor, truth: Sequence[ClipInfo] = ()) -> Tensor:
        grid = (video.shape[-2] // self.patch_size, video.shape[-1] // self.patch_size)
        classes = np.stack([patch_truth(info, grid).classes for info in truth])
        return self._axes(torch.from_numpy(classes).to(video.device))

    def embed_text(self, prompts: Sequence[str], truth: Sequence[int] = ()) -> Tensor:
        # The truth is the class of every sentence, 0 for background words.
        return self._axes(torch.as_tensor(np.asarray(truth, dtype=np.int64)))

    def _axes(self, classes: Tensor) -> Tensor:
        if classes.numel() and int(classes.max()) >= self.dim:
            raise SettingError(
                f"oracle: class {int(classes.max())} of num_classes={self.dim - 1}. Leave "
                f"labeler.num_classes out: it follows from the dataset."
            )
        return F.one_hot(classes, self.dim).float()
