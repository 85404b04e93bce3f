"""Training of PACL: pooled patches are matched with the frozen tower's view of the picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovvol_bench import SettingError
from ovvol_bench.nn.attention import quicken_attention
from ovvol_bench.nn.clip.text import embed_tokens
from ovvol_bench.training import Batch, Examples, Losses, LossScope, Optimization, Recipe, TrainingTask

from .captions import CaptionedExamples, Captions, match, truth
from .checkpoint import save_labeler
from .distributed import gathered, rank
from .model import Alignment, PaclLabeler
from .pictures import PictureExamples, Views, heat_maps, normalised

_SHOWN = 8


@dataclass(frozen=True)
class Contrast:
    """What pooled patches are compared with.

    Attributes:
        mosaic: n: patches are taken from mosaics of n x n pictures; 1: from each picture alone.
        gather_negatives: compare with the pictures of all processes; false: with this one's.
        temperature: cosines are divided by it.

    Raises:
        SettingError: if a number is out of range.
    """

    mosaic: int = 1
    gather_negatives: bool = False
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.mosaic < 1:
            raise SettingError(f"recipe.mosaic={self.mosaic}: expected at least 1 picture a side.")
        if not self.temperature > 0:
            raise SettingError(f"recipe.temperature={self.temperature}: expected more than 0.")


class PaclTraining(nn.Module):
    """What of PACL is trained, and its objective.

    Args:
        labeler: whose head is trained.
        contrast: what it is compared with.
    """

    def __init__(self, labeler: PaclLabeler, contrast: Contrast) -> None:
        super().__init__()
        self.last_transformer = labeler.last_transformer
        self.ln_last = labeler.ln_last
        self.vision_emb = labeler.vision_emb
        self._head, self._patch_size = labeler.head, labeler.patch_size
        self.contrast = contrast

    def forward(self, batch: Batch) -> Losses:
        """The loss, and the share of pictures for which what is nearest to their pooled patches is theirs.

        Args:
            batch: as `PaclRecipe.prepare` returns it.
        """
        # Validation is repeated by every process: there are no others' pictures to gather.
        gather = self.contrast.gather_negatives and self.training
        aligned = self.align(batch)
        if "caption" in batch:
            return self._by_captions(aligned, batch, gather)
        similarity, own = similarities(aligned, gather)
        accuracy = (similarity.argmax(dim=1) == own).float().mean()
        return {"loss": F.cross_entropy(similarity / self.contrast.temperature, own), "accuracy": accuracy}

    def _by_captions(self, aligned: Alignment, batch: Batch, gather: bool) -> Losses:
        texts, captions = aligned.image, batch["caption"]
        if gather:
            texts, captions = gathered(texts), gathered(captions)
        similarity = caption_similarities(aligned.patches, texts)
        loss, accuracy = match(similarity / self.contrast.temperature, truth(batch["true"], captions))
        return {"loss": loss, "accuracy": accuracy}

    def align(self, batch: Batch) -> Alignment:
        """The batch's pictures beside their patches; ``batch`` as in `forward`."""
        height, width = (side // self._patch_size for side in batch["pixels"].shape[-2:])
        patches = untiled(self._head(batch["tokens"]), self.contrast.mosaic, (height, width))
        return Alignment.of(batch["image"], patches[: len(batch["image"])])


class PaclRecipe(Recipe):
    """PACL's head on a frozen CLIP: pictures, and their captions if asked for.

    Args:
        task: with a PACL labeler, and datasets that offer pictures.
        examples: how pictures are seen in training (validation sees the middle of each), and how captions
            are used; None: they are not read, patches are matched with the tower's view of the picture.
        contrast: what pooled patches are compared with.
        optimization: the numbers.

    Raises:
        SettingError: if the numbers do not fit the labeler, or a dataset offers no pictures.
    """

    module: PaclTraining
    _labeler: PaclLabeler

    def __init__(
        self,
        task: TrainingTask,
        examples: tuple[Views, Captions | None],
        contrast: Contrast,
        optimization: Optimization,
    ) -> None:
        views, captions = examples
        super().__init__()
        self.hold(_labeler=checked_labeler(task))
        quicken_attention(self._labeler)
        check_size(self._labeler, views.size)
        self.optimization = optimization
        self.examples = _examples(PictureExamples(task.dataset.training_images(), views), captions)
        if task.validation is not None:
            seen = PictureExamples(task.validation.training_images(), views, varied=False)
            self.validation = _examples(seen, captions)
        self.module = PaclTraining(self._labeler, contrast)
        self.loss_scope = LossScope.STEP if contrast.gather_negatives else LossScope.PROCESS

    def forward(self, batch: Batch) -> Losses:
        """Losses of a prepared batch."""
        losses: Losses = self.module(batch)
        return losses

    def prepare(self, batch: Batch) -> Batch:
        """What the frozen towers make of the pictures.

        Args:
            batch: ``pixels`` (B, 3, H, W) uint8; where captions are used, as `CaptionedExamples` gives it.

        Returns:
            The same and ``image`` (B, E) float32, the embedding of each picture alone or of its caption, and
            ``tokens`` (M, 1 + patches, width), what enters the tower's last block: of each picture, or of
            mosaics.
        """
        labeler, mosaic = self._labeler, self.module.contrast.mosaic
        for tower in (labeler.model, labeler.text):
            tower.to(batch["pixels"].device)
        images = normalised(batch["pixels"], labeler.mean, labeler.std)
        if "caption" in batch:
            image = F.normalize(embed_tokens(labeler.text, batch["tokens"]).float(), dim=-1)
            tokens = labeler.trunk(tiled(images, mosaic))
        else:
            tokens = labeler.trunk(images)
            image = labeler.tower_output(tokens)[:, 0].float()
            tokens = labeler.trunk(tiled(images, mosaic)) if mosaic > 1 else tokens
        return {**batch, "image": image, "tokens": tokens}

    def pictures(self, batch: Batch) -> Mapping[str, npt.NDArray[np.uint8]]:
        """``attention``: some pictures beside what their pooling attends to."""
        attention = self.module.align(batch).attention[:_SHOWN]
        return {"attention": heat_maps(batch["pixels"][:_SHOWN], attention)}

    def save_weights(self, path: Path, about: Mapping[str, str]) -> None:
        """The whole labeler, both towers included."""
        save_labeler(self._labeler, path, about)


def _examples(pictures: PictureExamples, captions: Captions | None) -> Examples:
    return pictures if captions is None else CaptionedExamples(pictures, captions)


def alignment_loss(labeler: PaclLabeler, images: Tensor) -> Tensor:
    """InfoNCE between pooled patches and the image, over the images of the batch.

    As in the reference: no temperature, and one way, from the pooled patches to the images.

    Args:
        labeler: in training.
        images: (B, 3, H, W) float, normalised; B of 2 or more, as the others are the negatives.

    Returns:
        Scalar float32.
    """
    return contrast(labeler.align(images))


def contrast(aligned: Alignment) -> Tensor:
    """The loss of an alignment; see `alignment_loss`."""
    return F.cross_entropy(*similarities(aligned))


def similarities(aligned: Alignment, gather: bool = False) -> tuple[Tensor, Tensor]:
    """Compare every picture's pooled patches with all pictures.

    The pictures' own embeddings have no gradients, so that gathering them costs one exchange.

    Args:
        aligned: of B pictures.
        gather: with those of all processes; as many in each.

    Returns:
        Cosines (B, N) float32, N = B or processes * B, and the column (B,) int64 of each one's own.
    """
    pooled, image = F.normalize(aligned.pooled, dim=-1), F.normalize(aligned.image, dim=-1)
    first = rank() * len(image) if gather else 0
    own = first + torch.arange(len(image), device=image.device)
    with torch.autocast(image.device.type, enabled=False):
        return pooled @ (gathered(image) if gather else image).T, own


def caption_similarities(patches: Tensor, texts: Tensor) -> Tensor:
    """Compare every picture with every caption, pooling its patches for each caption anew.

    Mukhoti et al., CVPR 2023, equations 2 and 3. Pooled for its own caption alone, patches that point
    everywhere would do: some of them always fit.

    Args:
        patches: (B, h, w, E).
        texts: (N, E) unit rows.

    Returns:
        Cosines (B, N) float32.
    """
    flat = patches.flatten(1, 2).float()
    with torch.autocast(texts.device.type, enabled=False):
        attention = (flat @ texts.T).softmax(dim=1)
        pooled = attention.transpose(1, 2) @ flat
        return torch.einsum("bne,ne->bn", F.normalize(pooled, dim=-1), texts)


def tiled(images: Tensor, n: int) -> Tensor:
    """Mosaics of n x n pictures; the first ones come once more where the last is not full.

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
    """The patches of each picture out of those of mosaics, in the order that `tiled` took them.

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


def checked_labeler(task: TrainingTask) -> PaclLabeler:
    """The labeler that is to be trained.

    Raises:
        SettingError: if it is another kind of component.
    """
    if not isinstance(task.component, PaclLabeler):
        raise SettingError(
            f"the recipes pacl and clip train a pacl labeler; got a {type(task.component).__name__}."
        )
    return task.component


def check_size(labeler: PaclLabeler, size: int) -> None:
    """Refuse pictures of partial patches.

    Raises:
        SettingError: if ``size`` is no multiple of the labeler's patches.
    """
    patch = labeler.patch_size
    if size < patch or size % patch:
        raise SettingError(
            f"recipe.image_size={size}: expected a multiple of the labeler's patch_size={patch}, "
            f"for example {max(1, round(size / patch)) * patch}."
        )
