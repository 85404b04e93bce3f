"""Features of a frozen encoder: computed on the fly, or once for clips that stay the same.

A cache is a folder, named by what decides its content: the encoder with its weights, and the clips. It is
filled before training starts; a fill that was cut off goes on where it was, and of several processes one
fills while the others wait. Caches that were used longest ago make room for a new one. Own machinery, as
disk caches of libraries hold whole values: here thousands of clips are mapped from one file, filled in part.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Subset

from ovvol_bench.components import Encoder
from ovvol_bench.data.transforms import Size
from ovvol_bench.errors import OutputError, SettingError
from ovvol_bench.fidelity import autocast, best_precision
from ovvol_bench.files import replacing
from ovvol_bench.pipeline import encode
from ovvol_bench.progress import with_progress
from ovvol_bench.training.loader import read_ahead, reading_errors

GB = 10**9
_LOG = logging.getLogger(__name__)
_VERSION = 2  # part of every key: raise it whenever features of the same name would come out otherwise
_AT_ONCE = 8  # clips encoded together


class FrozenEncoder:
    """An encoder that is read and not trained: in eval mode, without gradients.

    It is no module, so that it is neither wrapped nor saved with what is trained.

    Args:
        encoder: is frozen in place.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder.eval().requires_grad_(False)
        self._quick: Encoder | None = None

    def features(self, frames: Tensor) -> Tensor:
        """Encode clips on the device that they are on, in the precision of the surrounding autocast.

        Args:
            frames: (B, T, H, W, 3) uint8 RGB; H and W multiples of the patch size.

        Returns:
            (B, S, h, w, D) float32.

        Raises:
            ContractError: if the frames don't suit the encoder, or its answer is not what it promised.
        """
        encoder, kind = self.encoder.to(frames.device), frames.device.type
        video = frames.permute(0, 1, 4, 2, 3).float() / 255
        with torch.no_grad():
            if torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16:
                # A copy is made for bfloat16: the encoder's own weights name the cache, and stay.
                if self._quick is None:
                    self._quick = deepcopy(encoder)
                    self._quick.prepare(torch.bfloat16)
                encoder = self._quick
            return encode(encoder, video, type(encoder).__name__).grid.float()

    @property
    def device(self) -> torch.device:
        """Device of the encoder; the CPU for one without parameters."""
        first = next(self.encoder.parameters(), None)
        return torch.device("cpu") if first is None else first.device

    def shape(self, frames: int, size: Size) -> tuple[int, int, int, int]:
        """(S, h, w, D) of the features of a clip of some frames of (height, width) pixels."""
        encoder = self.encoder
        rows, columns = (side // encoder.patch_size for side in size)
        return frames // encoder.tubelet_size, rows, columns, encoder.dim

    def digest(self) -> str:
        """Hash all that decides the features: class, plain attributes of all parts, and tensors."""
        kinds = (bool, int, float, str, tuple)  # numbers and words, such as a number of heads
        digest = hashlib.sha256(type(self.encoder).__qualname__.encode())
        for name, module in self.encoder.named_modules():
            plain = {
                key: value
                for key, value in sorted(vars(module).items())
                if isinstance(value, kinds) and key != "training" and not key.startswith("_")
            }
            digest.update(f"\0{name} {type(module).__qualname__} {plain}".encode())
        for tensors in (self.encoder.named_parameters(), self.encoder.named_buffers()):
            for name, value in tensors:
                digest.update(f"\0{name} {tuple(value.shape)} {value.dtype}".encode())
                digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


class FixedClips(ABC):
    """Clips that are the same in every pass over the data.

    Attributes:
        frame_count: T.
        size: (H, W) of the frames, pixels.
    """

    frame_count: int
    size: Size

    @abstractmethod
    def __len__(self) -> int:
        """Number of clips, at least 1."""

    @abstractmethod
    def frames(self, index: int) -> npt.NDArray[np.uint8]:
        """(T, H, W, 3) uint8 RGB; called in worker processes."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Hash all that decides the frames of all clips."""


@dataclass(frozen=True)
class CachePlan:
    """Place and limits of cached features.

    Attributes:
        folder: of all caches.
        limit_gb: space that they may take together, 10^9 bytes; the ones used longest ago make room.
        workers: processes that read frames while others are encoded; 0: none.
    """

    folder: Path
    limit_gb: float = 20.0
    workers: int = 0

    def __post_init__(self) -> None:
        if not self.limit_gb > 0:
            raise SettingError(f"recipe.cache_limit_gb={self.limit_gb:g}: expected more than 0.")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder while caches are added or taken away; other processes wait here.

        Raises:
            OutputError: if the folder can't be made or written to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / "lock").open("ab")
            fcntl.flock(lock, fcntl.LOCK_EX)  # the system lets go of it when its holder ends, however it ends
        except OSError as error:
            raise OutputError(
                f"can't write cached features to {self.folder}: {error.strerror}. Give another "
                "folder with --cache, or set recipe.cache_features=false."
            ) from error
        with lock:
            yield

    def caches(self) -> list[FeatureFile]:
        """List all caches, the one used longest ago first."""
        files = [FeatureFile(path) for path in self.folder.iterdir() if path.is_dir()]
        return sorted(files, key=lambda file: file.folder.stat().st_mtime)

    def make_room(self, wanted: FeatureFile, needed: int) -> None:
        """Take away caches that were used longest ago, until another one fits.

        Args:
            wanted: stays.
            needed: bytes that it takes.

        Raises:
            SettingError: if it doesn't fit, with the numbers.
        """
        others = [file for file in self.caches() if file != wanted]
        taken, limit = sum(file.size() for file in others), self.limit_gb * GB
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
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise SettingError(
                f"features need {needed / GB:.3g} GB; the disk of {self.folder} has {free / GB:.3g} GB left. "
                "Free some space, lower recipe.cached_clips_per_video, or set recipe.cache_features=false."
            )


@dataclass(frozen=True)
class FeatureFile:
    """A cache: features of some clips, and which of them are there already.

    Attributes:
        folder: of this key alone, with ``features.npy``, ``done.npy`` and a mark of use.
    """

    folder: Path

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Tell if the files are there, for features (clips, S, h, w, D) of this shape."""
        if not (self.folder / "done.npy").exists():
            return False
        with suppress(ValueError, EOFError, OSError):  # cut short, or not there
            return self.mapped().shape == shape
        return False

    def create(self, shape: tuple[int, ...]) -> None:
        """Make files for features (clips, S, h, w, D), none of which is there yet."""
        with replacing(self.folder / "features.npy") as path:
            np.lib.format.open_memmap(path, "w+", np.float16, shape).flush()
        with replacing(self.folder / "done.npy") as path:
            np.save(path, np.zeros(shape[0], np.bool_))

    def mapped(self) -> npt.NDArray[np.float16]:
        """Map the features (clips, S, h, w, D); they are read where they are looked at."""
        features: npt.NDArray[np.float16] = np.load(self.folder / "features.npy", mmap_mode="r")
        return features

    def missing(self) -> list[int]:
        """List the clips whose features are not there."""
        indices: list[int] = np.flatnonzero(~np.load(self.folder / "done.npy")).tolist()
        return indices

    def write(self, indices: Sequence[int], features: npt.NDArray[np.float16]) -> None:
        """Add features of clips; they count as there once they have reached the disk.

        Raises:
            SettingError: if the disk is full.
        """
        mapped, path = self.mapped(), self.folder / "features.npy"
        # Written and not mapped: a full disk is then an error, and not the end of the process.
        try:
            with path.open("r+b") as file:
                for index, clip in zip(indices, features, strict=True):
                    file.seek(mapped.offset + index * clip.nbytes)  # type: ignore[attr-defined]
                    file.write(clip.tobytes())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise SettingError(f"can't write features to {path}: {error.strerror}.") from error
        done = np.load(self.folder / "done.npy", mmap_mode="r+")
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
        """Count the bytes that the files take or may come to take."""
        with suppress(FileNotFoundError):
            return sum(path.stat().st_size for path in self.folder.iterdir())
        return 0

    def remove(self) -> bool:
        """Take the files away; false if somebody uses them."""
        with (self.folder / "used").open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # somebody does, or the file system can't say
                return False
            shutil.rmtree(self.folder)
        return True


class CachedFeatures:
    """Features of fixed clips, mapped from a file.

    Args:
        file: complete.
    """

    def __init__(self, file: FeatureFile) -> None:
        self._file = file
        self._in_use = file.mark_used()
        self._mapped = file.mapped()

    def __len__(self) -> int:
        return len(self._mapped)

    def __getitem__(self, index: int) -> Tensor:
        """(S, h, w, D) float16 features of a clip, a copy."""
        return torch.from_numpy(np.array(self._mapped[index]))

    def __reduce__(self) -> tuple[Any, ...]:
        # Worker processes open the file again instead of being sent its content.
        return CachedFeatures, (self._file,)


def cached_features(encoder: FrozenEncoder, clips: FixedClips, plan: CachePlan) -> CachedFeatures:
    """Return features of clips as float16, from the cache where they are there and computed where not.

    Computed on a GPU where there is one, in bfloat16 where the hardware has it. One line in the log says
    how many were found.

    Args:
        encoder: of the features.
        clips: to encode.
        plan: where to keep them.

    Raises:
        SettingError: if they don't fit the limit or the disk, or a value overflows float16.
        OutputError: if the folder can't be written to.
        DecodeError: if frames can't be read.
        TrainingError: if a process that reads was killed.
    """
    key = hashlib.sha256(f"{_VERSION}\0{encoder.digest()}\0{clips.fingerprint()}".encode()).hexdigest()
    file = FeatureFile(plan.folder / key[:24])
    shape = (len(clips), *encoder.shape(clips.frame_count, clips.size))
    with plan.locked():
        if not file.fits(shape):
            plan.make_room(file, 2 * int(np.prod(shape)))
            file.create(shape)
        missing = file.missing()
        _fill(file, missing, encoder, clips, plan.workers)
        # Marked before others may look for room.
        cached = CachedFeatures(file)
        _LOG.info(
            "features: %d clips, %d found, %d computed, %.2g of %.3g GB",
            *(len(clips), len(clips) - len(missing), len(missing)),
            *(sum(each.size() for each in plan.caches()) / GB, plan.limit_gb),
        )
    return cached


@dataclass(frozen=True)
class _Frames(TorchDataset[tuple[int, Tensor]]):
    clips: FixedClips

    def __getitem__(self, index: int) -> tuple[int, Tensor]:
        return index, torch.from_numpy(np.ascontiguousarray(self.clips.frames(index)))


def _fill(
    file: FeatureFile, missing: list[int], encoder: FrozenEncoder, clips: FixedClips, workers: int
) -> None:
    device = encoder.device
    read = read_ahead(Subset(_Frames(clips), missing), workers, batch_size=_AT_ONCE)
    with reading_errors():
        for indices, frames in with_progress(read, len(missing), "Encoding clips", lambda p: len(p[0])):
            with autocast(device, best_precision(device)):
                features = encoder.features(frames.to(device, non_blocking=True))
            largest = features.abs().amax().item()
            if largest > torch.finfo(torch.float16).max:
                raise SettingError(
                    f"features of encoder {type(encoder.encoder).__name__} reach {largest:.3g}; they are "
                    "cached as float16, which ends at 65504. Set recipe.cache_features=false, or normalise "
                    "what it returns."
                )
            file.write(indices.tolist(), features.half().cpu().numpy())
