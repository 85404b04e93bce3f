"""Containers of weights: safetensors, PyTorch pickles, TorchScript archives, told apart by their content.

Nothing in a file runs. Of a pickle, tensors and plain values are read; whatever else it names is refused,
except what training scripts commonly keep beside the weights, which is taken in as nothing.
`ovvol_bench.weights` stands on this: it names tensors and assigns them.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import struct
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, is_zipfile

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ovvol_bench.errors import WeightsError

_FOREIGN = (
    (
        b"version https://git-lfs",
        "a Git LFS pointer, not the weights; run `git lfs pull` where it was cloned",
    ),
    (b"<!doctype html", "a web page, not weights: the download gave a page; fetch the file itself"),
    (b"<html", "a web page, not weights: the download gave a page; fetch the file itself"),
    (b"\x1f\x8b", "compressed with gzip; unpack it first"),
    (b"\x89HDF", "an HDF5 file (Keras), no PyTorch weights"),
    (b"GGUF", "a GGUF file, no PyTorch weights"),
)


def read_content(path: Path) -> Any:
    """Read all that a file holds.

    Args:
        path: a .safetensors file, or a PyTorch file with any other ending.

    Returns:
        Tensors by name of safetensors and TorchScript; of a pickle whatever was saved.

    Raises:
        WeightsError: if the file is missing, truncated, none of weights, or would run code.
    """
    if not is_safetensors(path):
        return _read_pickle(path)
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{path}: not a complete safetensors file ({error}).") from error


def absence(path: Path) -> str:
    """Give the reason why a path is no weights file."""
    try:
        if path.is_dir():
            return "a folder without model.safetensors or pytorch_model.bin"
        return "not a regular file" if path.exists() else "no such file"
    except OSError as error:  # a name that no file can have
        return f"no such file ({error.strerror})"


def is_safetensors(path: Path) -> bool:
    """Tell from its first bytes whether a file is to be read as safetensors.

    Raises:
        WeightsError: for what is no weights file at all, and for a name that promises another format.
    """
    if not path.is_file():
        reason = absence(path)
        raise WeightsError(f"{path}: {'no such weights file' if reason == 'no such file' else reason}.")
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise WeightsError(f"{path}: can't be read ({error.strerror}).") from error
    if not start:
        raise WeightsError(f"{path}: is empty. Fetch it again.")
    for mark, what in _FOREIGN:
        if start.lstrip().lower().startswith(mark.lower()):
            raise WeightsError(f"{path}: {what}.")
    if path.suffix == ".safetensors":
        if start.startswith((b"PK", b"\x80")):
            raise WeightsError(
                f"{path}: is a PyTorch file by its content, not safetensors. Name it .pth if you know where "
                "it is from."
            )
        return True
    # The length of the header, then the header itself: safetensors under another name.
    return len(start) > 8 and start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] < path.stat().st_size


class _Ignored:
    """Stand-in for what training scripts keep beside the weights: taken in, and nothing done with it."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


class _IgnoredDict:
    """Stand-in for a dict of another class: made as one of those into which `torch.load` puts entries."""

    def __new__(cls, *_: Any) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        return OrderedDict()


# Command lines, numpy's numbers, paths and settings are kept in many published checkpoints. Nothing of these
# packages is imported or called, as an object that is made by numpy from a made-up state could do harm.
_BESIDE_WEIGHTS = [
    *("argparse.Namespace", "types.SimpleNamespace"),
    *("pathlib.Path", "pathlib.PosixPath", "pathlib.PurePosixPath", "pathlib.WindowsPath"),
    *("numpy.dtype", "numpy.ndarray", "_codecs.encode"),
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *(f"omegaconf.{name}" for name in ("dictconfig.DictConfig", "listconfig.ListConfig", "nodes.AnyNode")),
    *(f"omegaconf.base.{name}" for name in ("ContainerMetadata", "Metadata")),
    *("typing.Any", "datetime.datetime"),
    *(f"builtins.{name}" for name in ("list", "dict", "set", "int", "float", "bool", "str")),
]
_DICTS_BESIDE_WEIGHTS = ["collections.defaultdict", "easydict.EasyDict", "yacs.config.CfgNode"]


