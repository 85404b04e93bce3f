"""Dataset ``movi``: rendered videos of Kubric's MOVi sets, as folders.

::

    ROOT/SPLIT/VIDEO/frames/000000.png ...           or video.npy: (T, H, W, 3) uint8 RGB
    ROOT/SPLIT/VIDEO/segmentations/000000.png ...    or segmentations.npy: (T, H, W) or (T, H, W, 1) uint8,
                                                     0 background, else 1 + the instance
    ROOT/SPLIT/VIDEO/instances.json                  optional: {"category": [name or null of every instance]}

``.npz`` files are read too if they hold one array. Boxes are those of the masks, so they and the flags
of other files are not needed.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import cv2
import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Ints
from ovvol_bench.data.cache import cache_folder, load_columns, store_columns
from ovvol_bench.data.indexed import IndexedTraining, IndexedVideos
from ovvol_bench.data.readers import ArrayFrames, FrameFolder, FrameReader, label_runs, read_labels
from ovvol_bench.data.sampling import ClipSettings, Sampling
from ovvol_bench.data.truth_index import RawAnnotations, TruthIndex, VideoFrames, build_index
from ovvol_bench.data.video_lists import split_rows
from ovvol_bench.errors import DataError, DecodeError, SettingError
from ovvol_bench.files import below, require_utf8
from ovvol_bench.formats.json_objects import JsonFile
from ovvol_bench.masks import RleMasks
from ovvol_bench.naming.vocabulary import OBJECT, choose_vocabulary
from ovvol_bench.printing import control_problem
from ovvol_bench.progress import with_progress
from ovvol_bench.registry import ClipLength, FromSize, Located

VERSION = "2"
"""Of the columns and of how they are made; part of the cache's key."""

VIDEO, FRAMES, SEGMENTATIONS, INSTANCES = "video", "frames", "segmentations", "instances.json"
PNG = ".png"
_ARRAYS = (".npy", ".npz")


class Movi(IndexedVideos):
    """MOVi as folders, which "ovvol-bench data convert movi" writes: boxes, masks and tracks.

    Args:
        path: folder that holds a folder a split.
        split: name of the folder with a folder a video.
        list: .txt file with a video a line; none: all.
        vocabulary: object (one class), a built-in name or a .yaml file; none: the categories of the videos.
        void: value of pixels of masks that nobody annotated, as 255 in DAVIS and VOC; none: there are none.
        frames_per_clip: frames in a clip; MOVi has 24 a video.
        sampling: all covers every frame, reference drops the ends of videos as the paper's code does.
        stride: every n-th frame is used.
        short_side: of resized frames, pixels.
        multiple: what both sides are multiples of, pixels.
        cache: folder for truth read from the masks; none: the user's cache folder.

    Raises:
        DataError: if the folder is missing or has no video, or a file is missing or malformed; names it.
        SettingError: if ``void`` is no value that an object could have.
    """

    def __init__(  # noqa: PLR0913 - settings
        self,
        *,
        path: Annotated[Path, Located],
        split: str = "validation",
        list: Annotated[Path | None, Located] = None,
        vocabulary: str | None = None,
        void: int | None = None,
        frames_per_clip: Annotated[int, ClipLength] = 8,
        sampling: Sampling = "all",
        stride: int = 1,
        short_side: Annotated[int, FromSize("short_side")] = 224,
        multiple: Annotated[int, FromSize("multiple")] = 16,
        cache: Annotated[str | None, Located] = None,
    ) -> None:
        if void is not None and not 1 <= void <= 255:
            raise SettingError(
                f"dataset.void={void}: expected a pixel value from 1 to 255; 0 is the background."
            )
        root = path / split
        if not root.is_dir():
            raise DataError(
                f"{root} is no folder: expected a folder a video. Convert MOVi with 'ovvol-bench data "
                "convert movi', and set dataset.path and dataset.split."
            )
        names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
        require_utf8(names, root)
        rows = split_rows("all" if list is None else str(list), names, {}, root)
        index, self.crowds, categories = _load(root, [names[row] for row in rows], cache_folder(cache), void)
        words, class_of = choose_vocabulary(vocabulary, categories, "movi")
        super().__init__(words, ClipSettings(frames_per_clip, sampling, stride, short_side, multiple))
        self.index = index.with_classes(class_of)
        self._root = root

    def frames(self, video: int, rows: Sequence[int]) -> FrameReader:
        folder = self._root / str(self.index.videos[video])
        positions = self.index.frame_numbers[list(rows)].tolist()
        height, width = self.index.frame_sizes[video].tolist()
        if (folder / FRAMES).is_dir():
            files = [folder / FRAMES / f"{position:06d}{PNG}" for position in positions]
            return FrameFolder(files, (height, width))
        try:
            array = _array(folder, VIDEO, f"a folder {FRAMES} of PNG files")
        except DataError as error:
            raise DecodeError(str(error)) from error
        shape: tuple[int, ...] = array.shape
        last, expected = max(positions), (height, width, 3)
        if len(shape) != 4 or shape[0] <= last or shape[1:] != expected or array.dtype != np.uint8:
            raise DecodeError(
                f"{folder / VIDEO} is of {array.dtype} {shape}; expected uint8, at least {last + 1} "
                f"frames of {expected} (height, width, RGB). Convert the video again."
            )
        return ArrayFrames(array[positions])

    def frame_files(self) -> list[str]:
        files: list[str] = []
        for video, length in zip(self.index.videos.tolist(), self.index.lengths.tolist(), strict=True):
            folder = self._root / video
            if (folder / FRAMES).is_dir():
                files += [f"{folder}/{FRAMES}/{position:06d}{PNG}" for position in range(length)]
            else:
                files += [str(folder / f"{VIDEO}{suffix}") for suffix in _ARRAYS]
        return files

    def training_videos(self) -> IndexedTraining:
        """All frames of the videos."""
        return IndexedTraining(self)


