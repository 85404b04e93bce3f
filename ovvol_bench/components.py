"""Bases of encoders, groupers and labelers: what each must give, and what it may give.

They are ``nn.Module``s so that devices, precision and training work as everywhere in PyTorch; this is the
module that brings torch in. Datasets and metrics, which need none, have theirs in ``data.base`` and
``metrics.base``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from torch import Generator, Tensor, dtype, nn

from ovvol_bench.types import Features, SlotMasks

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class Component(nn.Module, ABC):
    """Base of encoders, groupers and labelers.

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

    def prepare(self, precision: dtype) -> None:
        """Get ready to answer quickly in a precision below float32, and for nothing else.

        Called once in fidelity ``fast``, on the device and in evaluation mode, weights loaded. Weights may be
        cast, laid out anew or thrown away: the component is not trained or saved afterwards. Answers must
        stay what they are under autocast, but for rounding. Without it autocast does what it can.

        Args:
            precision: of products, ``torch.bfloat16``.
        """


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
    """Base of every kind of labeler: a space in which text lies.

    Attributes:
        dim: channels E of the space.
        needs_classes: whether ``embed_text`` is called with a further keyword ``classes``, the name of the
            class that each sentence speaks of, None for background words.
    """

    dim: int
    needs_classes: bool = False

    @abstractmethod
    def embed_text(self, prompts: Sequence[str]) -> Tensor:
        """Embed sentences.

        Returns:
            (P, E) float, rows of unit length.
        """


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


class GuidedLabeler(AnyLabeler):
    """Patches and text into one embedding space, with the help of the run's encoder.

    It works once on every encoder of a matrix, where a `Labeler` works once in all.
    """

    @abstractmethod
    def embed_patches(self, video: Tensor, features: Features) -> Tensor:
        """Embed every patch of every frame.

        Args:
            video: (B, T, 3, H, W) float, normalised with ``mean`` and ``std``.
            features: the encoder's, of the same clips: a grid (B, S, h, w, D), T a multiple of S.

        Returns:
            (B, T, h, w, E) float on the features' grid; not normalised.
        """


class SlotLabeler(AnyLabeler):
    """Whole slots and text into one embedding space.

    It works once on every grouping of a matrix, where a `Labeler` works once in all.
    """

    @abstractmethod
    def embed_slots(self, video: Tensor, slots: Tensor, num_slots: int) -> Tensor:
        """Embed the slots of every clip.

        Args:
            video: (B, T, 3, H, W) float, normalised with ``mean`` and ``std``.
            slots: (B, T, h, w) int64 slot of every patch of the grouping, in [0, K); the grid covers the
                whole frame and is not the labeler's own.
            num_slots: K.

        Returns:
            (B, K, E) float; not normalised: where slots are united their vectors are added. Zeros for slots
            without a patch.
        """
