"""Predictions as parquet with zstd: small, and read by pandas, polars, DuckDB and R.

One row a clip. Lists are laid out as in ``Predictions``: ``boxes`` by frame, then segment;
``slot_map`` by frame, then row, then column.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ovvol_bench.arrays import offsets_of
from ovvol_bench.errors import DataError
from ovvol_bench.files import replacing, require_file
from ovvol_bench.predictions import FLAT_COLUMNS, Predictions

STRINGS = {"clip": "clip_ids", "video": "videos"}
COUNTS = {"frames": "frame_counts", "segments": "segment_counts", "slots": "slot_counts"}
SIZES = {
    "grids": ("grid_rows", "grid_columns"),
    "frame_sizes": ("frame_height", "frame_width"),
    "input_sizes": ("input_height", "input_width"),
}
"""Columns of the file with one value a clip, and the columns of ``Predictions`` that they come from."""


def to_parquet(predictions: Predictions, path: Path) -> None:
    """Write predictions as one parquet file, atomically."""
    import pyarrow as pa
    from pyarrow import parquet

    columns: dict[str, Any] = {name: list(getattr(predictions, own)) for name, own in STRINGS.items()}
    columns |= {name: getattr(predictions, own) for name, own in COUNTS.items()}
    for own, names in SIZES.items():
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
        columns: dict[str, Any] = {own: tuple(table[name].to_pylist()) for name, own in STRINGS.items()}
        columns |= {own: table[name].to_numpy() for name, own in COUNTS.items()}
        for own, names in SIZES.items():
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
    """The columns of clips whose soft masks weren't kept."""
    return {"soft_counts": np.zeros(clips, np.int64), "soft": np.zeros(0, np.uint8)}


def _flat(column: Any) -> Any:
    import pyarrow as pa

    values = column.flatten()
    if not pa.types.is_fixed_size_list(values.type):
        return values.to_numpy(zero_copy_only=False)
    return values.flatten().to_numpy(zero_copy_only=False).reshape(-1, values.type.list_size)