def _load(
    root: Path, names: Sequence[str], cache: Path, void: int | None
) -> tuple[TruthIndex, TruthIndex, list[str]]:
    """Return the index of objects, that of void regions (class 0), and the names of the categories."""
    # the key of the cache holds names, sizes and times of change of all files that truth is read from
    stamps = []
    for folder in (root / name for name in names):
        inner = folder / SEGMENTATIONS
        paths = [folder / INSTANCES, *(folder / f"{SEGMENTATIONS}{suffix}" for suffix in _ARRAYS)]
        paths += sorted(inner.iterdir()) if inner.is_dir() else []
        stats = [(path.name, path.stat()) for path in paths if path.exists()]
        stamps.append((folder.name, [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]))
    source = repr((VERSION, os.fspath(root.absolute()), stamps, void))
    key = f"movi-{hashlib.blake2b(source.encode(), digest_size=16).hexdigest()}"
    columns = load_columns(cache, key)
    if columns is None:
        shown = with_progress(names, len(names), "reading masks", lambda _: 1)
        columns = _columns([_read_video(root / name, void) for name in shown])
        store_columns(cache, key, columns)
    index = TruthIndex(**{field.name: columns[field.name] for field in fields(TruthIndex)})
    categories = columns["categories"].tolist()
    is_void = index.class_ids > len(categories)
    crowds = index.of_objects(np.flatnonzero(is_void))
    crowds = replace(crowds, class_ids=np.zeros_like(crowds.class_ids))
    return index.of_objects(np.flatnonzero(~is_void)), crowds, categories


@dataclass(frozen=True)
class _Video:
    """Truth of one video: per frame the numbers of the instances that show, and their masks; void is one."""

    name: str
    size: tuple[int, int]
    shown: list[list[int]]
    runs: list[bytes]
    categories: list[str | None] | None
    void: int | None = None

    def category(self, instance: int) -> str | None:
        """Name of an instance's category, ``object`` where nothing is known; None: it is void."""
        if self.void == instance + 1:
            return None
        name = self.categories[instance] if self.categories is not None else None
        return OBJECT if name is None else name


def _read_video(folder: Path, void: int | None) -> _Video:
    labels = list(_labels(folder))
    categories = _categories(folder / INSTANCES)
    shown = [(np.unique(frame)[np.unique(frame) > 0] - 1).tolist() for frame in labels]
    most = max((each for frame in shown for each in frame if each + 1 != void), default=-1)
    if categories is not None and most >= len(categories):
        raise DataError(
            f"{folder / SEGMENTATIONS} has the value {most + 1}, but {INSTANCES} has {len(categories)} "
            "categories; expected 1 + the position of an instance. Convert the video again."
        )
    runs = [
        run
        for frame, instances in zip(labels, shown, strict=True)
        for run in label_runs(frame, np.array(instances, np.int64) + 1)
    ]
    height, width = labels[0].shape
    return _Video(folder.name, (height, width), shown, runs, categories, void)


def _labels(folder: Path) -> Iterator[npt.NDArray[np.uint8]]:
    """(H, W) uint8 of every frame; at least one, of one size."""
    inner = folder / SEGMENTATIONS
    if not inner.is_dir():
        labels = _array(folder, SEGMENTATIONS, f"a folder {SEGMENTATIONS} of PNG files")
        flat = labels[..., 0] if labels.ndim == 4 and labels.shape[-1] == 1 else labels
        if flat.ndim != 3 or flat.dtype != np.uint8 or not flat.size:
            raise DataError(
                f"{folder / SEGMENTATIONS} is of {labels.dtype} {labels.shape}; expected uint8 (frames, "
                "height, width) or (frames, height, width, 1). Convert the video again."
            )
        yield from np.asarray(flat, np.uint8)
        return
    count = sum(1 for path in inner.iterdir() if path.suffix == PNG)
    if not count:
        raise DataError(f"{inner} has no {PNG} files: expected one a frame. Convert the video again.")
    first = read_labels(inner / f"{0:06d}{PNG}")
    yield first
    for number in range(1, count):
        file = inner / f"{number:06d}{PNG}"
        frame = read_labels(file)
        if frame.shape != first.shape:
            raise DataError(
                f"Mask {file} is {frame.shape} (height, width); expected {first.shape} as the first."
            )
        yield frame


