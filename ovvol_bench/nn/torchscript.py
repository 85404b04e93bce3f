"""Tensors of a TorchScript archive, read without running anything in it.

An archive is a zip: ``data.pkl`` pickles the tree of modules, ``data/`` holds the numbers, ``code/`` a
program. `torch.jit.load` compiles that program and calls its ``__setstate__``, so that a file from a stranger
runs; here ``code/`` is never opened, and the pickle can name nothing but plain containers, tensors and
modules, each of which is a class of this file. OpenAI publishes CLIP in this form.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import torch
from torch import Tensor

from ovvol_bench.errors import WeightsError

_TREE = "data.pkl"
_CONSTANTS = "/constants.pkl"
_MOST_NAMES = 100_000
_LONGEST_NAME = 10_000
_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def is_script(archive: ZipFile) -> bool:
    """Tell a TorchScript archive from what `torch.save` writes."""
    return any(name.endswith(_CONSTANTS) for name in archive.namelist())


def read_script(path: Path) -> dict[str, Tensor]:
    """Read parameters and buffers of a TorchScript archive by the names of its modules.

    Args:
        path: of the archive.

    Returns:
        Tensors on the CPU, in the types stored.

    Raises:
        WeightsError: if the archive is damaged, or names anything but modules, tensors and plain values.
    """
    try:
        with ZipFile(path) as archive:
            root = next(name for name in archive.namelist() if name.endswith(_CONSTANTS))
            folder = root.removesuffix(_CONSTANTS.removeprefix("/"))
            content = _stored(archive, f"{folder}{_TREE}")
            # The unpickler's table of back references grows to the highest index that a file names.
            for opcode, argument, _ in pickletools.genops(content):
                if opcode.name == "LONG_BINPUT" and int(argument or 0) > len(content):
                    raise pickle.UnpicklingError("a back reference beyond its end")
            return _named(_ModuleUnpickler(io.BytesIO(content), archive, folder).load())
    except (BadZipFile, OSError, EOFError) as error:
        raise WeightsError(f"{path}: a damaged TorchScript archive ({error}). Fetch it again.") from error
    except WeightsError as error:
        raise WeightsError(f"{path}: refused: {error}") from error
    except Exception as error:  # whatever a made-up pickle leads to
        raise WeightsError(
            f"{path}: refused: no TorchScript archive of plain modules ({type(error).__name__}: {error}). "
            "Give its state_dict() as safetensors."
        ) from error


class _Module:
    """An object of the archive: attributes by name and no behaviour."""

    def __init__(self) -> None:
        self.attributes: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.attributes = dict(state) if isinstance(state, Mapping) else {}


class _ModuleUnpickler(pickle.Unpickler):
    """Unpickles the tree of modules; every name outside of a short list is refused."""

    def __init__(self, content: io.BytesIO, archive: ZipFile, folder: str) -> None:
        super().__init__(content)
        self._archive, self._folder = archive, folder
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Class or function for a name in the pickle.

        Raises:
            WeightsError: for a name that isn't on the list.
        """
        if module == "__torch__" or module.startswith("__torch__."):
            return _Module
        if module == "torch" and name in _DTYPES:
            return name
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _view
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle" and name.startswith("build_"):  # lists of one type
            return list
        raise WeightsError(
            f"it names {module}.{name}, which is neither a module nor a tensor and could run code. "
            "If you trust it, save its state_dict() as safetensors and give that file."
        )

    def persistent_load(self, pid: Any) -> Tensor:
        """Numbers that a tensor is a view of, (N,)."""
        _, kind, key, *_ = pid
        if key not in self._storages:
            content = _stored(self._archive, f"{self._folder}data/{key}")
            dtype = _DTYPES[kind]
            empty = torch.empty(0, dtype=dtype)
            self._storages[key] = torch.frombuffer(bytearray(content), dtype=dtype) if content else empty
        return self._storages[key]


def _view(numbers: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    """A tensor over stored numbers; PyTorch refuses places outside of them."""
    view = numbers.as_strided(size, stride, offset)
    if view.numel() > numbers.numel():
        raise WeightsError(f"a tensor of {tuple(size)} over {numbers.numel()} numbers.")
    return view


def _stored(archive: ZipFile, name: str) -> bytes:
    """A record as it lies in the archive; compressed ones may hold far more than the file has bytes."""
    if archive.getinfo(name).compress_type != ZIP_STORED:
        raise WeightsError(f"{name} is compressed, which PyTorch never does.")
    return archive.read(name)


def _named(root: _Module) -> dict[str, Tensor]:
    """Tensors by path, as in a state dict. The tree may be made to refer to itself: names are limited."""
    tensors: dict[str, Tensor] = {}
    waiting: list[tuple[str, _Module]] = [("", root)]
    seen = 0
    while waiting:
        prefix, module = waiting.pop()
        for name, value in module.attributes.items():
            seen += 1
            if seen > _MOST_NAMES or len(prefix) + len(name) > _LONGEST_NAME:
                raise WeightsError("its modules refer to themselves, or have too many names.")
            if isinstance(value, Tensor):
                tensors[f"{prefix}{name}"] = value
            elif isinstance(value, _Module):
                waiting.append((f"{prefix}{name}.", value))
    return tensors
