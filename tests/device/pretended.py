"""A device that isn't there: its tensors say ``pretended:0``, and their values lie in CPU memory.

It shows by line what a GPU would refuse or wait for: operands on different devices, a generator of the CPU,
``numpy()`` of a device's tensor, and every answer that the host waits for. Autocast casts as on CUDA. It
can't see what kernels do differently (rounding, order of sums, what they lack), races between streams,
memory, or speed; and code that asks for ``cuda`` by name takes its other branch.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

NAME = "pretended"
ROOT = Path(__file__).parents[2]
WAITS: Counter[str] = Counter()

aten = torch.ops.aten

_WAITS = {
    aten._local_scalar_dense, aten._unique, aten._unique2, aten.bincount, aten.equal, aten.is_nonzero,
    aten.masked_select, aten.nonzero, aten.repeat_interleave, aten.unique_consecutive, aten.unique_dim,
}  # fmt: skip
"""Operators whose answer, or its shape, depends on values: the host waits for the device."""

_TAKE_HOST_TENSORS = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten.copy_}
"""Operators that copy indices or values of the CPU to the device themselves."""

# Casts of CUDA's autocast, https://pytorch.org/docs/stable/amp.html: the operators that the networks use.
_IN_LOW_PRECISION = (
    "matmul", "mm", "bmm", "addmm", "baddbmm", "linear", "conv1d", "conv2d", "conv3d",
    "scaled_dot_product_attention",
)  # fmt: skip
_IN_FLOAT32 = (
    "layer_norm", "group_norm", "norm.ScalarOpt_dim", "softmax.int", "log_softmax.int", "cumsum", "prod",
    "sum", "exp", "log", "pow.Tensor_Scalar", "cosine_similarity", "mse_loss", "nll_loss", "cdist", "rsqrt",
)  # fmt: skip


class _Module(backend_registration._DummyBackendModule):
    """Stands for ``torch.pretended``."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


backend_registration._setup_privateuseone_for_python_backend(NAME, _Module())
DEVICE = torch.device(NAME, 0)


