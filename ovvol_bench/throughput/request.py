"""Request of ``bench``, and the configurations that follow from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from ovvol_bench.data.transforms import Size
from ovvol_bench.errors import SettingError
from ovvol_bench.registry import Pretrained, Registry
from ovvol_bench.runs.selection import Choice, Selection, load_preset

FIDELITIES: Mapping[str, tuple[str, ...]] = {
    "fast": ("fast",),
    "reference": ("reference",),
    "both": ("reference", "fast"),
}
"""Fidelities that a value of ``--fidelity`` stands for."""

STAND_IN = "shapes"
"""The dataset that lends frames where the one that is named can't be read; also the preset that sets it."""

STAND_IN_SIZES: tuple[Size, ...] = ((224, 400), (224, 224))
"""Sizes that its frames are measured at unless others are asked for: the paper's."""


@dataclass(frozen=True)
class Request:
    """Everything to measure: every combination of the selection at every size, batch size and fidelity.

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
        random_weights: whether the weights are drawn, see ``with_random_weights``.

    Raises:
        SettingError: if a number is out of range or given twice.
    """

    selection: Selection
    fidelities: tuple[str, ...] = ("fast",)
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
        parts = (chosen.encoders, chosen.groupers, chosen.labelers)
        combinations = list(product(*parts))
        if len(combinations) > 1:
            return f"{len(combinations)}-combinations"
        return "+".join(part.name for part in combinations[0])


@dataclass(frozen=True)
class Configuration:
    """One combination at one size, batch size and fidelity."""

    encoder: Choice
    grouper: Choice
    labeler: Choice
    size: Size | None
    batch_size: int
    fidelity: str

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


def at_fidelity(selection: Selection, fidelity: str) -> Selection:
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
    changed: dict[str, Any] = {
        f"{kind}s": _random(registry, kind, getattr(selection, f"{kind}s"))
        for kind in ("encoder", "grouper", "labeler")
    }
    return replace(selection, **changed)


def _random(registry: Registry, kind: str, choices: Sequence[Choice]) -> tuple[Choice, ...]:
    """Set the settings that weights come from to none, a flag among them to false."""

    def without(choice: Choice) -> Choice:
        sources = [each for each in registry.settings(kind, choice.name) if isinstance(each.role, Pretrained)]
        none = {each.name: False if isinstance(each.default, bool) else None for each in sources}
        return Choice(choice.name, {**choice.options, **none})

    return tuple(map(without, choices))


def _check_list(name: str, values: Sequence[object], numbers: Sequence[int]) -> None:
    if not values:
        raise SettingError(f"{name} names nothing to measure")
    if len(set(values)) != len(values):
        raise SettingError(f"{name} names a value twice: {values}")
    if any(number < 1 for number in numbers):
        raise SettingError(f"{name} must be at least 1, got {min(numbers)}")
