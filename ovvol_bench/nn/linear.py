"""Linear layers whose weights are cast and laid out once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Literal["none", "relu", "gelu", "silu"]

_FUNCTIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "none": lambda values: values,
    "relu": torch.relu,
    "gelu": F.gelu,
    "silu": F.silu,
}
_FUSED: dict[Activation, tuple[str, str]] = {
    "none": ("none", ""),
    "relu": ("relu", ""),
    "gelu": ("gelu", "none"),
    "silu": ("swish", ""),
}
"""What oneDNN calls the activations, and how it is to compute them: GELU exactly."""


class PackedLinear(nn.Module):
    """A linear layer at low precision and the activation after it, for inference.

    On a CPU the weights are kept in oneDNN's own layout, so that no product has to reorder them, and the
    activation is applied while a product's rows are in the cache. These are the operators that
    ``torch.compile`` emits; without oneDNN, and on other devices, plain ones take their place.

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
        self._packs = weight.device.type == "cpu" and packs(precision)
        if self._packs:
            self._weight = torch.ops.mkldnn._reorder_linear_weight(self._weight, None)

    @classmethod
    def of(cls, layer: nn.Linear, precision: torch.dtype, activation: Activation = "none") -> PackedLinear:
        """The same layer, packed."""
        return cls(layer.weight, layer.bias, precision, activation)

    def forward(self, values: Tensor) -> Tensor:
        """(..., in) of any float type to (..., out) of the layer's precision."""
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
