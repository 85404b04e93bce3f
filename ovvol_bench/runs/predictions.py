"""Prediction files: shards of safetensors while a run works, parquet to share.

A shard holds the columns of ``ovvol_bench.predictions.Predictions`` for some clips and is named by
its content, so the same clips give the same file in any order. It appears at once and in full: a run
that is killed leaves whole shards only. Truth is never stored; it comes from the dataset.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ovvol_bench.arrays import offsets_of
from ovvol_bench.errors import DataError
from ovvol_bench.files import make_folder, replacing, require_file
from ovvol_bench.predictions import FLAT_COLUMNS, ClipPrediction, Predictions, concatenate, pack

__all__ = [
    "ClipPrediction",
    "PredictionWriter",
    "Predictions",
    "broken_shards",
    "is_own",
    "read_predictions",
    "to_parquet",
]

SCHEMA = 1
SUFFIX = ".safetensors"
HEADER = "ovvol_bench_predictions"
STRINGS = ("clip_ids", "videos")
SOFT = ("soft_counts", "soft")
"""Columns that are there only where soft masks were kept."""
_NAME = re.compile(rf"[0-9a-f]{{16}}{re.escape(SUFFIX)}")

log = logging.getLogger(__name__)


class PredictionWriter:
    """Adds shards to a folder, and knows which clips it has.

    Attributes:
        folder: made if it is missing.
        set_aside: shards that were truncated or foreign, for example after a full disk, as they are
            named now (``.broken`` added). Their clips count as not done.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        make_folder(folder)
        self.set_aside = tuple(_set_aside(path) for path in broken_shards(folder))
        self._done = {clip for path in _shards(folder) for clip in _header(path)["clip_ids"]}

    def write(self, clips: Sequence[ClipPrediction]) -> Path:
        """Store clips as one shard; context frames and truth are left out.

        Returns:
            The shard.

        Raises:
            ContractError: if the arrays of a localization don't fit together.
            DataError: if the clips contradict each other.
        """
        predictions = pack(clips).in_order()
        content = _serialise(predictions)
        path = self.folder / f"{hashlib.sha256(content).hexdigest()[:16]}{SUFFIX}"
        with replacing(path) as temporary:
            temporary.write_bytes(content)
        self._done.update(predictions.clip_ids)
        return path

    def done(self) -> frozenset[str]:
        """Ids of the clips that are stored."""
        return frozenset(self._done)

    def without_soft_masks(self) -> int:
        """Count clips in shards without soft masks."""
        hard = 0
        for path in _shards(self.folder):
            with _opened(path) as (header, file):
                hard += 0 if "soft" in file.keys() else len(header["clip_ids"])  # noqa: SIM118 - no mapping
        return hard


def read_predictions(path: Path, masks: bool = True) -> Predictions:
    """Read all clips of a folder of shards, of one shard, or of a parquet file.

    Args:
        path: of the folder or file.
        masks: whether to read slots and their maps; metrics of boxes don't look at them.

    Returns:
        Sorted by video, first frame and clip id, however the clips were spread over shards. A clip
        that is there twice with equal content is kept once.

    Raises:
        DataError: if there is nothing, a file is truncated or of another kind, or two shards
            contradict each other.
    """
    if path.suffix == ".parquet":
        return _checked(read_parquet(path), masks, path).in_order()
    files = _shards(path) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path}: no predictions; expected a folder with *{SUFFIX} files")
    return concatenate([read_shard(file, masks) for file in files]).in_order()


def is_own(path: Path) -> bool:
    """Tell whether a file or folder is named as those of this format are."""
    return bool(_shards(path)) if path.is_dir() else path.suffix in (SUFFIX, ".parquet")


def broken_shards(folder: Path) -> list[Path]:
    """Shards of a folder that are truncated or hold something else, by name."""
    return [path for path in _shards(folder) if not _is_valid(path)]


def read_shard(path: Path, masks: bool = True) -> Predictions:
    """Read one shard.

    Args:
        path: of the shard.
        masks: whether to read slots and their maps.

    Raises:
        DataError: if it is missing, truncated, or not a predictions file of this schema.
    """
    with _opened(path) as (header, file):
        found = set(file.keys())
        wanted = {field.name for field in fields(Predictions)} - set(STRINGS) - set(SOFT)
        if found - set(SOFT) != wanted:
            raise DataError(f"{path}: columns {sorted((found - set(SOFT)) ^ wanted)} are missing or unknown")
        left_out = set() if masks else {"slot_map", "segment_of_slot", *SOFT}
        arrays = {name: _widened(name, file.get_tensor(name)) for name in found - left_out}
    columns: dict[str, Any] = {name: tuple(header[name]) for name in STRINGS}
    columns |= {name: np.zeros(0, np.int16) for name in left_out}
    columns |= without_soft(len(columns["clip_ids"])) | arrays
    return _checked(columns, masks, path)


def _serialise(predictions: Predictions) -> bytes:
    arrays = {
        field.name: _narrowed(getattr(predictions, field.name))
        for field in fields(predictions)
        if field.name not in (STRINGS if len(predictions.soft) else STRINGS + SOFT)
    }
    # One entry only: safetensors writes several in no fixed order, and the content names the file.
    header = {"schema": SCHEMA, **{name: getattr(predictions, name) for name in STRINGS}}
    return save(arrays, {HEADER: json.dumps(header)})


