"""Request of ``bench``: combinations to measure, the frames for them, and the plans that follow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import gcd
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ovvol_bench.data.base import Dataset
from ovvol_bench.data.readers import Image
from ovvol_bench.data.transforms import Size, resize_frames
from ovvol_bench.errors import DataError, SettingError
from ovvol_bench.fidelity import DEFAULT, Fidelity
from ovvol_bench.files import canonical_digest
from ovvol_bench.registry import Filled, FromSize, Pretrained, Registry, load_registry
from ovvol_bench.runs.build import clip_infos, fit
from ovvol_bench.runs.plan import Plan, make_plan, pick_device
from ovvol_bench.runs.selection import Choice, Selection, load_preset
from ovvol_bench.runs.spec import RunSpec
from ovvol_bench.tuning import keep_freed_memory
from ovvol_bench.types import Clip, ClipInfo

FIDELITIES: Mapping[str, tuple[Fidelity, ...]] = {
    "fast": ("fast",),
    "reference": ("reference",),
    "both": ("reference", "fast"),
}
"""Fidelities that a value of ``--fidelity`` stands for."""

PATCH = 16
"""Side of the patches that sizes are cut into, pixels."""

STAND_IN = "shapes"
"""Dataset that lends frames where the one that is named can't be read; also the preset that sets it."""

STAND_IN_SIZES: tuple[Size, ...] = ((224, 400), (224, 224))
"""Sizes that its frames are measured at unless others are asked for: the paper's."""


@dataclass(frozen=True)
class Request:
    """Request to measure every combination of a selection at every size, batch size and fidelity.

    Attributes:
        selection: encoders, groupers and labelers, one dataset, one seed.
        fidelities: ``fast``, ``reference`` or both; of both, ``reference`` is measured at the smallest batch
            size alone.
        sizes: (height, width) of the frames that models see, pixels; None for the dataset's own.
        batch_sizes: clips that go through a component together.
        repeats: batches that are measured.
        warmup: batches before, that are not.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: of PyTorch; None for its own choice.
        workers: that read frames ahead; None as in ``Conduct``.
        plugins: files to load beside the installed plugins.
        preset: name of the preset that the selection was made from.
        random_weights: the weights are drawn, see ``with_random_weights``.

    Raises:
        SettingError: if a number is out of range or given twice.
    """

    selection: Selection
    fidelities: tuple[Fidelity, ...] = (DEFAULT,)
    sizes: tuple[Size | None, ...] = (None,)
    batch_sizes: tuple[int, ...] = (1, 4, 16)
    repeats: int = 5
    warmup: int = 1
    device: str = "auto"
    threads: int | None = None
    workers: int | None = None
    plugins: tuple[Path, ...] = ()
    preset: str = ""
    random_weights: bool = False

    def __post_init__(self) -> None:
        _check_list("--sizes", self.sizes, [side for size in self.sizes if size for side in size])
        _check_list("--batch-sizes", self.batch_sizes, self.batch_sizes)
        least = {"repeats": 1, "warmup": 0, "threads": 1, "workers": 1}
        for name, lowest in least.items():
            value = getattr(self, name)
            if value is not None and value < lowest:
                raise SettingError(f"--{name} must be at least {lowest}, got {value}")
        if len(self.selection.datasets) > 1:
            names = ", ".join(choice.name for choice in self.selection.datasets)
            raise SettingError(f"--dataset: a benchmark takes frames of one dataset, got {names}")

    @property
    def method(self) -> str:
        """Name the combination, or count them."""
        chosen = self.selection
        first, *others = product(chosen.encoders, chosen.groupers, chosen.labelers)
        return f"{1 + len(others)}-combinations" if others else "+".join(part.name for part in first)


class SizedJob(NamedTuple):
    """All combinations of a request at one size."""

    request: Request
    size: Size | None


@dataclass(frozen=True)
class Configuration:
    """Combination at one size, batch size and fidelity."""

    encoder: Choice
    grouper: Choice
    labeler: Choice
    size: Size | None
    batch_size: int
    fidelity: Fidelity

    @property
    def title(self) -> str:
        """Title for progress and errors."""
        names = f"{self.encoder.name}+{self.grouper.name}+{self.labeler.name}"
        return f"{names} {size_text(self.size)} batch {self.batch_size} {self.fidelity}"

    def of(self, selection: Selection) -> Selection:
        """Narrow a selection to this combination."""
        one = replace(selection, encoders=(self.encoder,), groupers=(self.grouper,), labelers=(self.labeler,))
        return at_fidelity(one, self.fidelity)


def size_text(size: Size | None) -> str:
    """Format a size as ``--sizes`` takes it."""
    return "own size" if size is None else f"{size[0]}x{size[1]}"


def configurations(request: Request) -> Iterator[Configuration]:
    """Yield what to measure, in order: sizes, combinations, batch sizes, ``reference`` first."""
    chosen = request.selection
    combinations = list(product(chosen.encoders, chosen.groupers, chosen.labelers))
    for size, parts in product(request.sizes, combinations):
        for batch_size, fidelity in product(sorted(request.batch_sizes), request.fidelities):
            beside_fast = fidelity == "reference" and "fast" in request.fidelities
            if not beside_fast or batch_size == min(request.batch_sizes):
                yield Configuration(*parts, size, batch_size, fidelity)


def at_fidelity(selection: Selection, fidelity: Fidelity) -> Selection:
    """Set the fidelity of a selection; bfloat16, where asked for, is for ``fast`` alone."""
    wrong = fidelity == "reference" and selection.precision == "bfloat16"
    return replace(selection, fidelity=fidelity, precision="auto" if wrong else selection.precision)


def with_frames(selection: Selection, registry: Registry) -> Selection:
    """Take frames of ``shapes`` if the dataset lacks a required setting, so that a preset needs no data."""
    (dataset,) = selection.datasets
    settings = registry.settings("dataset", dataset.name)
    if all(setting.name in dataset.options for setting in settings if setting.required):
        return selection
    return replace(selection, datasets=(Choice(STAND_IN, load_preset(STAND_IN).dataset.options),))


def with_random_weights(selection: Selection, registry: Registry) -> Selection:
    """Draw the weights of every network from a fixed seed: speed doesn't depend on them."""

    def drawn(kind: str, choice: Choice) -> Choice:
        sources = [each for each in registry.settings(kind, choice.name) if isinstance(each.role, Pretrained)]
        # A flag among the settings that weights come from is turned off, others are none.
        none = {each.name: False if isinstance(each.default, bool) else None for each in sources}
        return Choice(choice.name, {**choice.options, **none})

    changed: dict[str, Any] = {
        f"{kind}s": tuple(drawn(kind, choice) for choice in getattr(selection, f"{kind}s"))
        for kind in ("encoder", "grouper", "labeler")
    }
    return replace(selection, **changed)


def _check_list(name: str, values: Sequence[object], numbers: Sequence[int]) -> None:
    if not values:
        raise SettingError(f"{name} names nothing to measure")
    if len(set(values)) != len(values):
        raise SettingError(f"{name} names a value twice: {values}")
    if any(number < 1 for number in numbers):
        raise SettingError(f"{name} must be at least 1, got {min(numbers)}")


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


def names_of(spec: RunSpec) -> tuple[str, str, str]:
    """Return the names of encoder, grouper and labeler."""
    return spec.encoder.name, spec.grouper.name, spec.labeler.name
