"""Training of PACL's head: pooled patches are matched with a picture's or a caption's embedding."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ovvol_bench import SettingError
from ovvol_bench.nn.attention import quicken_attention
from ovvol_bench.nn.clip.text import embed_tokens
from ovvol_bench.registry.annotations import Side
from ovvol_bench.training import Batch, LabelerRecipe, Losses, LossScope, TrainingTask, component_of

from .checkpoint import save_labeler
from .contrast import caption_similarities, gathered, match, pool_patches, similarities, truth
from .model import PaclLabeler

_SHOWN = 8  # pictures


class PaclRecipe(LabelerRecipe):
    """Train PACL's head on a frozen CLIP, with pictures alone or with captions.

    Patches are pooled by their likeness to the frozen tower's embedding of the picture, and matched with it
    against the other pictures. These are, as in the reference, those that the same process computes at
    the same time: the loss then depends on the number of processes. A step can't be computed in parts.

    Args:
        task: with a PACL labeler.
        image_size: side of the pictures, pixels; a multiple of the labeler's ``patch_size``.
        gather_negatives: compare with the pictures of all processes: their number then changes nothing.
        mosaic: n: patches come from mosaics of n x n pictures, and are pooled tile by tile; this project's
            own, for small networks, which otherwise spread a picture's content over all its patches.
        target: what patches are pooled by and matched with: the tower's embedding of the ``image``, as in the
            reference, or the text tower's of a ``caption``, as in the paper on PACL; all captions of the
            batch that are true of a picture are then its targets (UniCL).
        temperature: cosines are divided by it; 1 in the reference.

    Raises:
        SettingError: if a number is out of range or does not fit the labeler.
    """

    labeler: PaclLabeler

    def __init__(
        self,
        task: TrainingTask,
        *,
        image_size: Side = 224,
        gather_negatives: bool = False,
        mosaic: int = 1,
        target: Literal["image", "caption"] = "image",
        temperature: float = 1.0,
        **base: Any,
    ) -> None:
        labeler = component_of(task, PaclLabeler)
        self._image_size, self.reads_captions = image_size, target == "caption"
        super().__init__(task, **base)
        if mosaic < 1:
            raise SettingError(f"recipe.mosaic={mosaic}: expected at least 1 picture a side.")
        if not temperature > 0:
            raise SettingError(f"recipe.temperature={temperature}: expected more than 0.")
        self._mosaic, self._temperature, self._gathers = mosaic, temperature, gather_negatives
        self.loss_scope = LossScope.STEP if gather_negatives else LossScope.PROCESS
        self.hold(labeler=labeler)  # its towers stay as they are; only the head is trained
        quicken_attention(labeler)
        self.last_transformer, self.ln_last = labeler.last_transformer, labeler.ln_last
        self.vision_emb = labeler.vision_emb

    def picture_size(self) -> int:
        """Return the setting ``image_size``, if it is a multiple of the labeler's patches."""
        size, patch = self._image_size, self.labeler.patch_size
        if size < patch or size % patch:
            raise SettingError(
                f"recipe.image_size={size}: expected a multiple of the labeler's patch_size={patch}, "
                f"for example {max(1, round(size / patch)) * patch}."
            )
        return size

    def prepare(self, batch: Batch) -> Batch:
        """Run the frozen towers.

        Returns:
            What an example has, but ``image`` (B, E) float32, the embedding of each picture alone or of its
            caption, and ``tokens`` (M, 1 + patches, width), what enters the tower's last block: of each
            picture, or of mosaics.
        """
        labeler = self.labeler
        for tower in (labeler.model, labeler.text):
            tower.to(batch["pixels"].device)
        images = super().prepare(batch)["images"]
        if self.reads_captions:
            image = F.normalize(embed_tokens(labeler.text, batch["tokens"]).float(), dim=-1)
            tokens = labeler.trunk(tiled(images, self._mosaic))
        else:
            tokens = labeler.trunk(images)
            image = labeler.tower_output(tokens)[:, 0].float()
            tokens = labeler.trunk(tiled(images, self._mosaic)) if self._mosaic > 1 else tokens
        return {**batch, "image": image, "tokens": tokens}

    def forward(self, batch: Batch) -> Losses:
        return self.losses(batch["tokens"], batch)

    def losses(self, tokens: Tensor, batch: Batch) -> Losses:
        """Compute the loss, and the ``accuracy``: the share of pictures whose nearest is their own."""
        patches, image = self.patches(batch), batch["image"]
        # Validation is repeated by every process: there are no others' pictures to gather.
        gather = self._gathers and self.training
        if self.reads_captions:
            captions = gathered(batch["caption"]) if gather else batch["caption"]
            similarity = caption_similarities(patches, gathered(image) if gather else image)
            loss, accuracy = match(similarity / self._temperature, truth(batch["true"], captions))
            return {"loss": loss, "accuracy": accuracy}
        similarity, own = similarities(pool_patches(patches, image)[1], image, gather)
        accuracy = (similarity.argmax(dim=1) == own).float().mean()
        # One way, from pooled patches to pictures, as in the reference.
        return {"loss": F.cross_entropy(similarity / self._temperature, own), "accuracy": accuracy}

    def patches(self, batch: Batch) -> Tensor:
        """Compute the patch embeddings (B, h, w, E) of a prepared batch."""
        height, width = (side // self.labeler.patch_size for side in batch["pixels"].shape[-2:])
        patches = untiled(self.labeler.head(batch["tokens"]), self._mosaic, (height, width))
        return patches[: len(batch["image"])]

    def pictures(self, batch: Batch) -> Mapping[str, npt.NDArray[np.uint8]]:
        """Draw ``attention``: some pictures beside what their pooling attends to."""
        attention, _ = pool_patches(self.patches(batch), batch["image"])
        return {"attention": heat_maps(batch["pixels"][:_SHOWN], attention[:_SHOWN])}

    def save_weights(self, path: Path, about: Mapping[str, str]) -> None:
        """Write the whole labeler, both towers included."""
        save_labeler(self.labeler, path, about)


def tiled(images: Tensor, n: int) -> Tensor:
    """Make mosaics of n x n pictures; the first ones come once more where the last is not full.

    Args:
        images: (B, 3, H, W).
        n: pictures a side.

    Returns:
        (ceil(B / n²), 3, n * H, n * W).
    """
    count = -(-len(images) // n**2) * n**2
    filled = images[torch.arange(count, device=images.device) % len(images)]
    rows: Tensor = filled.unflatten(0, (-1, n, n)).permute(0, 3, 1, 4, 2, 5)
    return rows.flatten(4, 5).flatten(2, 3)


def untiled(patches: Tensor, n: int, grid: tuple[int, int]) -> Tensor:
    """Take the patches of each picture out of those of mosaics, in the order that `tiled` took them.

    Args:
        patches: (M, n * h * n * w, E), row by row.
        n: pictures a side.
        grid: (h, w) of one picture.

    Returns:
        (M * n², h, w, E).
    """
    height, width = grid
    split: Tensor = patches.unflatten(1, (n, height, n, width)).permute(0, 1, 3, 2, 4, 5)
    return split.flatten(0, 2)


def heat_maps(pixels: Tensor, weights: Tensor) -> npt.NDArray[np.uint8]:
    """Draw pictures in rows, each beside a map of weights, from dark (none) to light (the picture's most).

    Args:
        pixels: (B, 3, H, W) uint8.
        weights: (B, h, w) float, not negative.

    Returns:
        (B * H, 2 * W, 3) uint8.
    """
    pictures = pixels.permute(0, 2, 3, 1).cpu().numpy()
    levels = (255 * weights / weights.amax((1, 2), keepdim=True).clamp(min=1e-12)).byte().cpu().numpy()
    size = pictures.shape[2], pictures.shape[1]
    maps = [cv2.resize(level, size, interpolation=cv2.INTER_NEAREST) for level in levels]
    colored = [cv2.applyColorMap(level, cv2.COLORMAP_INFERNO)[..., ::-1] for level in maps]
    return np.concatenate([np.concatenate(pair, axis=1) for pair in zip(pictures, colored, strict=True)])
