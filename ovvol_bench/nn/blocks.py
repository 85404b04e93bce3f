"""Pre-norm transformer blocks, whichever library they come from, in one form for inference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ovvol_bench.nn.attention import QUERY_SCALE, attend
from ovvol_bench.nn.linear import Activation, PackedLinear

_ACTIVATIONS: dict[str, tuple[float, Activation]] = {"gelu": (1.0, "gelu"), "quick_gelu": (1.702, "silu")}
"""Factor on what enters, and the activation that is then the same but for that factor."""


@dataclass(frozen=True)
class BlockParts:
    """Modules of a pre-norm block: x + proj(attention(norm1(x))), then x + fc2(act(fc1(norm2(x)))).

    Attributes:
        norm1: before the attention.
        qkv: (3 D, D) weight of queries, keys and values, in this order, heads side by side in each.
        qkv_bias: (3 D,).
        proj: after the attention.
        norm2: before the MLP.
        fc1, fc2: of the MLP.
        heads: of the attention.
        activation: of the MLP: the exact ``gelu``, or ``quick_gelu``, x * sigmoid(1.702 x).
    """

    norm1: nn.Module
    qkv: Tensor
    qkv_bias: Tensor
    proj: nn.Linear
    norm2: nn.Module
    fc1: nn.Linear
    fc2: nn.Linear
    heads: int
    activation: Literal["gelu", "quick_gelu"] = "gelu"


class PackedBlock(nn.Module):
    """A pre-norm transformer block with packed weights; the residual stream and the norms stay float32.

    The scale of the attention is part of its query weights. QuickGELU is SiLU(1.702 x) / 1.702, with the
    factors taken into the weights on both sides.

    Args:
        parts: of the block.
        precision: of the products.
    """

    def __init__(self, parts: BlockParts, precision: torch.dtype) -> None:
        super().__init__()
        self._heads = parts.heads
        self.norm1, self.norm2 = parts.norm1, parts.norm2
        dim = parts.qkv.shape[1]
        scale = torch.ones(3 * dim, device=parts.qkv.device)
        scale[:dim] = QUERY_SCALE * (dim // parts.heads) ** -0.5
        self.qkv = PackedLinear(parts.qkv * scale[:, None], parts.qkv_bias * scale, precision)
        self.proj = PackedLinear.of(parts.proj, precision)
        slope, activation = _ACTIVATIONS[parts.activation]
        self.fc1 = PackedLinear(parts.fc1.weight * slope, parts.fc1.bias * slope, precision, activation)
        self.fc2 = PackedLinear(parts.fc2.weight / slope, parts.fc2.bias, precision)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D) float32."""
        tokens = tokens + self._attended(self.norm1(tokens))
        return tokens.add_(self.fc2(self.fc1(self.norm2(tokens))))

    def _attended(self, tokens: Tensor) -> Tensor:
        batch, length, dim = tokens.shape
        split = self.qkv(tokens).view(batch, length, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
        mixed = attend(*split.contiguous().unbind(0))
        return self.proj(mixed.transpose(1, 2).reshape(batch, length, dim))  # type: ignore[no-any-return]
