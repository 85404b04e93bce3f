"""Random draws that depend on the seed, the clip and the component, and on nothing else."""

from __future__ import annotations

import hashlib

import torch


def clip_generator(seed: int, clip_id: str, component: str) -> torch.Generator:
    """Random generator of one component on one clip.

    Batch size, order of clips, number of processes and resuming leave its draws as they are.

    Args:
        seed: of the run.
        clip_id: ``ClipInfo.id``.
        component: name that the component is registered under.

    Returns:
        A CPU generator at the start of its stream.
    """
    return torch.Generator().manual_seed(seed_from(f"{seed}\0{clip_id}\0{component}"))


def seed_from(key: str) -> int:
    """A seed in [0, 2^63) that follows from a text, the same in every process and version of Python."""
    return int.from_bytes(hashlib.sha256(key.encode(errors="surrogatepass")).digest()[:8], "big") >> 1
