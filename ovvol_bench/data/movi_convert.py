"""From MOVi's records to the folders that dataset ``movi`` reads; only this needs tensorflow-datasets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ovvol_bench.data.movi import FRAMES, INSTANCES, PNG, SEGMENTATIONS, VIDEO
from ovvol_bench.errors import DataError, SettingError
from ovvol_bench.files import below

METADATA = "metadata.json"
NAMELESS = "None"
CATEGORIES = (
    "Action Figures", "Bag", "Board Games", "Bottles and Cans and Cups", "Camera", "Car Seat",
    "Consumer Goods", "Hat", "Headphones", "Keyboard", "Legos", "Media Cases", "Mouse", NAMELESS, "Shoe",
    "Stuffed Toys", "Toys",
)  # fmt: skip
"""Names in MOVi-C, D and E of the numbers in ``instances.category``, as Kubric documents them."""

Example = Mapping[str, Any]
"""A record as numpy: ``video``, ``segmentations``, and maybe ``instances`` and ``metadata``."""


def read_examples(source: str, split: str) -> tuple[int, Iterator[Example]]:
    """Read the records of a split with tensorflow-datasets.

    Args:
        source: folder of one version, such as ``gs://kubric-public/tfds/movi_e/256x256/1.0.0``; it holds
            ``dataset_info.json`` beside the records.
        split: ``train``, ``validation`` or ``test``.

    Returns:
        How many there are, and the records.

    Raises:
        SettingError: if tensorflow-datasets isn't installed.
        DataError: if it can't open the folder or split.
    """
    try:
        import tensorflow_datasets as tfds  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise SettingError(
            f"Converting MOVi needs tensorflow-datasets ({error}): pip install tensorflow "
            "tensorflow-datasets. Only the conversion does; what it writes is read without."
        ) from error
    try:
        builder = tfds.builder_from_directory(source)
        count = int(builder.info.splits[split].num_examples)
        return count, iter(tfds.as_numpy(builder.as_dataset(split=split, shuffle_files=False)))
    except Exception as error:  # tensorflow and the file systems below it raise errors of their own
        raise DataError(
            f"{source}: split '{split}' can't be opened ({error}). Give the folder of one version, which "
            "holds dataset_info.json, such as movi_e/256x256/1.0.0."
        ) from error


def write_examples(examples: Iterable[Example], out: Path) -> Iterator[Path]:
    """Write records, one after the other.

    Args:
        examples: records in their order.
        out: folder of the split.

    Yields:
        The folder of each video, ``out/VIDEO``.

    Raises:
        DataError: if a record is malformed, or the folder can't be written to; names the record.
    """
    for number, example in enumerate(examples):
        try:
            yield write_example(example, out, number)
        except OSError as error:
            raise DataError(f"{out}: can't write there ({error}). Give another folder.") from error
        except ValueError as error:
            raise DataError(f"record {number}: {error}. Is it a MOVi set?") from error


def write_example(example: Example, out: Path, number: int) -> Path:
    """Write one record as a folder, which appears whole or not at all; one that is there is kept.

    Args:
        example: the record.
        out: folder of the split.
        number: of the record; the video's name where the record has none.

    Raises:
        ValueError: if an array is missing or of the wrong shape; says what was expected.
    """
    folder = below(out, _name(example, number))
    if folder.exists():
        return folder
    video = _checked(example, VIDEO, lambda shape: len(shape) == 4 and shape[3] == 3, "(T, H, W, 3)")
    labels = _checked(example, SEGMENTATIONS, lambda shape: shape == (*video.shape[:3], 1), "(T, H, W, 1)")
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{folder.name}-") as temporary:
        whole = Path(temporary, folder.name)
        _write_images(whole / FRAMES, video[..., ::-1])
        _write_images(whole / SEGMENTATIONS, labels[..., 0])
        (whole / INSTANCES).write_text(json.dumps(_instances(example)), encoding="utf-8")
        (whole / METADATA).write_text(json.dumps(_plain(example.get("metadata", {}))), encoding="utf-8")
        whole.rename(folder)
    return folder


def _name(example: Example, number: int) -> str:
    name = _plain(example.get("metadata", {}).get("video_name", number))
    text = f"{name:05d}" if isinstance(name, int) else str(name)
    if not text or text.startswith(".") or "/" in text:
        raise ValueError(f"metadata.video_name is {text!r}; expected a name of a folder")
    return text


def _checked(
    example: Example, name: str, fits: Callable[[tuple[int, ...]], bool], expected: str
) -> npt.NDArray[np.uint8]:
    if name not in example:
        raise ValueError(f"'{name}' is missing; the record has {', '.join(sorted(example)) or 'nothing'}")
    array = np.asarray(example[name])
    if array.dtype != np.uint8 or not array.size or not fits(array.shape):
        raise ValueError(f"'{name}' is {array.dtype} {array.shape}; expected uint8 {expected}, as the video")
    return array


def _write_images(folder: Path, images: npt.NDArray[np.uint8]) -> None:
    folder.mkdir(parents=True)
    for position, image in enumerate(images):
        encoded = cv2.imencode(PNG, np.ascontiguousarray(image))[1]
        (folder / f"{position:06d}{PNG}").write_bytes(encoded.tobytes())


def _instances(example: Example) -> dict[str, Any]:
    """Names of the instances' categories, None for those without, and how many pixels show of each."""
    instances = example.get("instances", {})
    fields = {name: _plain(instances[name]) for name in ("category", "visibility") if name in instances}
    if "category" in fields:
        fields["category"] = [_category(value) for value in fields["category"]]
    return fields


def _category(value: Any) -> str | None:
    if isinstance(value, int):
        if not 0 <= value < len(CATEGORIES):
            raise ValueError(
                f"instances.category has {value}; expected a name or a number below {len(CATEGORIES)}"
            )
        value = CATEGORIES[value]
    return None if value == NAMELESS else str(value)


def _plain(value: Any) -> Any:
    """The same in types that JSON has."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
