"""Names from the truth: what naming could reach on the given slots."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ovvol_bench import ClipInfo, Labeler, SettingError
from ovvol_bench.truth import patch_truth


class Oracle(Labeler):
    """A patch is what covers most of it, each class and the background an axis of its own.

    Args:
        num_classes: C, foreground classes of the vocabulary.
        patch_size: side of a patch, pixels.

    Raises:
        SettingError: if a number is below 1.
    """

    needs_truth = True

    def __init__(self, num_classes: int, patch_size: int) -> None:
        super().__init__()
        for name, value in (("num_classes", num_classes), ("patch_size", patch_size)):
            if value < 1:
                raise SettingError(f"oracle: {name}={value}; expected at least 1.")
        self.patch_size, self.dim = patch_size, num_classes + 1

    def embed_patches(self, video: Tensor, truth: Sequence[ClipInfo] = ()) -> Tensor:
        """See `Labeler.embed_patches`.

        Args:
            video: of which only the size counts.
            truth: of every clip.

        Raises:
            DataError: if a clip has no truth.
            SettingError: if there are more classes than axes.
        """
        grid = (video.shape[-2] // self.patch_size, video.shape[-1] // self.patch_size)
        classes = np.stack([patch_truth(info, grid).classes for info in truth])
        return self._axes(torch.from_numpy(classes).to(video.device))

    def embed_text(self, prompts: Sequence[str], truth: Sequence[int] = ()) -> Tensor:
        """See `Labeler.embed_text`; ``truth`` is the class of every sentence, 0 for background words."""
        return self._axes(torch.as_tensor(np.asarray(truth, dtype=np.int64)))

    def _axes(self, classes: Tensor) -> Tensor:
        if classes.numel() and int(classes.max()) >= self.dim:
            raise SettingError(
                f"oracle: class {int(classes.max())} of num_classes={self.dim - 1}. Leave "
                f"labeler.num_classes out: it follows from the dataset."
            )
        return F.one_hot(classes, self.dim).float()