def _narrowed(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Integers in the smallest of uint8, int16, int32 that holds them."""
    if not np.issubdtype(array.dtype, np.integer):
        return np.ascontiguousarray(array)
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    for kind in (np.uint8, np.int16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return np.ascontiguousarray(array, kind)
    return np.ascontiguousarray(array)


def _widened(name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if not np.issubdtype(array.dtype, np.integer) or name == "soft":
        return array
    return array.astype(np.int16 if name in ("slot_map", "segment_of_slot") else np.int64)


def _checked(columns: dict[str, Any], masks: bool, path: Path) -> Predictions:
    """Predictions of columns that may come from any file."""
    try:
        predictions = Predictions(**columns)
        predictions = predictions if masks else predictions.without_masks()
        _check_lengths(predictions, path)
    except (ValueError, TypeError, IndexError, AttributeError) as error:
        raise DataError(f"{path}: its columns don't fit together ({error})") from error
    return predictions


def _check_lengths(predictions: Predictions, path: Path) -> None:
    lengths = {len(predictions.clip_ids), len(predictions.videos), len(predictions.frame_counts)}
    units = [(name, int(predictions.counts(unit).sum())) for name, unit in FLAT_COLUMNS.items()]
    wrong = [name for name, rows in units if len(getattr(predictions, name)) != rows]
    if wrong or len(lengths) > 1:
        raise DataError(
            f"{path}: columns {wrong or list(STRINGS)} don't have the number of rows that they should"
        )


@contextmanager
def _opened(path: Path) -> Iterator[tuple[dict[str, Any], Any]]:
    """Open a shard and read its header; its content must be what its name says."""
    try:
        _verify(require_file(path))
        file = safe_open(path, framework="np")
        header = json.loads((file.metadata() or {}).get(HEADER, "{}"))
        schema = header.get("schema", "another kind of file")
    except (SafetensorError, OSError, ValueError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path}: damaged or no predictions file ({error}). Start the run again: the clips of a damaged "
            "file are computed anew"
        ) from error
    if schema != SCHEMA:
        raise DataError(f"{path}: expected predictions of schema {SCHEMA}, found {schema}")
    for name in STRINGS:
        texts = header.get(name)
        if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
            raise DataError(f"{path}: field '{name}' of its header: expected a list of names")
    with file:
        yield header, file


def _verify(path: Path) -> None:
    """Hold the content of a shard against its name; a file of another name has none to be held against."""
    if _NAME.fullmatch(path.name):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if not digest.startswith(path.stem):
            raise ValueError("its content is not the one that it was named after")


def _header(path: Path) -> dict[str, Any]:
    with _opened(path) as (header, _):
        return header


def _is_valid(path: Path) -> bool:
    try:
        _header(path)
    except DataError:
        return False
    return True


def _shards(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith("."))


def _set_aside(path: Path) -> Path:
    log.warning("%s is damaged or no predictions file; set aside, its clips are computed anew", path)
    return path.replace(path.with_name(f"{path.name}.broken"))


_TEXTS = {"clip": "clip_ids", "video": "videos"}
_COUNTS = {"frames": "frame_counts", "segments": "segment_counts", "slots": "slot_counts"}
_SIZES = {
    "grids": ("grid_rows", "grid_columns"),
    "frame_sizes": ("frame_height", "frame_width"),
    "input_sizes": ("input_height", "input_width"),
}
"""Columns of the file with one value a clip, and the columns of ``Predictions`` that they come from."""


def to_parquet(predictions: Predictions, path: Path) -> None:
    """Write predictions as one parquet file, atomically."""
    import pyarrow as pa
    from pyarrow import parquet

    columns: dict[str, Any] = {name: list(getattr(predictions, own)) for name, own in _TEXTS.items()}
    columns |= {name: getattr(predictions, own) for name, own in _COUNTS.items()}
    for own, names in _SIZES.items():
        columns |= dict(zip(names, getattr(predictions, own).T, strict=True))
    if len(predictions.soft):
        columns["soft_counts"] = predictions.soft_counts
    for own, unit in FLAT_COLUMNS.items():
        if own == "soft" and not len(predictions.soft):
            continue
        values = getattr(predictions, own)
        flat = pa.array(values.ravel())
        if values.ndim == 2:
            flat = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
        columns[own] = pa.LargeListArray.from_arrays(offsets_of(predictions.counts(unit)), flat)
    table = pa.table(columns)
    with replacing(path) as temporary:
        parquet.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def read_parquet(path: Path) -> dict[str, Any]:
    """Read the columns of a file that ``to_parquet`` wrote, by the names that ``Predictions`` has for them.

    Raises:
        DataError: if it is missing, truncated, or has other columns.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(require_file(path), page_checksum_verification=True)
        columns: dict[str, Any] = {own: tuple(table[name].to_pylist()) for name, own in _TEXTS.items()}
        columns |= {own: table[name].to_numpy() for name, own in _COUNTS.items()}
        for own, names in _SIZES.items():
            columns[own] = np.stack([table[name].to_numpy() for name in names], axis=1)
        columns |= without_soft(len(table))
        flat = [own for own in FLAT_COLUMNS if own != "soft" or own in table.column_names]
        columns |= {own: _flat(table[own].combine_chunks()) for own in flat}
        if "soft" in flat:
            columns["soft_counts"] = table["soft_counts"].to_numpy()
    except (OSError, KeyError, ValueError, AttributeError, pa.ArrowException) as error:
        raise DataError(f"{path}: damaged or not a parquet file of predictions ({error})") from error
    return columns


def without_soft(clips: int) -> dict[str, Any]:
    """Return the columns of clips whose soft masks weren't kept."""
    return {"soft_counts": np.zeros(clips, np.int64), "soft": np.zeros(0, np.uint8)}


def _flat(column: Any) -> Any:
    import pyarrow as pa

    values = column.flatten()
    if not pa.types.is_fixed_size_list(values.type):
        return values.to_numpy(zero_copy_only=False)
    return values.flatten().to_numpy(zero_copy_only=False).reshape(-1, values.type.list_size)
