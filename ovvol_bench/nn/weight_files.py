"""Containers of weights: safetensors, PyTorch pickles, TorchScript archives, told apart by their content.

Nothing in a file runs. Of a pickle, tensors and plain values are read; whatever else it names is refused,
except what training scripts commonly keep beside the weights, which is taken in as nothing.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import struct
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile, is_zipfile

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ovvol_bench.errors import WeightsError
from ovvol_bench.nn.torchscript import is_script, read_script

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
    """Everything that a file holds.

    Args:
        path: a .safetensors file, or a PyTorch file with any other ending.

    Returns:
        Tensors by name of safetensors and TorchScript; of a pickle whatever was saved.

    Raises:
        WeightsError: if the file is missing, truncated, none of weights, or would run code.
    """
    return _read_safetensors(path) if is_safetensors(path) else _read_pickle(path)


def absence(path: Path) -> str:
    """Give the reason why a path is no weights file."""
    try:
        if path.is_dir():
            return "a folder without model.safetensors or pytorch_model.bin"
        return "not a regular file" if path.exists() else "no such file"
    except OSError as error:  # a name that no file can have
        return f"no such file ({error.strerror})"


def is_safetensors(path: Path) -> bool:
    """Look at the first bytes of a file; whether it is to be read as safetensors.

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


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{path}: not a complete safetensors file ({error}).") from error


class _Ignored:
    """In place of what training scripts keep beside the weights: taken in, and nothing done with it."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


class _IgnoredDict:
    """In place of a dict of another class: made as one of those into which `torch.load` puts entries."""

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
