"""Contrastive objectives: pictures, patches and captions compared, within a process or over all of them."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


def pool_patches(patches: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """Pool the patches of every picture by their likeness to its embedding (Fan et al., ICCV 2023).

    Args:
        patches: (B, h, w, E).
        image: (B, E) float32, embedding of the whole.

    Returns:
        Attention (B, h, w), a softmax over the picture's patches, and pooled patches (B, E) float32.
    """
    flat = patches.flatten(1, 2).float()
    # The products are not scaled down before the softmax: half precision would show.
    with torch.autocast(image.device.type, enabled=False):
        attention = torch.einsum("be,bne->bn", image, flat).softmax(dim=1)
        pooled = torch.einsum("bn,bne->be", attention, flat)
    return attention.view(patches.shape[:3]), pooled


def similarities(pooled: Tensor, image: Tensor, gather: bool = False) -> tuple[Tensor, Tensor]:
    """Compare every picture's pooled patches with all pictures.

    Args:
        pooled: (B, E) pooled patches.
        image: (B, E) embeddings of the pictures, without gradients, so that gathering costs one exchange.
        gather: with those of all processes; as many in each.

    Returns:
        Cosines (B, N) float32, N = B or processes * B, and the column (B,) int64 of each one's own.
    """
    pooled, image = F.normalize(pooled, dim=-1), F.normalize(image, dim=-1)
    first = dist.get_rank() * len(image) if gather and dist.is_initialized() else 0
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


def truth(true: Tensor, captions: Tensor) -> Tensor:
    """Find the captions that are true of pictures: (P, most) and (C,) numbers to (P, C) bool."""
    return (true[:, :, None] == captions).any(dim=1)


def match(logits: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the contrastive loss where several answers may be true.

    Yang et al., "Unified Contrastive Learning in Image-Text-Label Space", CVPR 2022, equation 2, one way:
    the target is shared evenly by all true answers. With one each it is CLIP's loss.

    Args:
        logits: (B, N) float.
        true: (B, N) bool, at least one in a row.

    Returns:
        Mean loss, and the share of rows whose largest logit is a true one.
    """
    share = true / true.sum(dim=1, keepdim=True)
    loss = -(share * logits.log_softmax(dim=1)).sum(dim=1).mean()
    best = logits.argmax(dim=1, keepdim=True)
    return loss, true.gather(1, best).float().mean()


def gathered(rows: Tensor) -> Tensor:
    """Gather the rows of all processes, in the order of their ranks.

    Gradients are summed over processes and flow back to where the rows came from: the mean over processes
    of each one's loss then has the gradient that one process with all rows would find.

    Args:
        rows: (B, ...), as many in every process.

    Returns:
        (processes * B, ...).
    """
    return _Gathered.apply(rows) if dist.is_initialized() else rows


def set_anywhere(flags: Tensor) -> Tensor:
    """Combine a bool tensor over processes: true where it is true in any."""
    if not dist.is_initialized():
        return flags
    found = flags.byte()
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return found.bool()


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed.chunk(dist.get_world_size())[dist.get_rank()]
