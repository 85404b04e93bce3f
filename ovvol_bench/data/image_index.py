"""Which images lie in folders of classes: listed once, then read from a cache."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Ints
from ovvol_bench.data.cache import Columns, content_digest, load_columns, store_columns
from ovvol_bench.data.readers import IMAGE_SUFFIXES
from ovvol_bench.errors import DataError
from ovvol_bench.progress import with_progress

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
        dropped: (2,) files that are no images by their suffix, and folders of classes without an image.
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
        """Reason to count of what was left out."""
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
    if columns is None or not _is_current(root, columns):
        columns = _scan(root)
        store_columns(cache, key, columns)
    return ImageColumns(**{name: column for name, column in columns.items() if not name.startswith(_SEEN)})


def _is_current(root: Path, columns: Columns) -> bool:
    """Whether no folder has changed; a file or folder that comes or goes changes the one it is in."""
    folders, stamps = (columns[f"{_SEEN}{name}"].tolist() for name in ("folders", "stamps"))
    return all(_stamp(root / folder) == stamp for folder, stamp in zip(folders, stamps, strict=True))


def _stamp(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return -1


@dataclass(frozen=True)
class _Listing:
    """What lies in one folder: names of images, and how many other files."""

    folder: str
    label: str
    names: list[str]
    odd: int
    stamp: int


def _scan(root: Path) -> Columns:
    with os.scandir(root) as entries:
        labels = sorted(entry.name for entry in entries if entry.is_dir())
    stamp = _stamp(root)
    shown = with_progress(labels, len(labels), "listing images", lambda _: 1)
    seen = [listing for label in shown for listing in _listings(root, label)]
    kept = [listing for listing in seen if listing.names]
    if not kept:
        raise DataError(
            f"{root} holds no images: expected a folder a class, with files that end in "
            f"{', '.join(_SUFFIXES)}."
        )
    columns = _columns(kept, len(labels), sum(listing.odd for listing in seen))
    return {
        **asdict(columns),
        f"{_SEEN}folders": np.array([".", *(listing.folder for listing in seen)]),
        f"{_SEEN}stamps": np.array([stamp, *(listing.stamp for listing in seen)], np.int64),
    }


def _listings(root: Path, label: str) -> Iterator[_Listing]:
    for folder, below, files in os.walk(root / label, followlinks=True):
        below.sort()
        stamp = _stamp(Path(folder))
        names = sorted(file for file in files if file.lower().endswith(_SUFFIXES))
        yield _Listing(
            Path(folder).relative_to(root).as_posix(), label, names, len(files) - len(names), stamp
        )


def _columns(listings: list[_Listing], labels: int, odd_files: int) -> ImageColumns:
    classes, folder_classes = np.unique([listing.label for listing in listings], return_inverse=True)
    encoded = [os.fsencode(name) for listing in listings for name in listing.names]
    return ImageColumns(
        classes=classes,
        folders=np.array([listing.folder for listing in listings]),
        folder_classes=folder_classes.astype(np.int64),
        image_folders=np.repeat(
            np.arange(len(listings), dtype=np.int32), [len(listing.names) for listing in listings]
        ),
        names=np.frombuffer(b"".join(encoded), np.uint8),
        name_offsets=_offsets(map(len, encoded)),
        dropped=np.array([odd_files, labels - len(classes)], np.int64),
    )


def _offsets(lengths: Iterable[int]) -> Ints:
    return np.concatenate([[0], np.cumsum(list(lengths))]).astype(np.int64)