def _array(folder: Path, name: str, instead: str) -> npt.NDArray[Any]:
    """The array of ``name.npy``, mapped, or the one in ``name.npz``."""
    path = next(
        (folder / f"{name}{suffix}" for suffix in _ARRAYS if (folder / f"{name}{suffix}").exists()), None
    )
    if path is None:
        raise DataError(
            f"{folder} has neither {name}.npy nor {name}.npz nor {instead}. Convert the video again."
        )
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(stored, np.ndarray):
            return stored
        with stored:
            (only,) = stored.files
            return np.asarray(stored[only])
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} can't be read ({error}): expected one numpy array. Convert the video again."
        ) from error


def _categories(path: Path) -> list[str | None] | None:
    """Names of the instances' categories, None where one has none; None without a file."""
    if not path.exists():
        return None
    categories = JsonFile.read(path).content.get("category")
    if categories is None:
        return None
    if not isinstance(categories, list) or not all(name is None or type(name) is str for name in categories):
        raise DataError(f"{path}: category is no list of names; expected text or null for every instance.")
    for position, name in enumerate(categories):
        if problem := name and control_problem(name):
            raise DataError(f"{path}: category[{position}]: {problem}")
    return categories


def _columns(videos: Sequence[_Video]) -> dict[str, Any]:
    """Columns of an index, and the categories; void has the class id after theirs."""
    shown = [frame for video in videos for frame in video.shown]
    named = [
        (video.category(instance), instance)
        for video in videos
        for frame in video.shown
        for instance in frame
    ]
    categories = sorted({name for name, _ in named if name is not None}) or [OBJECT]
    row_of = {name: row for row, name in enumerate([*categories, None], 1)}
    rows = np.zeros((len(named), 8))
    rows[:, 0] = [row_of[name] for name, _ in named]
    rows[:, 5] = [instance for _, instance in named]
    boxes = [RleMasks(video.size, tuple(video.runs)).boxes() for video in videos if video.runs]
    rows[:, 1:5] = np.concatenate([np.zeros((0, 4), np.float32), *boxes])
    lengths: Ints = np.array([len(video.shown) for video in videos], np.int64)
    raw = RawAnnotations(
        np.repeat(np.array([video.size for video in videos], np.int64), lengths, axis=0),
        np.array([len(frame) for frame in shown], np.int64),
        rows,
        [run for video in videos for run in video.runs],
    )
    index = build_index(
        [VideoFrames(video.name, np.arange(len(video.shown))) for video in videos], raw, lambda _: (0, 0)
    )
    return {**asdict(index), "categories": np.array(categories)}


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
            yield _write_example(example, out, number)
        except OSError as error:
            raise DataError(f"{out}: can't write there ({error}). Give another folder.") from error
        except ValueError as error:
            raise DataError(f"record {number}: {error}. Is it a MOVi set?") from error


def _write_example(example: Example, out: Path, number: int) -> Path:
    """Write one record as a folder, which appears whole or not at all; one that is there is kept."""
    # the record's own name, or its number
    name = _plain(example.get("metadata", {}).get("video_name", number))
    text = f"{name:05d}" if isinstance(name, int) else str(name)
    if not text or text.startswith(".") or "/" in text:
        raise ValueError(f"metadata.video_name is {text!r}; expected a name of a folder")
    folder = below(out, text)
    if folder.exists():
        return folder
    video = _checked(example, VIDEO, lambda shape: len(shape) == 4 and shape[3] == 3, "(T, H, W, 3)")
    labels = _checked(example, SEGMENTATIONS, lambda shape: shape == (*video.shape[:3], 1), "(T, H, W, 1)")
    out.mkdir(parents=True, exist_ok=True)
    # beside the split's folder, where a half video would be taken for one
    with TemporaryDirectory(dir=out.parent, prefix=f".{folder.name}-") as temporary:
        whole = Path(temporary, folder.name)
        _write_images(whole / FRAMES, video[..., ::-1])  # OpenCV writes BGR
        _write_images(whole / SEGMENTATIONS, labels[..., 0])
        (whole / INSTANCES).write_text(json.dumps(_instances(example)), encoding="utf-8")
        (whole / METADATA).write_text(json.dumps(_plain(example.get("metadata", {}))), encoding="utf-8")
        whole.rename(folder)
    return folder


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
        # MOVi-A and B name categories, C to E number them
        numbers = [value for value in fields["category"] if isinstance(value, int)]
        if wrong := [number for number in numbers if not 0 <= number < len(CATEGORIES)]:
            raise ValueError(
                f"instances.category has {wrong[0]}; expected a name or a number below {len(CATEGORIES)}"
            )
        names = (CATEGORIES[each] if isinstance(each, int) else str(each) for each in fields["category"])
        fields["category"] = [None if name == NAMELESS else name for name in names]
    return fields


def _plain(value: Any) -> Any:
    """The same in types that JSON has."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