class OnDevice(torch.Tensor):
    """A tensor that says ``pretended:0``.

    Args:
        values: of the CPU.
    """

    values: torch.Tensor

    @staticmethod
    def __new__(cls, values: torch.Tensor) -> OnDevice:
        tensor: OnDevice = torch.Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            layout=values.layout,
            device=DEVICE,
        )
        tensor.values = values
        return tensor

    def tolist(self) -> Any:
        _note_wait()
        return self.values.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError("can't convert a device's tensor to numpy. Use Tensor.cpu() to copy it first.")

    def __repr__(self) -> str:
        return f"OnDevice({self.values!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Mode(TorchDispatchMode):
    """Sees what is made on the device, too: there is no tensor of it among the arguments."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


@contextmanager
def pretended_device() -> Iterator[Counter[str]]:
    """Have the device; the counter tells which lines of the project waited for it, and how often."""

    def no_grad(mode: bool = True) -> Any:
        return torch.no_grad() if mode else nullcontext()  # inference mode makes no views of wrapped tensors

    WAITS.clear()
    # torch.tensor(..., device=) then makes a tensor of the CPU and moves it where the mode sees it.
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with torch.inference_mode(False), patch.object(torch, "inference_mode", no_grad), _Mode():
            yield WAITS
    finally:
        torch._C._set_only_lift_cpu_tensors(False)


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    packet, asked = func.overloadpacket, kwargs.get("device")
    if packet is aten._has_compatible_shallow_copy_type:
        return False  # a module that moves gets new parameters
    tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
    has_device = any(isinstance(each, OnDevice) for each in tensors)
    answers_there = has_device if asked is None else torch.device(asked).type == NAME
    if has_device:
        masks = packet is aten.index and any(i is not None and i.dtype == torch.bool for i in args[1])
        leaves = (asked is not None and not answers_there) or (
            packet is aten.copy_ and not isinstance(args[0], OnDevice)
        )
        if packet in _WAITS or masks or leaves:
            _note_wait()
        # A number in a tensor of the CPU is taken as an argument of the kernel.
        host = [each for each in tensors if not isinstance(each, OnDevice) and each.ndim]
        if host and packet not in _TAKE_HOST_TENSORS:
            raise RuntimeError(f"{func}: expected all tensors on the same device, found {DEVICE} and cpu")
    generator = kwargs.get("generator")
    if answers_there and generator is not None and generator.device.type == "cpu":
        raise RuntimeError(f"{func}: expected a generator of {DEVICE}, found one of the cpu")
    inner_args, inner = tree_map_only(OnDevice, lambda each: each.values, (args, kwargs))
    if asked is not None:
        inner["device"] = torch.device("cpu")
    out = _OWN_KERNELS.get(packet, func)(
        *inner_args, **{**inner, **({"pin_memory": False} if "pin_memory" in inner else {})}
    )
    if not answers_there or packet is aten._local_scalar_dense:
        return out
    out = tree_map(lambda each: OnDevice(each) if isinstance(each, torch.Tensor) else each, out)
    return return_and_correct_aliasing(func, args, kwargs, out) if asked is None else out


def _note_wait() -> None:
    for frame in reversed(traceback.extract_stack()):
        if (
            frame.filename.startswith(str(ROOT))
            and "/tests/" not in frame.filename
            and ".venv" not in frame.filename
        ):
            WAITS[f"{Path(frame.filename).relative_to(ROOT)}, {frame.name}"] += 1
            return
    WAITS["elsewhere"] += 1


def _gru_cell(inputs: Any, hiddens: Any, state: Any, input_bias: Any = None, hidden_bias: Any = None) -> Any:
    """The kernel of a GRU cell that devices have and the CPU has not."""
    inputs = inputs if input_bias is None else inputs + input_bias
    hiddens = hiddens if hidden_bias is None else hiddens + hidden_bias
    (reset_in, update_in, new_in), (reset_by, update_by, new_by) = inputs.chunk(3, 1), hiddens.chunk(3, 1)
    reset, update = (reset_in + reset_by).sigmoid(), (update_in + update_by).sigmoid()
    new = (new_in + reset * new_by).tanh()
    return (state - new) * update + new, torch.cat([reset, update, new, state, new_by], 1)


def _gru_cell_backward(grad: Any, workspace: Any, has_bias: bool) -> Any:
    reset, update, new, state, new_by = workspace.chunk(5, 1)
    to_update = grad * (state - new) * update * (1 - update)
    to_new = grad * (1 - update) * (1 - new**2)
    to_reset = to_new * new_by * reset * (1 - reset)
    inputs = torch.cat([to_reset, to_update, to_new], 1)
    hiddens = torch.cat([to_reset, to_update, to_new * reset], 1)
    biases = (inputs.sum(0), hiddens.sum(0)) if has_bias else (None, None)
    return inputs, hiddens, grad * update, *biases


_OWN_KERNELS = {
    aten._thnn_fused_gru_cell: _gru_cell,
    aten._thnn_fused_gru_cell_backward: _gru_cell_backward,
}


def _casting(name: str, low: bool) -> Any:
    packet, _, overload = name.partition(".")
    func = getattr(getattr(aten, packet), overload or "default")

    def cast(value: Any) -> Any:
        if (
            not isinstance(value, torch.Tensor)
            or not value.is_floating_point()
            or value.dtype == torch.float64
        ):
            return value
        return value.to(torch.get_autocast_dtype(NAME) if low else torch.float32)

    def call(*args: Any, **kwargs: Any) -> Any:
        keys = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)
        with torch._C._ExcludeDispatchKeyGuard(keys):
            args, kwargs = tree_map(cast, (args, kwargs))
            return func(*args, **kwargs)

    return call


_others = torch.library.Library("_", "IMPL", "AutocastPrivateUse1")
_others.fallback(torch.library.fallthrough_kernel)
_autocast = torch.library.Library("aten", "IMPL", "AutocastPrivateUse1")
for _names, _low in ((_IN_LOW_PRECISION, True), (_IN_FLOAT32, False)):
    for _name in _names:
        _autocast.impl(_name, _casting(_name, _low))
