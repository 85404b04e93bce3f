"""Dataset ``image-folder``: images in a folder a class, as ImageNet-1k is unpacked; clips of one frame."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Ints, offsets_of
from ovvol_bench.data.base import Dataset, TrainingImage, TrainingImages
from ovvol_bench.data.cache import Columns, cache_folder, content_digest, load_columns, store_columns
from ovvol_bench.data.class_names import Names, read_class_names
from ovvol_bench.data.readers import IMAGE_SUFFIXES, read_header, read_image
from ovvol_bench.data.transforms import Size, resize_frames, target_size
from ovvol_bench.errors import DataError, DecodeError
from ovvol_bench.files import in_utf8
from ovvol_bench.naming.vocabulary import ForegroundClass, Vocabulary, load_vocabulary, spoken
from ovvol_bench.progress import with_progress
from ovvol_bench.registry import FromSize, Located
from ovvol_bench.types import Clip, ClipInfo

NO_IMAGE = "files that are no images"
EMPTY_CLASS = "class folders without images"
_SUFFIXES = tuple(sorted(IMAGE_SUFFIXES))
_SEEN = "seen_"  # begins the names of columns that tell whether the list is still true


@dataclass(frozen=True)
class ImageColumns:
    """N images in F folders of C classes; a million of them are columns that processes can share.

    Attributes:
        classes: (C,) names of the classes' folders, sorted; each has an image at least.
        folders: (F,) paths of all folders below the root.
        folder_classes: (F,) class of each folder, from 0.
        image_folders: (N,) folder of each image.
        names: bytes of all file names, one after the other.
        name_offsets: (N + 1,) where an image's name begins.
        dropped: (2,) files that are no images by their suffix, and class folders without an image.
    """

    classes: npt.NDArray[np.str_]
    folders: npt.NDArray[np.str_]
    folder_classes: Ints
    image_folders: npt.NDArray[np.int32]
    names: npt.NDArray[np.uint8]
    name_offsets: Ints
    dropped: Ints

    def __len__(self) -> int:
        return len(self.image_folders)

    def name(self, image: int) -> str:
        """Path of an image below the root."""
        if not 0 <= image < len(self):
            raise IndexError(image)
        name = self.names[self.name_offsets[image] : self.name_offsets[image + 1]].tobytes()
        return f"{self.folders[self.image_folders[image]]}/{os.fsdecode(name)}"

    def class_of(self, image: int) -> int:
        """Class of an image, from 0."""
        return int(self.folder_classes[self.image_folders[image]])

    @property
    def skipped(self) -> dict[str, int]:
        """Count what was left out, by reason."""
        counts = zip((NO_IMAGE, EMPTY_CLASS), self.dropped.tolist(), strict=True)
        return {reason: count for reason, count in counts if count}

    def fingerprint(self, root: Path) -> str:
        """Hash of all names, and of the files below ``root`` as far as ``content_digest`` looks."""
        digest = hashlib.sha256("\n".join(self.folders.tolist()).encode(errors="surrogateescape"))
        for column in (self.image_folders, self.names, self.name_offsets):
            digest.update(np.ascontiguousarray(column).tobytes())
        digest.update(content_digest(len(self), lambda image: f"{root}/{self.name(image)}").encode())
        return digest.hexdigest()


def load_images(root: Path, cache: Path) -> ImageColumns:
    """List the images below ``root/CLASS``, in subfolders too; sorted by path, links are followed.

    Args:
        root: holds a folder a class.
        cache: folder that keeps the list, for as long as no folder changes.

    Raises:
        DataError: if there is no such folder or no image in it.
    """
    if not root.is_dir():
        raise DataError(f"{root} is no folder: set dataset.path to a folder with a subfolder a class.")
    key = f"images-{hashlib.blake2b(os.fsencode(root.absolute()), digest_size=16).hexdigest()}"
    columns = load_columns(cache, key)
    if columns is not None:  # a file or folder that comes or goes changes the time of the one it is in
        folders, stamps = (columns[f"{_SEEN}{name}"].tolist() for name in ("folders", "stamps"))
        if any(_stamp(root / folder) != stamp for folder, stamp in zip(folders, stamps, strict=True)):
            columns = None
    if columns is None:
        columns = _scan(root)
        store_columns(cache, key, columns)
    return ImageColumns(**{name: column for name, column in columns.items() if not name.startswith(_SEEN)})


def _stamp(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return -1


def _scan(root: Path) -> Columns:
    with os.scandir(root) as entries:
        labels = sorted(entry.name for entry in entries if entry.is_dir())
    seen, stamps, odd_files = ["."], [_stamp(root)], 0
    kept: list[tuple[str, str, list[bytes]]] = []  # folder, class, names of its images
    for label in with_progress(labels, len(labels), "listing images", lambda _: 1):
        for path, below, files in os.walk(root / label, followlinks=True):
            below.sort()
            folder = Path(path).relative_to(root).as_posix()
            seen.append(folder)
            stamps.append(_stamp(Path(path)))
            names = sorted(file for file in files if file.lower().endswith(_SUFFIXES))
            odd_files += len(files) - len(names)
            if names:
                kept.append((folder, label, list(map(os.fsencode, names))))
    if not kept:
        raise DataError(
            f"{root} holds no images: expected a folder a class, with files that end in "
            f"{', '.join(_SUFFIXES)}."
        )
    classes, folder_classes = np.unique([label for _, label, _ in kept], return_inverse=True)
    encoded = [name for _, _, names in kept for name in names]
    counts = [len(names) for _, _, names in kept]
    columns = ImageColumns(
        classes=classes,
        folders=np.array([folder for folder, _, _ in kept]),
        folder_classes=folder_classes.astype(np.int64),
        image_folders=np.repeat(np.arange(len(kept), dtype=np.int32), counts),
        names=np.frombuffer(b"".join(encoded), np.uint8),
        name_offsets=offsets_of(np.array(list(map(len, encoded)), np.int64)),
        dropped=np.array([odd_files, len(labels) - len(classes)], np.int64),
    )
    return {
        **asdict(columns),
        f"{_SEEN}folders": np.array(seen),
        f"{_SEEN}stamps": np.array(stamps, np.int64),
    }


class FolderImages(TrainingImages):
    """Images as stored, with what their class is called.

    Args:
        root: that the names start from.
        images: from ``load_images``.
        captions: of every class, in the order of ``images.classes``.
    """

    def __init__(self, root: Path, images: ImageColumns, captions: Sequence[tuple[str, ...]]) -> None:
        self._root, self._images, self._captions = root, images, tuple(captions)

    def __len__(self) -> int:
        return len(self._images)

    def name(self, index: int) -> str:
        """Return the path below the root."""
        return in_utf8(self._images.name(index))

    def image(self, index: int) -> TrainingImage:
        pixels = read_image(self._root / self._images.name(index))
        return TrainingImage(pixels, self._captions[self._images.class_of(index)])

    def fingerprint(self) -> str:
        """Hash of all names and captions, and of the images as far as ``content_digest`` looks."""
        what = f"{self._images.fingerprint(self._root)} {self._captions}"
        return hashlib.sha256(what.encode()).hexdigest()


class ImageFolder(Dataset):
    """Images in a folder a class, as ImageNet-1k is unpacked: to train on, or as clips without truth.

    Args:
        path: folder of the classes' folders; images may lie deeper in them.
        names: what the folders' classes are called: lines "n01440764 tench, Tinca tinca", or JSON; none: as
            in the vocabulary, or as their folders. Captions are made of all names.
        vocabulary: names to look for, built-in or path of a .yaml file; none: the classes of the folders.
        short_side: of resized images, pixels.
        multiple: what both sides are multiples of, pixels.
        cache: folder for the list of images; none: the user's cache folder.
    """

    def __init__(
        self,
        *,
        path: Annotated[Path, Located],
        names: Annotated[Path | None, Located] = None,
        vocabulary: str | None = None,
        short_side: Annotated[int, FromSize("short_side")] = 224,
        multiple: Annotated[int, FromSize("multiple")] = 16,
        cache: Annotated[str | None, Located] = None,
    ) -> None:
        words = load_vocabulary(vocabulary) if vocabulary is not None else None
        known = read_class_names(names) if names is not None else None
        target_size((1, 1), short_side, multiple)  # raises on wrong numbers
        images = load_images(path, cache_folder(cache))
        classes = images.classes.tolist()
        self._names = _names_of_classes(classes, known, words)
        self.vocabulary = words or _vocabulary_of(path, classes, self._names)
        self.skipped: Mapping[str, int] = images.skipped
        self._root, self._images, self._size = path, images, (short_side, multiple)

    def __len__(self) -> int:
        return len(self._images)

    def info(self, index: int) -> ClipInfo:
        """Describe a clip; its id is the image's path, its size 1 x 1 where it can't be read."""
        try:
            size = read_header(self._root / self._images.name(index)).size
        except DecodeError:  # raised by `clip`, so that it costs one clip and not the dataset
            size = (1, 1)
        return self._info(index, size)

    def input_size(self, frame_size: tuple[int, int]) -> tuple[int, int]:
        return target_size(frame_size, *self._size)

    def clip(self, index: int) -> Clip:
        pixels = read_image(self._root / self._images.name(index))
        height, width = pixels.shape[:2]
        info = self._info(index, (height, width))
        return Clip(info, resize_frames([pixels], self.input_size(info.frame_size), 1))

    def fingerprint(self) -> str:
        """Hash of names, vocabulary and size, and of the images as far as ``content_digest`` looks."""
        what = f"{self._images.fingerprint(self._root)} {self.vocabulary.names} {self._size}"
        return hashlib.sha256(what.encode()).hexdigest()

    def training_images(self) -> FolderImages:
        """All images; every name of a class, in the vocabulary's first template, is a caption."""
        template = self.vocabulary.templates[0]
        captions = [tuple(template % spoken(name) for name in names) for names in self._names]
        return FolderImages(self._root, self._images, captions)

    def _info(self, index: int, size: Size) -> ClipInfo:
        name = in_utf8(self._images.name(index))
        return ClipInfo(id=name, video=name, frame_indices=(0,), frame_size=size)


