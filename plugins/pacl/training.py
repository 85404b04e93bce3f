"""The objective of PACL."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .model import Alignment, PaclLabeler


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
    pooled, image = F.normalize(aligned.pooled, dim=-1), F.normalize(aligned.image, dim=-1)
    with torch.autocast(image.device.type, enabled=False):
        similarity = pooled @ image.T
        return F.cross_entropy(similarity, torch.arange(len(image), device=image.device))
