"""Files of cached features: one folder a key, all of them within a limit."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from ovvol_bench.errors import OutputError, SettingError
from ovvol_bench.files import replacing

GB = 10**9

Halves = npt.NDArray[np.float16]


@dataclass(frozen=True)
class FeatureFile:
    """Features of some clips, and which of them are there already.

    Attributes:
        folder: of this key alone.
    """

    folder: Path

    @property
    def _features(self) -> Path:
        return self.folder / "features.npy"

    @property
    def _done(self) -> Path:
        return self.folder / "done.npy"

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Tell if the files are there, for features (clips, S, h, w, D) of this shape."""
        if not (self._features.exists() and self._done.exists()):
            return False
        with suppress(ValueError, EOFError, OSError):  # cut short
            return self.mapped().shape == shape
        return False

    def create(self, shape: tuple[int, ...]) -> None:
        """Make files for features (clips, S, h, w, D), none of which is there yet."""
        with replacing(self._features) as path:
            np.lib.format.open_memmap(path, "w+", np.float16, shape).flush()
        with replacing(self._done) as path:
            np.save(path, np.zeros(shape[0], np.bool_))

    def mapped(self) -> Halves:
        """(clips, S, h, w, D), read where it is looked at."""
        features: Halves = np.load(self._features, mmap_mode="r")
        return features

    def missing(self) -> list[int]:
        """Clips whose features are not there."""
        indices: list[int] = np.flatnonzero(~np.load(self._done)).tolist()
        return indices

    def write(self, indices: Sequence[int], features: Halves) -> None:
        """Add features of clips; they count as there once they have reached the disk.

        Raises:
            SettingError: if the disk is full.
        """
        mapped = self.mapped()
        # Written and not mapped: a full disk is then an error, and not the end of the process.
        try:
            with self._features.open("r+b") as file:
                for index, clip in zip(indices, features, strict=True):
                    file.seek(mapped.offset + index * clip.nbytes)  # type: ignore[attr-defined]
                    file.write(clip.tobytes())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise SettingError(f"can't write features to {self._features}: {error.strerror}.") from error
        done = np.load(self._done, mmap_mode="r+")
        done[list(indices)] = True
        done.flush()

    def mark_used(self) -> IO[bytes]:
        """Keep others from taking the files away for as long as the answer is kept."""
        file = (self.folder / "used").open("ab")
        with suppress(OSError):  # a file system without locks: nobody else may take the files away there
            fcntl.flock(file, fcntl.LOCK_SH)
        os.utime(self.folder)
        return file

    def size(self) -> int:
        """Bytes that the files take or may come to take."""
        with suppress(FileNotFoundError):
            return sum(path.stat().st_size for path in self.folder.iterdir())
        return 0

    def last_used(self) -> float:
        """Seconds since the epoch."""
        return self.folder.stat().st_mtime

    def remove(self) -> bool:
        """Take the files away; false if somebody uses them."""
        with (self.folder / "used").open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # somebody does, or the file system can't say
                return False
            shutil.rmtree(self.folder)
        return True


@dataclass(frozen=True)
class FeatureFolder:
    """All cached features.

    Attributes:
        path: holds a folder a key.
        limit_gb: of all together.
    """

    path: Path
    limit_gb: float

    @contextmanager
    def locked(self) -> Iterator[None]:
        """While something is added or taken away; other processes wait here.

        The system lets go of the lock when its holder ends, however it ends.

        Raises:
            SettingError: if the folder can't be made or written to.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / "lock").open("ab")
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            raise OutputError(
                f"can't write cached features to {self.path}: {error.strerror}. Give another "
                "folder with --cache, or set recipe.cache_features=false."
            ) from error
        with lock:
            yield

    def file(self, key: str, shape: tuple[int, ...]) -> FeatureFile:
        """The file of a key; room is made for a new one. Call it while `locked`.

        Args:
            key: names the content.
            shape: (clips, S, h, w, D).

        Raises:
            SettingError: if it doesn't fit, with the numbers.
        """
        file = FeatureFile(self.path / key)
        if not file.fits(shape):
            self._make_room(file, 2 * int(np.prod(shape)))
            file.create(shape)
        return file

    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size() for file in self._files())

    def _files(self) -> list[FeatureFile]:
        """The one used longest ago comes first."""
        files = [FeatureFile(path) for path in self.path.iterdir() if path.is_dir()]
        return sorted(files, key=FeatureFile.last_used)

    def _make_room(self, wanted: FeatureFile, needed: int) -> None:
        others = [file for file in self._files() if file != wanted]
        taken = sum(file.size() for file in others)
        limit = self.limit_gb * GB
        while others and needed <= limit < taken + needed:
            oldest = others.pop(0)
            size = oldest.size()
            taken -= size if oldest.remove() else 0
        if taken + needed > limit:
            raise SettingError(
                f"features need {needed / GB:.3g} GB; recipe.cache_limit_gb={self.limit_gb:g}"
                + (f", of which {taken / GB:.3g} GB are in use by others" if needed <= limit else "")
                + ". Raise it, lower recipe.cached_clips_per_video, or set recipe.cache_features=false."
            )
        free = shutil.disk_usage(self.path).free
        if needed > free:
            raise SettingError(
                f"features need {needed / GB:.3g} GB; the disk of {self.path} has {free / GB:.3g} GB left. "
                "Free some space, lower recipe.cached_clips_per_video, or set recipe.cache_features=false."
            )