def _names_of_classes(
    classes: Sequence[str], known: Mapping[str, Names] | None, vocabulary: Vocabulary | None
) -> list[Names]:
    """Name classes by a file of names, else by a vocabulary's codes or names, else by their folders."""
    if known is not None:
        if missing := [name for name in classes if name not in known]:
            raise DataError(
                f"dataset.names lacks {len(missing)} of {len(classes)} classes, first: '{missing[0]}'. Add "
                "them, or leave dataset.names out: then classes are called as their folders are."
            )
        return [known[name] for name in classes]
    words = vocabulary.classes if vocabulary is not None else ()
    by_key = {key: (item.name, *item.synonyms) for item in words for key in (item.name, item.code)}
    return [by_key.get(name, (in_utf8(name),)) for name in classes]


def _vocabulary_of(root: Path, classes: Sequence[str], names: Sequence[Names]) -> Vocabulary:
    # names that several classes have, as ImageNet's two "crane", are told apart by folder
    times = Counter(spoken(own[0]).casefold() for own in names)
    foreground = (
        ForegroundClass(
            own[0] if times[spoken(own[0]).casefold()] == 1 else f"{own[0]} ({folder})", code=folder
        )
        for folder, own in zip(map(in_utf8, classes), names, strict=True)
    )
    try:
        return Vocabulary("image-folder", tuple(foreground))
    except DataError as error:  # two still have one name, or a name holds control characters
        raise DataError(f"{root}: its folders are no classes ({error})") from None
