"""Weights by name: found, read, assigned strictly, written atomically.

Files of any container that `ovvol_bench.nn.weight_files` opens safely, or folders of the Hugging Face hub.
Nothing is skipped in silence: every name in a file is either assigned or named by the caller as one to
ignore.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ovvol_bench.errors import WeightsError, nearest
from ovvol_bench.files import replacing
from ovvol_bench.nn.hub import is_model_folder, weight_files
from ovvol_bench.nn.weight_files import absence, is_safetensors, read_content

State = dict[str, Tensor]

_read_files: ContextVar[list[Path] | None] = ContextVar("read_files", default=None)

# Where training scripts put the state dict; "teacher" is what DINO and DINOv2 publish to be used.
_WRAPPERS = ("model", "module", "state_dict", "model_state_dict", "teacher")
# Put into names by torch.compile, FSDP and activation checkpointing, wherever the wrapped module stands.
_WRAPPED = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_DISTRIBUTED_PREFIX = "module."
_SHOWN = 5


@contextmanager
def noting_files() -> Iterator[list[Path]]:
    """List the files that `read_state` reads meanwhile: whose weights a component came to hold."""
    files: list[Path] = []
    token = _read_files.set(files)
    try:
        yield files
    finally:
        _read_files.reset(token)


def read_state(path: Path) -> State:
    """Read the tensors of a weights file, or of a folder from the Hugging Face hub.

    An outer ``model``, ``module``, ``state_dict``, ``model_state_dict`` or ``teacher`` is unwrapped, and what
    distributed training and torch.compile put into names (``module.``, ``_orig_mod.``) is taken off.

    Args:
        path: a .safetensors file, or a PyTorch file with any other ending; a folder with model.safetensors or
            pytorch_model.bin, whole or in shards.

    Returns:
        Tensors on the CPU by name, in the types stored.

    Raises:
        WeightsError: if the file is missing, truncated, would run code, or holds no tensors.
    """
    if path.is_dir() or path.name.endswith(".index.json"):
        parts = [read_state(file) for file in weight_files(path)]
        state = {name: value for part in parts for name, value in part.items()}
        if len(state) < sum(map(len, parts)):
            raise WeightsError(f"{path}: some tensors are in two of its shards.")
        return state
    if (noted := _read_files.get()) is not None:
        noted.append(path)
    state = _unwrap(read_content(path), path)
    odd = [
        name
        for name, value in state.items()
        if value.layout != torch.strided
        or value.is_quantized
        or value.device.type != "cpu"
        or value.numel() * value.element_size() > value.untyped_storage().nbytes()
    ]
    if odd:
        raise WeightsError(
            f"{path}: expected plain dense tensors; these are sparse, quantized or empty: {_some(odd)}."
        )
    return _plain_names(state, path)


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a .safetensors file; empty for any other file and for folders.

    Raises:
        WeightsError: if the file is missing or truncated.
    """
    if is_model_folder(path) or not is_safetensors(path):
        return {}
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path}: not a complete safetensors file ({error}).") from error


def load_strict(
    module: nn.Module, state: Mapping[str, Tensor], source: Path, ignored: Sequence[str] = ()
) -> None:
    """Assign a state dict; every name and shape must fit.

    Values are converted to the types of the parameters, so float16 files fill float32 models.

    Args:
        module: receives the values.
        state: tensors by the module's own names.
        source: the file they came from, for messages.
        ignored: patterns (as in `fnmatch`) of names that are known and not needed.

    Raises:
        WeightsError: listing missing and unexpected names and wrong shapes; the module is unchanged.
    """
    wanted = module.state_dict()
    given = {name: value for name, value in state.items() if not matches(name, ignored)}
    common = wanted.keys() & given.keys()
    wrong = [
        f"{name}: {tuple(given[name].shape)} in the file, {tuple(wanted[name].shape)} in the model"
        for name in common
        if given[name].shape != wanted[name].shape
    ]
    problems = {
        "missing from the file": wanted.keys() - given.keys(),
        "unexpected in the file": given.keys() - wanted.keys(),
        "of another shape": wrong,
        "of another kind of number": {
            name for name in common if given[name].is_floating_point() != wanted[name].is_floating_point()
        },
        "not finite": {name for name in common if not given[name].isfinite().all()},
    }
    found = [f"{len(names)} {what} ({_some(names)})" for what, names in problems.items() if names]
    if found:
        raise WeightsError(
            f"{source}: weights do not fit {type(module).__name__}: {'; '.join(found)}. "
            f"Check that the file is for this component and that its settings state the same sizes."
        )
    module.load_state_dict(given)


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Tell whether a name fits any of the patterns (as in `fnmatch`)."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def save_state(
    source: nn.Module | Mapping[str, Tensor],
    path: Path,
    metadata: Mapping[str, str] | None = None,
    half: bool = False,
) -> None:
    """Write weights as safetensors, atomically.

    Args:
        source: a module, or tensors by name.
        path: the file to write; folders are made.
        metadata: text by name, kept in the file's header.
        half: store floating-point tensors as float16, in half the space.

    Raises:
        OutputError: if it can't be written.
        WeightsError: if ``half`` would overflow a value.
    """
    state = source.state_dict() if isinstance(source, nn.Module) else source
    packed = {name: _pack(name, value, half) for name, value in state.items()}
    with replacing(path) as temporary:
        temporary.write_bytes(save(packed, dict(metadata or {})))


