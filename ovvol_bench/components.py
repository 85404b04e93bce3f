"""The five kinds of component: what each must give, and what it may give.

Encoders, groupers and labelers are ``nn.Module``s so that devices, precision and training work as
everywhere in PyTorch; this is the module that brings torch in. Datasets and metrics, which need no
torch, are defined in ``benchmark``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from torch import Generator, Tensor, nn

from ovvol_bench.benchmark import Dataset, Metric, MetricValue
from ovvol_bench.types import Features, SlotMasks

__all__ = [
    "Component",
    "Dataset",
    "Encoder",
    "Grouper",
    "Labeler",
    "Metric",
    "MetricValue",
    "VisionComponent",
]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class Component(nn.Module, ABC):
    """What encoders, groupers and labelers share.

    Attributes:
        needs_truth: whether the component is an oracle, which answers with the truth to show what the other
            parts can reach. The harness then calls ``encode``, ``group`` or ``embed_patches`` with a further
            keyword ``truth``, the ``ClipInfo`` of every clip of the batch, and ``embed_text`` with the class
            of every sentence. Results of runs with an oracle are marked and never ranked with others.
    """

    needs_truth: bool = False

    def load_weights(self, path: Path) -> None:
        """Load weights from a file.

        Raises:
            WeightsError: if the file is missing, unsafe, or of another architecture.
        """
        raise NotImplementedError(f"{type(self).__name__} has no weights to load")


class VisionComponent(Component):
    """A component that reads pixels.

    Attributes:
        patch_size: side of a patch in pixels; frame sizes are multiples of it.
        mean, std: of the RGB values in [0, 1]; the harness normalises with them before it calls.
    """

    patch_size: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


class Encoder(VisionComponent):
    """Video to space-time features.

    Attributes:
        tubelet_size: frames that share one feature step.
        dim: feature channels D.
        max_frames: longest clip that the encoder takes, or None for any length.
        maps: names of the further maps in ``Features.maps``.
    """

    tubelet_size: int
    dim: int
    max_frames: int | None = None
    maps: frozenset[str] = frozenset()

    @abstractmethod
    def encode(self, video: Tensor) -> Features:
        """Encode a batch of clips.

        Args:
            video: (B, T, 3, H, W) float, normalised with ``mean`` and ``std``.

        Returns:
            Features with a grid of (B, T / tubelet_size, H / patch_size, W / patch_size, D).
        """


class Grouper(Component):
    """Features to object slots.

    Attributes:
        needs: names of encoder maps without which the grouper can't work.
        max_objects: most objects that the method can find in a clip, or None.
    """

    needs: frozenset[str] = frozenset()
    max_objects: int | None = None

    @abstractmethod
    def group(self, features: Features, draws: Sequence[Generator]) -> SlotMasks:
        """Group the patches of every clip into slots.

        Args:
            features: of B clips.
            draws: one random generator (CPU) a clip, the only source of randomness allowed: the
                same clip then gets the same slots in any batch and order.

        Returns:
            Masks (B, K, S, h, w) that sum to 1 over K.
        """


class AnyLabeler(VisionComponent):
    """What every kind of labeler shares: a space in which text lies.

    Attributes:
        dim: channels E of the space.
    """

    dim: int

    def embed_text(self, prompts: Sequence[str]) -> Tensor:
        """Embed sentences.

        Returns:
            (P, E) float, rows of unit length.
        """
        raise NotImplementedError(f"{type(self).__name__} gives no embed_text()")


class Labeler(AnyLabeler):
    """Patches and text into one embedding space."""

    @abstractmethod
    def embed_patches(self, video: Tensor) -> Tensor:
        """Embed every patch of every frame.

        Args:
            video: (B, T, 3, H, W) float, normalised with ``mean`` and ``std``.

        Returns:
            (B, T, h, w, E) float; not normalised, so that long vectors weigh more in a sum.
        """

    @abstractmethod
    def embed_text(self, prompts: Sequence[str]) -> Tensor:
        """Embed sentences.

        Returns:
            (P, E) float, rows of unit length.
        """
