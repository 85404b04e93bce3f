"""Frames to measure on: a dataset's own, resized where asked, as many as are needed."""

from __future__ import annotations

from dataclasses import replace
from math import gcd

import numpy as np
import torch

from ovvol_bench.data.base import Dataset
from ovvol_bench.data.readers import Image
from ovvol_bench.data.transforms import Size, resize_frames
from ovvol_bench.errors import DataError
from ovvol_bench.files import canonical_digest
from ovvol_bench.registry import Filled, FromSize, Registry, load_registry
from ovvol_bench.runs.benchmark import clip_infos, fit
from ovvol_bench.runs.parts import pick_device
from ovvol_bench.runs.plan import Plan, make_plan
from ovvol_bench.runs.selection import Choice, Selection
from ovvol_bench.throughput.request import Request
from ovvol_bench.tuning import keep_freed_memory
from ovvol_bench.types import Clip, ClipInfo

PATCH = 16


class MeasuredClips(Dataset):
    """Clips of another dataset at one size; from the start again, under new ids, where it has too few.

    Args:
        dataset: whose clips.
        size: (height, width) that frames are resized to, pixels; None leaves them as they are.
        count: clips.

    Raises:
        DataError: by ``clip``, if frames that are left as they are have several sizes.
    """

    def __init__(self, dataset: Dataset, size: Size | None, count: int) -> None:
        self.vocabulary, self.skipped = dataset.vocabulary, dataset.skipped
        self._dataset, self._size, self._count = dataset, size, count
        self._shape: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return self._count

    def info(self, index: int) -> ClipInfo:
        return self._named(self._dataset.info(index % len(self._dataset)), index)

    def clip(self, index: int) -> Clip:
        clip = self._dataset.clip(index % len(self._dataset))
        frames = clip.frames
        if self._size not in (None, frames.shape[1:3]):
            frames = resize_frames(as_stored(clip), self._size, len(frames))
        self._shape = self._shape or frames.shape
        if frames.shape != self._shape:
            raise DataError(
                f"clips of this dataset differ in size: {self._shape[1:3]} and {frames.shape[1:3]}."
                " Choose what to resize them to, as in --sizes 224x400"
            )
        return Clip(self._named(clip.info, index), frames)

    def fingerprint(self) -> str:
        return canonical_digest([self._dataset.fingerprint(), self._size, self._count])

    def _named(self, info: ClipInfo, index: int) -> ClipInfo:
        turn = index // len(self._dataset)
        again = {name: f"{getattr(info, name)} again {turn}" for name in ("id", "video")}
        return replace(info, **again) if turn else info  # type: ignore[arg-type]


def as_stored(clip: Clip) -> Image:
    """Return a clip's frames as a decoder gives them, (T, H, W, 3) uint8."""
    stored: Image = np.rint(clip.frames * np.float32(255)).astype(np.uint8)
    return stored


def sized(registry: Registry, dataset: Choice, size: Size | None) -> Choice:
    """Let the dataset resize as it reads, where it can and nothing else was chosen."""
    if size is None:
        return dataset
    follows: dict[Filled, int] = {
        FromSize("short_side"): min(size),
        FromSize("multiple"): gcd(PATCH, *size),
    }
    return fit(registry, "dataset", dataset, follows)


def plan_at(
    selection: Selection, registry: Registry, device: torch.device, size: Size | None, count: int | None
) -> Plan:
    """Plan a selection on so many clips at one size, or on all of the dataset's (None)."""
    dataset = sized(registry, selection.datasets[0], size)
    plan = make_plan(replace(selection, limit=count), dataset, registry, device)
    clips = MeasuredClips(plan.dataset, size, count or len(plan.infos))
    spec = replace(plan.dataset_spec, digest=clips.fingerprint())
    return replace(plan, dataset=clips, dataset_spec=spec, infos=clip_infos(clips, None))


def start(request: Request) -> tuple[Registry, torch.device]:
    """Set up a measuring process: memory as in ``run``, threads, plugins, device."""
    keep_freed_memory()
    if request.threads:
        torch.set_num_threads(request.threads)
    return load_registry(request.plugins), pick_device(request.device)
