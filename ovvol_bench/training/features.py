"""Features of a frozen encoder: computed on the fly, or once for clips that stay the same.

A cache is named by what decides its content: the encoder with its weights, and the clips. It is filled
before training starts; a fill that was cut off goes on where it was, and of several processes one fills
while the others wait.
"""

from __future__ import annotations

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Subset

from ovvol_bench.components import Encoder
from ovvol_bench.data.transforms import Size
from ovvol_bench.errors import SettingError
from ovvol_bench.pipeline import autocast, best_precision, encode
from ovvol_bench.progress import with_progress
from ovvol_bench.training.feature_files import GB, FeatureFile, FeatureFolder
from ovvol_bench.training.loader import read_ahead, reading_errors

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
        self.encoder.to(frames.device)
        video = frames.permute(0, 1, 4, 2, 3).float() / 255
        with torch.no_grad():
            encoder = self._prepared(frames.device)
            return encode(encoder, video, type(encoder).__name__).grid.float()

    def _prepared(self, device: torch.device) -> Encoder:
        """The encoder, or under an autocast to bfloat16 a copy of it that is made for that."""
        name = device.type
        if not torch.is_autocast_enabled(name) or torch.get_autocast_dtype(name) != torch.bfloat16:
            return self.encoder
        if self._quick is None:
            self._quick = deepcopy(self.encoder)
            self._quick.prepare(torch.bfloat16)
        return self._quick

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
        """Hash of all that decides the features: class, plain attributes of all parts, and tensors."""
        digest = hashlib.sha256(type(self.encoder).__qualname__.encode())
        for name, module in self.encoder.named_modules():
            digest.update(f"\0{name} {type(module).__qualname__} {_plain(module)}".encode())
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
        """Hash of all that decides the frames of all clips."""


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
        """Worker processes open the file again instead of being sent its content."""
        return CachedFeatures, (self._file,)


def cached_features(encoder: FrozenEncoder, clips: FixedClips, plan: CachePlan) -> CachedFeatures:
    """Features of clips as float16, from the cache where they are there and computed where not.

    Computed on a GPU where there is one, in bfloat16 where the hardware has it. One line in the log says
    how many were found.

    Args:
        encoder: of the features.
        clips: to encode.
        plan: where to keep them.

    Raises:
        SettingError: if they don't fit the limit or the disk, or a value overflows float16.
        DecodeError: if frames can't be read.
        TrainingError: if a process that reads was killed.
    """
    folder = FeatureFolder(plan.folder, plan.limit_gb)
    key = hashlib.sha256(f"{_VERSION}\0{encoder.digest()}\0{clips.fingerprint()}".encode()).hexdigest()
    with folder.locked():
        file = folder.file(key[:24], (len(clips), *encoder.shape(clips.frame_count, clips.size)))
        missing = file.missing()
        _fill(file, missing, encoder, clips, plan.workers)
        # Marked before others may look for room.
        cached = CachedFeatures(file)
        _LOG.info(
            "features: %d clips, %d found, %d computed, %.2g of %.3g GB",
            *(len(clips), len(clips) - len(missing), len(missing)),
            *(folder.size() / GB, plan.limit_gb),
        )
    return cached


def _fill(
    file: FeatureFile, missing: list[int], encoder: FrozenEncoder, clips: FixedClips, workers: int
) -> None:
    device = encoder.device
    parts = with_progress(
        _parts(clips, missing, workers), len(missing), "Encoding clips", lambda p: len(p[0])
    )
    with reading_errors():
        for indices, frames in parts:
            with autocast(device, best_precision(device)):
                features = encoder.features(frames.to(device, non_blocking=True))
            file.write(indices, _halved(features, encoder).cpu().numpy())


@dataclass(frozen=True)
class _Frames(TorchDataset[tuple[int, Tensor]]):
    clips: FixedClips

    def __getitem__(self, index: int) -> tuple[int, Tensor]:
        return index, torch.from_numpy(np.ascontiguousarray(self.clips.frames(index)))


def _parts(clips: FixedClips, missing: list[int], workers: int) -> Iterator[tuple[list[int], Tensor]]:
    """Indices and frames (B, T, H, W, 3) of the clips that are missing."""
    reader = Subset(_Frames(clips), missing)
    for indices, frames in read_ahead(reader, workers, batch_size=_AT_ONCE):
        yield indices.tolist(), frames


def _halved(features: Tensor, encoder: FrozenEncoder) -> Tensor:
    largest = features.abs().amax().item()
    if largest > torch.finfo(torch.float16).max:
        raise SettingError(
            f"features of encoder {type(encoder.encoder).__name__} reach {largest:.3g}; they are cached as "
            "float16, which ends at 65504. Set recipe.cache_features=false, or normalise what it returns."
        )
    return features.half()


def _plain(module: nn.Module) -> dict[str, object]:
    """Numbers and words that a module keeps as attributes, such as its number of heads."""
    kinds = (bool, int, float, str, tuple)
    found = {name: value for name, value in vars(module).items() if isinstance(value, kinds)}
    return {name: found[name] for name in sorted(found) if name != "training" and not name.startswith("_")}
