"""Linear layers and pre-norm transformer blocks of any library, laid out anew for inference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovvol_bench.nn.attention import QUERY_SCALE, attend

Activation = Literal["none", "relu", "gelu", "silu"]

_FUNCTIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "none": lambda values: values,
    "relu": torch.relu,
    "gelu": F.gelu,
    "silu": F.silu,
}
# Names of the activations in oneDNN, and its algorithm: GELU exactly.
_FUSED: dict[Activation, tuple[str, str]] = {
    "none": ("none", ""),
    "relu": ("relu", ""),
    "gelu": ("gelu", "none"),
    "silu": ("swish", ""),
}


class PackedLinear(nn.Module):
    """Linear layer at low precision and the activation after it, for inference.

    Args:
        weight: (out, in).
        bias: (out,), or None.
        precision: of the product; sums are float32.
        activation: after the product; ``gelu`` is the exact one.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, precision: torch.dtype, activation: Activation = "none"
    ) -> None:
        super().__init__()
        self._precision, self._activation = precision, activation
        self._bias = None if bias is None else bias.detach().to(precision)
        self._weight = weight.detach().to(precision).contiguous()
        # In oneDNN's own layout no product has to reorder the weights, and the activation is applied while a
        # product's rows are in the cache. These are the operators that torch.compile emits; without oneDNN,
        # and on other devices, plain ones take their place.
        self._packs = weight.device.type == "cpu" and packs(precision)
        if self._packs:
            self._weight = torch.ops.mkldnn._reorder_linear_weight(self._weight, None)

    @classmethod
    def of(cls, layer: nn.Linear, precision: torch.dtype, activation: Activation = "none") -> PackedLinear:
        """Pack a layer."""
        return cls(layer.weight, layer.bias, precision, activation)

    def forward(self, values: Tensor) -> Tensor:
        """Map (..., in) of any float type to (..., out) of the layer's precision."""
        values = values.to(self._precision)
        if self._packs:
            name, algorithm = _FUSED[self._activation]
            found: Tensor = torch.ops.mkldnn._linear_pointwise(
                values, self._weight, self._bias, name, [], algorithm
            )
            return found
        with torch.autocast(values.device.type, enabled=False):
            return _FUNCTIONS[self._activation](F.linear(values, self._weight, self._bias))


def packs(precision: torch.dtype) -> bool:
    """Tell whether oneDNN is there and multiplies this precision natively."""
    operators = torch.ops.mkldnn
    return (
        precision == torch.bfloat16
        and torch.backends.mkldnn.is_available()
        and hasattr(operators, "_linear_pointwise")
        and hasattr(operators, "_reorder_linear_weight")
        and operators._is_mkldnn_bf16_supported()
    )


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
    """Pre-norm transformer block with packed weights; the residual stream and the norms stay float32.

    Args:
        parts: of the block.
        precision: of the products.
    """

    def __init__(self, parts: BlockParts, precision: torch.dtype) -> None:
        super().__init__()
        self._heads = parts.heads
        self.norm1, self.norm2 = parts.norm1, parts.norm2
        dim = parts.qkv.shape[1]
        # The attention's scale goes into the weights of the queries.
        scale = torch.ones(3 * dim, device=parts.qkv.device)
        scale[:dim] = QUERY_SCALE * (dim // parts.heads) ** -0.5
        self.qkv = PackedLinear(parts.qkv * scale[:, None], parts.qkv_bias * scale, precision)
        self.proj = PackedLinear.of(parts.proj, precision)
        # QuickGELU(x) = SiLU(1.702 x) / 1.702: the factors go into the weights on both sides.
        quick = parts.activation == "quick_gelu"
        slope = 1.702 if quick else 1.0
        activation: Activation = "silu" if quick else "gelu"
        self.fc1 = PackedLinear(parts.fc1.weight * slope, parts.fc1.bias * slope, precision, activation)
        self.fc2 = PackedLinear(parts.fc2.weight / slope, parts.fc2.bias, precision)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, N, D) to (B, N, D) float32."""
        batch, length, dim = tokens.shape
        split = self.qkv(self.norm1(tokens)).view(batch, length, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
        mixed = attend(*split.contiguous().unbind(0))
        tokens = tokens + self.proj(mixed.transpose(1, 2).reshape(batch, length, dim))
        return tokens.add_(self.fc2(self.fc1(self.norm2(tokens))))