def _read_pickle(path: Path) -> Any:
    try:
        if is_zipfile(path):
            with ZipFile(path) as archive:
                if is_script(archive):
                    return read_script(path)
                # torch.save compresses nothing; a compressed record may hold any number of bytes.
                if sum(record.file_size for record in archive.infolist()) > path.stat().st_size:
                    raise WeightsError(
                        f"{path}: refused: a zip whose content is larger than the file; PyTorch writes none."
                    )
        with (
            torch.serialization.safe_globals(
                [
                    *((_Ignored, name) for name in _BESIDE_WEIGHTS),
                    *((_IgnoredDict, name) for name in _DICTS_BESIDE_WEIGHTS),
                ]
            ),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # of other pickle protocols: the error says what matters
            return torch.load(path, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except Exception as error:  # whatever a made-up pickle leads to: it is data, and never ran
        known = isinstance(error, BadZipFile | EOFError | OSError | pickle.UnpicklingError)
        reason = str(error) or ("" if known else type(error).__name__)
        raise WeightsError(f"{path}: {_refusal(path, reason)}") from error


def _refusal(path: Path, reason: str) -> str:
    """Explain why a file can't be read and what to do, from the words of `torch.load`."""
    if foreign := re.search(r"GLOBAL (\S+)", reason):
        if _ends_within_pickle(path):  # and with it perhaps a name, which is then none of those allowed
            return "is cut off or damaged: it ends in the middle of what it holds. Fetch it again."
        return (
            f"refused: it holds more than tensors and plain values ({foreign[1]}) and could run code. "
            f"If you trust it, save its state dict as safetensors and give that file."
        )
    detail = reason.partition("\n")[0].partition(". ")[0].rstrip(".")
    return f"truncated, or no PyTorch file of plain tensors ({detail or 'it is empty'}). Fetch it again."


def _ends_within_pickle(path: Path) -> bool:
    """Tell whether a file of pickles in a row ends before the first one with a name is complete.

    Files of PyTorch before 1.6 are four pickles, of which the last names the tensors, and then numbers.
    Operations are read, and none is carried out.
    """
    with path.open("rb") as file:
        named = False
        while not named and file.peek(1):
            try:
                named = any("GLOBAL" in opcode.name for opcode, _, _ in list(pickletools.genops(file)))
            except ValueError:
                return not file.peek(1)
            except MemoryError:  # a made-up length
                return False
    return False


# A TorchScript archive is a zip: data.pkl pickles the tree of modules, data/ holds the numbers, code/ a
# program. torch.jit.load compiles that program and calls its __setstate__, so that a file from a stranger
# runs; here code/ is never opened, and the pickle can name nothing but plain containers, tensors and modules,
# each of which is a class of this file. OpenAI publishes CLIP in this form.
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
    """Object of the archive: attributes by name and no behaviour."""

    def __init__(self) -> None:
        self.attributes: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.attributes = dict(state) if isinstance(state, Mapping) else {}


class _ModuleUnpickler(pickle.Unpickler):
    """Unpickler of the tree of modules; every name outside of a short list is refused."""

    def __init__(self, content: io.BytesIO, archive: ZipFile, folder: str) -> None:
        super().__init__(content)
        self._archive, self._folder = archive, folder
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return the class or function of a name on the list, refuse all others."""
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
        """Return the numbers (N,) that a tensor is a view of."""
        _, kind, key, *_ = pid
        if key not in self._storages:
            content = _stored(self._archive, f"{self._folder}data/{key}")
            dtype = _DTYPES[kind]
            empty = torch.empty(0, dtype=dtype)
            self._storages[key] = torch.frombuffer(bytearray(content), dtype=dtype) if content else empty
        return self._storages[key]


def _view(numbers: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    """Return a tensor over stored numbers."""
    view = numbers.as_strided(size, stride, offset)  # PyTorch refuses places outside of them
    if view.numel() > numbers.numel():
        raise WeightsError(f"a tensor of {tuple(size)} over {numbers.numel()} numbers.")
    return view


def _stored(archive: ZipFile, name: str) -> bytes:
    """Read a record as it lies in the archive."""
    # A compressed one may hold far more than the file has bytes.
    if archive.getinfo(name).compress_type != ZIP_STORED:
        raise WeightsError(f"{name} is compressed, which PyTorch never does.")
    return archive.read(name)


def _named(root: _Module) -> dict[str, Tensor]:
    """Return tensors by path, as in a state dict."""
    tensors: dict[str, Tensor] = {}
    waiting: list[tuple[str, _Module]] = [("", root)]
    seen = 0
    while waiting:
        prefix, module = waiting.pop()
        for name, value in module.attributes.items():
            seen += 1  # the tree may be made to refer to itself
            if seen > _MOST_NAMES or len(prefix) + len(name) > _LONGEST_NAME:
                raise WeightsError("its modules refer to themselves, or have too many names.")
            if isinstance(value, Tensor):
                tensors[f"{prefix}{name}"] = value
            elif isinstance(value, _Module):
                waiting.append((f"{prefix}{name}.", value))
    return tensors
