"""Training of a small CLIP, for worlds that no published one knows: both towers, pictures and captions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovvol_bench import SettingError
from ovvol_bench.nn.attention import quicken_attention
from ovvol_bench.nn.clip.text import embed_tokens, tokenize
from ovvol_bench.training import Batch, Losses, LossScope, Optimization, Recipe, TrainingTask

from .captions import CaptionedExamples, Captions, match, truth
from .checkpoint import save_labeler
from .distributed import anywhere, gathered
from .model import PaclLabeler
from .pictures import PictureExamples, Views, normalised
from .training import checked_labeler

_FIRST_TEMPERATURE = 0.07
_LEAST_TEMPERATURE = 0.01
_NAMED_PICTURES = 2048
_AT_ONCE = 128


@dataclass(frozen=True)
class Matching:
    """The objective.

    Attributes:
        temperature: cosines are divided by it; None: learned, from 0.07 and not below 0.01.
        gather_negatives: compare with pictures and captions of all processes; false: with this one's.

    Raises:
        SettingError: if the temperature is not above 0.
    """

    temperature: float | None = None
    gather_negatives: bool = True

    def __post_init__(self) -> None:
        if self.temperature is not None and not self.temperature > 0:
            raise SettingError(f"recipe.temperature={self.temperature}: expected more than 0.")


class ClipTraining(nn.Module):
    """Both towers and their objective.

    Args:
        labeler: whose towers are trained; its head is left alone.
        matching: the objective.
    """

    known_words: Tensor
    """(vocabulary,) bool: tokens that captions had so far, and those that the towers came with."""

    def __init__(self, labeler: PaclLabeler, matching: Matching) -> None:
        super().__init__()
        self.image, self.text = labeler.model, labeler.text
        quicken_attention(self)
        self.requires_grad_(True)
        self.matching, self._mean, self._std = matching, labeler.mean, labeler.std
        if matching.temperature is None:
            self.log_scale = nn.Parameter(torch.tensor(-math.log(_FIRST_TEMPERATURE)))
        # Files of small CLIPs have rows of zeros for unknown words; a table without any says nothing.
        rows = labeler.text.token_embedding.weight.detach().any(dim=1)
        self.register_buffer("known_words", rows & ~rows.all())

    def forward(self, batch: Batch) -> Losses:
        """The loss, the share of pictures whose nearest caption is true, and the temperature.

        Args:
            batch: as `CaptionedExamples` gives it.
        """
        images, texts = self._embedded(batch)
        captions, true = batch["caption"], batch["true"]
        all_images, all_texts, all_captions, all_true = images, texts, captions, true
        # Validation is repeated by every process: there is nothing of others to gather.
        if self.matching.gather_negatives and self.training:
            all_images, all_texts = gathered(images), gathered(texts)
            all_captions, all_true = gathered(captions), gathered(true)
        scale = self.scale()
        with torch.autocast(images.device.type, enabled=False):
            by_image, accuracy = match(scale * images @ all_texts.T, truth(true, all_captions))
            by_text, _ = match(scale * texts @ all_images.T, truth(all_true, captions).T)
        return {"loss": (by_image + by_text) / 2, "accuracy": accuracy, "temperature": 1 / scale.detach()}

    def scale(self) -> Tensor:
        """What cosines are multiplied with."""
        if self.matching.temperature is not None:
            return torch.tensor(1 / self.matching.temperature, device=self.known_words.device)
        return self.log_scale.clamp(max=-math.log(_LEAST_TEMPERATURE)).exp()

    def embed_pictures(self, pixels: Tensor) -> Tensor:
        """(B, 3, size, size) uint8 to unit rows (B, E) float32."""
        return F.normalize(self.image(normalised(pixels, self._mean, self._std)).float(), dim=-1)

    def embed_captions(self, tokens: Tensor) -> Tensor:
        """(B, 77) int64 to unit rows (B, E) float32; equal captions are embedded once."""
        different, place = tokens.unique(dim=0, return_inverse=True)
        return F.normalize(embed_tokens(self.text, different).float(), dim=-1)[place]

    def _embedded(self, batch: Batch) -> tuple[Tensor, Tensor]:
        tokens = batch["tokens"]
        if self.training:
            seen = self.known_words.clone()
            seen[tokens.flatten()] = True
            self.known_words.copy_(anywhere(seen))
        return self.embed_pictures(batch["pixels"]), self.embed_captions(tokens)


class ClipRecipe(Recipe):
    """Both towers on pictures and captions, before `PaclRecipe` trains the head on them.

    Args:
        task: with a PACL labeler, and datasets that offer pictures with captions.
        examples: views and captions in training; validation sees the middle of each picture.
        matching: the objective.
        optimization: the numbers.
        keep_unknown_words: save the token embedding of words that no caption had, too.

    Raises:
        SettingError: if the numbers do not fit the labeler, or a dataset offers no pictures.
    """

    module: ClipTraining
    _labeler: PaclLabeler
    validation: CaptionedExamples | None = None

    def __init__(
        self,
        task: TrainingTask,
        examples: tuple[Views, Captions],
        matching: Matching,
        optimization: Optimization,
        keep_unknown_words: bool = True,
    ) -> None:
        super().__init__()
        self.hold(_labeler=checked_labeler(task))
        self._keep_unknown_words = keep_unknown_words
        self.optimization = optimization
        views, captions = examples
        self.examples = CaptionedExamples(PictureExamples(task.dataset.training_images(), views), captions)
        if task.validation is not None:
            seen = PictureExamples(task.validation.training_images(), views, varied=False)
            self.validation = CaptionedExamples(seen, captions)
        self.module = ClipTraining(self._labeler, matching)
        self.loss_scope = LossScope.STEP if matching.gather_negatives else LossScope.PROCESS

    def forward(self, batch: Batch) -> Losses:
        """Losses of a prepared batch."""
        losses: Losses = self.module(batch)
        return losses

    def evaluate(self) -> Mapping[str, float]:
        """Naming of validation pictures, up to 2,048 of them evenly spread.

        Returns:
            ``naming_accuracy``: share of the pictures for which, of the different first captions of all of
            them, the nearest is true; ``naming_pictures`` and ``naming_captions``: how many there were.
        """
        if self.validation is None:
            return {}
        return name_pictures(self.module, self.validation)

    def save_weights(self, path: Path, about: Mapping[str, str]) -> None:
        """The whole labeler, its head as it was."""
        known = None if self._keep_unknown_words else self.module.known_words
        save_labeler(self._labeler, path, about, known_words=known)


def name_pictures(module: ClipTraining, examples: CaptionedExamples) -> dict[str, float]:
    """`ClipRecipe.evaluate`, on the middle of each picture."""
    pictures = examples.pictures
    count = min(_NAMED_PICTURES, len(pictures))
    indices = np.linspace(0, len(pictures), count, endpoint=False).astype(int)
    device = module.known_words.device
    embedded, known = [], []
    for part in np.array_split(indices, -(-count // _AT_ONCE)):
        images = [pictures.images.image(int(index)) for index in part]
        known += [image.captions for image in images]
        pixels = torch.stack([pictures.views.plain(image.pixels) for image in images])
        embedded.append(module.embed_pictures(pixels.to(device)))
    names = list(dict.fromkeys(captions[0] for captions in known if captions))
    words = torch.cat([module.embed_captions(part.to(device)) for part in tokenize(names).split(_AT_ONCE)])
    nearest = (torch.cat(embedded) @ words.T).argmax(dim=1).tolist()
    right = [names[name] in captions for name, captions in zip(nearest, known, strict=True) if captions]
    return {
        "naming_accuracy": float(np.mean(right)),
        "naming_pictures": float(len(right)),
        "naming_captions": float(len(names)),
    }