def sha256_of(path: Path) -> str:
    """Return the hex digest of a file's content.

    Raises:
        WeightsError: if the file is missing.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file.")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_file(weights: str) -> Path | None:
    """Find the file or folder that a setting means, if it means one.

    Args:
        weights: a path, of a file or of a folder as the Hugging Face hub has them, or PACKAGE:NAME for
            ``weights/NAME.safetensors`` in an installed package, as in ``ovvol_plugins.pacl:shapes``: how one
            plugin's weights are given to another.

    Raises:
        WeightsError: if the package has no such weights; lists those it has.
    """
    path = _path(weights)
    if _is_there(path):
        return path
    package, _, name = weights.partition(":")
    if not name or not all(part.isidentifier() for part in package.split(".")):
        return None
    try:
        spec = find_spec(package)
    except ModuleNotFoundError:
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(
            f"{weights!r}: no package {package!r} is installed. Expected a file, or PACKAGE:NAME."
        )
    return resolve_weights(name, Path(next(iter(spec.submodule_search_locations))) / "weights")


def local_weights(weights: str) -> Path:
    """Find the file that a ``weights`` setting means, as `weights_file` does.

    Raises:
        WeightsError: if there is none.
    """
    path = weights_file(weights)
    if path is None:
        raise WeightsError(
            f"{weights!r}: {absence(Path(weights))}, and no PACKAGE:NAME of weights in a package."
        )
    return path


def resolve_weights(weights: str, bundled: Path) -> Path:
    """Find the file that a ``weights`` setting means.

    Args:
        weights: a path, of a file or of a folder as the Hugging Face hub has them, or the name of a file that
            comes with a plugin ("shapes").
        bundled: folder of the plugin's own files.

    Returns:
        Path of an existing file or folder.

    Raises:
        WeightsError: if there is neither; lists the names there are.
    """
    named = bundled / f"{weights}.safetensors"
    is_name = Path(weights).name == weights
    for candidate in (_path(weights), *([named] if is_name else [])):
        if _is_there(candidate):
            return candidate
    names = sorted(file.stem for file in bundled.glob("*.safetensors"))
    raise WeightsError(
        f"{weights!r}: {absence(Path(weights))}, and no weights of that name come with the plugin "
        f"(these do: {', '.join(names) or 'none'}).{nearest(weights, names)}"
    )


def _path(weights: str) -> Path:
    try:
        return Path(weights).expanduser()
    except RuntimeError:  # ~name of no user
        return Path(weights)


def _is_there(path: Path) -> bool:
    try:
        return path.is_file() or is_model_folder(path)
    except OSError:  # a name that no file can have
        return False


def _plain_names(state: State, path: Path) -> State:
    """Take off names what wrappers of a model put into them, in any order and number."""
    names = {name: _WRAPPED.sub("", name) for name in state}
    while all(name.startswith(_DISTRIBUTED_PREFIX) for name in names.values()):
        names = {old: name.removeprefix(_DISTRIBUTED_PREFIX) for old, name in names.items()}
    plain = {names[name]: value for name, value in state.items()}
    if len(plain) < len(state):
        raise WeightsError(f"{path}: holds some tensors twice, with and without _orig_mod. in their names.")
    return plain


def _unwrap(content: Any, path: Path) -> State:
    while isinstance(content, Mapping):
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(
            f"{path}: holds a {type(content).__name__}; expected tensors by name, at the top or "
            f"under one of {', '.join(_WRAPPERS)}."
        )
    others = [name for name, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise WeightsError(f"{path}: expected tensors by name; these are none: {_some(others)}.")
    return dict(content)


def _pack(name: str, value: Tensor, half: bool) -> Tensor:
    value = value.detach().cpu()
    if half and value.is_floating_point():
        packed = value.half()
        if value.isfinite().all() and not packed.isfinite().all():
            raise WeightsError(f"{name}: values beyond the range of float16; save with half=False.")
        value = packed
    return value.contiguous().clone()


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    rest = len(ordered) - _SHOWN
    return ", ".join(ordered[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
