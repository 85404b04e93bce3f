"""k-means over the features of a clip.

Lloyd, "Least squares quantization in PCM", 1982. The published program of Fan et al., ICCV 2023, has it as
the plain alternative to slot attention: features of all frames together, with length 1, and a cluster
that loses all its patches keeps its centre.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ovvol_bench import Features, Grouper, SlotMasks
from ovvol_bench.registry.annotations import Rounds, Slots


class KMeans(Grouper):
    """Cluster all patches of a clip with k-means, over space and time at once.

    Args:
        num_slots: clusters K of a clip; one with fewer patches has fewer.
        normalize: give all features length 1, so that directions are compared.
        restarts: runs from other first centres, patches drawn without replacement; the run with the least
            total distance counts.
        iterations: rounds at most.
    """

    def __init__(
        self,
        *,
        num_slots: Slots = 15,
        normalize: bool = True,
        restarts: Rounds = 3,
        iterations: Rounds = 20,
    ) -> None:
        super().__init__()
        self.num_slots, self.normalize = num_slots, normalize
        self.restarts, self.iterations = restarts, iterations
        self.max_objects = num_slots

    def group(self, features: Features, draws: Sequence[Generator]) -> SlotMasks:
        tokens = features.grid.flatten(1, 3).float()
        if self.normalize:
            tokens = F.normalize(tokens, dim=-1)
        best = []
        for clip, draw in zip(tokens, draws, strict=True):
            count = min(self.num_slots, len(clip))
            first = [torch.randperm(len(clip), generator=draw)[:count] for _ in range(self.restarts)]
            runs = [self._clustered(clip, clip[pick.to(clip.device)]) for pick in first]
            best.append(min(runs, key=lambda run: float(run[0]))[1])
        clusters = torch.stack(best)
        masks = F.one_hot(clusters, self.num_slots).transpose(1, 2).float()
        return SlotMasks(masks.unflatten(2, features.grid.shape[1:4]))

    def _clustered(self, tokens: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
        """Run Lloyd's iterations on tokens (N, D): total squared distance, and (N,) int64 clusters."""
        clusters = tokens.new_full((len(tokens),), -1, dtype=torch.int64)
        for _ in range(self.iterations):
            nearest = torch.cdist(tokens, centres).argmin(dim=1)
            if torch.equal(nearest, clusters):
                break
            clusters = nearest
            members = F.one_hot(clusters, len(centres)).T.to(tokens)
            sizes = members.sum(dim=1, keepdim=True)
            centres = torch.where(sizes > 0, members @ tokens / sizes.clamp(min=1), centres)
        return (tokens - centres[clusters]).square().sum(), clusters
