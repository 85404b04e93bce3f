"""Training of a small CLIP, for worlds that no published one knows: both towers, pictures and captions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovvol_bench import SettingError
from ovvol_bench.nn.attention import quicken_attention
from ovvol_bench.nn.clip.text import embed_tokens, tokenize
from ovvol_bench.training import (
    Batch,
    LabelerRecipe,
    Losses,
    LossScope,
    TrainingTask,
    component_of,
    normalised,
)

from .checkpoint import save_labeler
from .contrast import gathered, match, set_anywhere, truth
from .model import PaclLabeler

_FIRST_TEMPERATURE, _LEAST_TEMPERATURE = 0.07, 0.01  # CLIP's
_NAMED_PICTURES = 2048
_AT_ONCE = 128


class ClipRecipe(LabelerRecipe):
    """Train the labeler's image and text tower on pictures and captions; the head stays as it is.

    For pictures that no published CLIP knows. A caption may be true of several pictures of a step: all of
    them are its targets (UniCL). The defaults are CLIP's for ViT-B on 400 million pairs.

    Args:
        task: with a PACL labeler.
        temperature: cosines are divided by it; none: learned, from 0.07 and not below 0.01, as CLIP's.
        gather_negatives: compare with pictures and captions of all processes: their number then changes
            nothing. False: with this process's alone.
        keep_unknown_words: save the embedding of words that no caption had; false: their rows, nearly all
            of a small CLIP and random if it began so, are zero and take no space in the file.

    Attributes:
        known_words: (vocabulary,) bool: tokens that captions had so far, and those that the towers came with.

    Raises:
        SettingError: if a number is out of range, or a picture has no caption or too many.
    """

    labeler: PaclLabeler
    known_words: Tensor

    def __init__(
        self,
        task: TrainingTask,
        *,
        temperature: float | None = None,
        gather_negatives: bool = True,
        keep_unknown_words: bool = True,
        **base: Any,
    ) -> None:
        labeler = component_of(task, PaclLabeler)
        super().__init__(task, **base)
        if temperature is not None and not temperature > 0:
            raise SettingError(f"recipe.temperature={temperature}: expected more than 0.")
        self._temperature, self._gathers = temperature, gather_negatives
        self._keep_unknown_words = keep_unknown_words
        self.loss_scope = LossScope.STEP if gather_negatives else LossScope.PROCESS
        self.hold(labeler=labeler)  # its head is left alone
        self.image, self.text = labeler.model, labeler.text
        quicken_attention(self)
        self.requires_grad_(True)
        if temperature is None:
            self.log_scale = nn.Parameter(torch.tensor(-math.log(_FIRST_TEMPERATURE)))
        # Files of small CLIPs have rows of zeros for unknown words; a table without any says nothing.
        rows = labeler.text.token_embedding.weight.detach().any(dim=1)
        self.register_buffer("known_words", rows & ~rows.all())

    def picture_size(self) -> int:
        return self.labeler.numbers.image_size

    def losses(self, images: Tensor, batch: Batch) -> Losses:
        """Compute the loss, the share of pictures whose nearest caption is true, and the temperature."""
        if self.training:
            seen = self.known_words.clone()
            seen[batch["tokens"].flatten()] = True
            self.known_words.copy_(set_anywhere(seen))
        pictures, texts = F.normalize(self.image(images).float(), dim=-1), self.captions(batch["tokens"])
        compared = [pictures, texts, batch["caption"], batch["true"]]
        # Validation is repeated by every process: there is nothing of others to gather.
        if self._gathers and self.training:
            compared = [gathered(rows) for rows in compared]
        all_pictures, all_texts, all_captions, all_true = compared
        scale = self.scale()
        with torch.autocast(images.device.type, enabled=False):
            by_image, accuracy = match(scale * pictures @ all_texts.T, truth(batch["true"], all_captions))
            by_text, _ = match(scale * texts @ all_pictures.T, truth(all_true, batch["caption"]).T)
        return {"loss": (by_image + by_text) / 2, "accuracy": accuracy, "temperature": 1 / scale.detach()}

    def scale(self) -> Tensor:
        """Return the factor of cosines, the inverse of the temperature."""
        if self._temperature is not None:
            return torch.tensor(1 / self._temperature, device=self.known_words.device)
        return self.log_scale.clamp(max=-math.log(_LEAST_TEMPERATURE)).exp()

    def captions(self, tokens: Tensor) -> Tensor:
        """Embed captions (B, 77) int64 as unit rows (B, E) float32; equal ones are embedded once."""
        different, place = tokens.unique(dim=0, return_inverse=True)
        return F.normalize(embed_tokens(self.text, different).float(), dim=-1)[place]

    def evaluate(self) -> Mapping[str, float]:
        """Name validation pictures, up to 2,048 of them evenly spread, by the middle of each.

        Returns:
            ``naming_accuracy``: share of the pictures for which, of the different first captions of all of
            them, the nearest is true; ``naming_pictures`` and ``naming_captions``: how many there were.
        """
        examples, labeler, device = self.validation, self.labeler, self.known_words.device
        if examples is None:
            return {}
        count = min(_NAMED_PICTURES, len(examples))
        indices = np.linspace(0, len(examples), count, endpoint=False).astype(int)
        embedded, known = [], []
        for part in np.array_split(indices, -(-count // _AT_ONCE)):
            images = [examples.images.image(int(index)) for index in part]
            known += [image.captions for image in images]
            pixels = torch.stack([examples.views.plain(image.pixels) for image in images]).to(device)
            seen = self.image(normalised(pixels, labeler.mean, labeler.std))
            embedded.append(F.normalize(seen.float(), dim=-1))
        names = list(dict.fromkeys(captions[0] for captions in known if captions))
        words = torch.cat([self.captions(part.to(device)) for part in tokenize(names).split(_AT_ONCE)])
        nearest = (torch.cat(embedded) @ words.T).argmax(dim=1).tolist()
        right = [names[name] in captions for name, captions in zip(nearest, known, strict=True) if captions]
        return {
            "naming_accuracy": float(np.mean(right)),
            "naming_pictures": float(len(right)),
            "naming_captions": float(len(names)),
        }

    def pictures(self, batch: Batch) -> Mapping[str, npt.NDArray[np.uint8]]:
        """Draw none: what patches show belongs to the head, which isn't trained yet."""
        return {}

    def save_weights(self, path: Path, about: Mapping[str, str]) -> None:
        """Write the whole labeler, its head as it was."""
        known = None if self._keep_unknown_words else self.known_words
        save_labeler(self.labeler, path, about, known_words=known)
