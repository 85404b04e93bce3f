"""Base of groupers that work on one clip or frame at a time, in numpy, with a generator of its own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Lt
from torch import Generator

from ovvol_bench import Features, Grouper, SlotMasks
from ovvol_bench.arrays import Bools, Floats, Ints

from .linking import link_labels, unit

Span = Literal["clip", "frame"]
Source = Literal["tokens", "keys"]
Cosine = Annotated[float, Ge(-1), Lt(1)]
"""Threshold that two patches can be on both sides of."""


@dataclass(frozen=True)
class Patches:
    """Patches of a stretch of video, N = S * h * w.

    Attributes:
        grid: (S, h, w, D) float32.
        attention: (S, heads, h, w) float32 that the class token pays to each patch, or None.
    """

    grid: Floats
    attention: Floats | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Steps, rows and columns."""
        return self.grid.shape[:3]

    @property
    def tokens(self) -> Floats:
        """Features in a row, (N, D)."""
        return self.grid.reshape(-1, self.grid.shape[-1])

    def frames(self) -> Iterator[Patches]:
        """Go through the steps, each alone."""
        for step in range(len(self.grid)):
            maps = None if self.attention is None else self.attention[step : step + 1]
            yield Patches(self.grid[step : step + 1], maps)


class PatchGrouper(Grouper):
    """Base of groupers of patches, one clip at a time.

    Args:
        num_slots: K.
        span: ``clip`` groups all patches of a clip together, over space and time; ``frame`` those of every
            frame, and links the groups by their mean features.
        source: features to group by, ``tokens`` or the map ``keys``.
        fixed: so many first slots mean the same in every frame and are not linked.
    """

    def __init__(self, num_slots: int, span: Span, source: Source = "tokens", fixed: int = 0) -> None:
        super().__init__()
        self.num_slots, self.span, self.source, self._fixed = num_slots, span, source, fixed
        self.max_objects = num_slots - fixed
        self.needs = frozenset() if source == "tokens" else frozenset({source})

    @abstractmethod
    def segment(self, patches: Patches, rng: np.random.Generator) -> Ints:
        """Return the (S, h, w) slot of every patch in [0, num_slots), of a clip or of a frame (S = 1)."""

    def group(self, features: Features, draws: Sequence[Generator]) -> SlotMasks:
        slots = []
        for clip, draw in zip(patches_of(features, self.source), draws, strict=True):
            rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=draw)))
            if self.span == "clip":
                slots.append(self.segment(clip, rng))
            else:
                labels = np.concatenate([self.segment(frame, rng) for frame in clip.frames()])
                slots.append(link_labels(labels, clip.grid, self.num_slots, self._fixed))
        masks = F.one_hot(torch.from_numpy(np.stack(slots)), self.num_slots).movedim(-1, 1).float()
        return SlotMasks(masks.to(features.grid.device))


def patches_of(features: Features, source: Source) -> list[Patches]:
    """Return the clips of a batch, on the CPU."""
    grid = features.grid if source == "tokens" else features.maps[source]
    attention = features.maps.get("attention")
    clips = grid.float().cpu().numpy()
    if attention is None:
        return [Patches(clip) for clip in clips]
    return [Patches(*pair) for pair in zip(clips, attention.float().cpu().numpy(), strict=True)]


def clustered(rows: Floats, most: int, restarts: int, rng: np.random.Generator) -> Ints:
    """Run k-means on rows (N, D), with fewer clusters than ``most`` if fewer rows differ: (N,) cluster."""
    from sklearn.cluster import KMeans

    count = min(most, len(np.unique(rows, axis=0)))
    model = KMeans(count, n_init=restarts, random_state=int(rng.integers(2**32)))
    labels: Ints = model.fit(rows).labels_.astype(np.int64)
    return labels


def cosines(tokens: Floats) -> Floats:
    """Return the (N, N) cosines of the angles between (N, D) tokens; 0 with a token of zeros."""
    directions = unit(tokens)
    similarity: Floats = directions @ directions.T
    return similarity


def component_of(mask: Bools, seed: int) -> Bools:
    """Keep the part of a mask (S, h, w) that hangs together with a patch in it, by sides and over time.

    Args:
        mask: true at the seed.
        seed: number of the patch, row-major.
    """
    from scipy.ndimage import label

    parts, _ = label(mask)
    connected: Bools = parts == parts.reshape(-1)[seed]
    return connected
