"""Small scenes for groupers."""

import torch

from ovvol_bench import Features
from ovvol_bench.registry import load_registry

STEPS, HEIGHT, WIDTH, DIM = 3, 5, 6, 8


def draws(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def build(name, **options):
    return load_registry().build("grouper", name, options)


def scene(labels, noise=0.05, seed=0, vectors=None):
    """Features and keys of one clip: a direction a label, and some noise.

    Args:
        labels: (S, h, w) of whole numbers.
        noise: standard deviation.
        seed: of the noise.
        vectors: (labels, D); by default axes.
    """
    which = torch.as_tensor(labels)
    rows = torch.eye(DIM) if vectors is None else torch.as_tensor(vectors).float()
    generator = torch.Generator().manual_seed(seed)
    grid = rows[which] + noise * torch.randn(*which.shape, rows.shape[1], generator=generator)
    return Features(grid[None], {"keys": grid[None]})


def slots_of(grouper, features, *seeds):
    """(S, h, w) slot of every patch of the first clip."""
    return grouper.group(features, draws(*(seeds or (0,)))).masks[0].argmax(0)


def same_partition(one, other):
    """Whether two labelings group alike, whatever the labels are called."""
    pairs = set(zip(one.flatten().tolist(), other.flatten().tolist(), strict=True))
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
