"""Dataset and metrics of a run, built from the registry; imports no torch, so that scoring starts quickly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ovvol_bench.data.base import Dataset
from ovvol_bench.errors import ContractError, calling
from ovvol_bench.files import in_utf8
from ovvol_bench.metrics.base import Metric
from ovvol_bench.metrics.evaluation import held_out_ids
from ovvol_bench.naming.vocabulary import Vocabulary
from ovvol_bench.registry import Filled, FromDataset, Located, Registry
from ovvol_bench.runs.selection import Choice
from ovvol_bench.runs.spec import PartSpec
from ovvol_bench.types import ClipInfo


def build_dataset(registry: Registry, choice: Choice) -> tuple[PartSpec, Dataset]:
    """Open a dataset and return it with its spec, whose digest is the fingerprint.

    Raises:
        UnknownNameError, SettingError: if the name or a setting is wrong.
        DataError: if it can't be read.
    """
    spec = part_spec(registry, "dataset", choice)
    dataset: Dataset = registry.build("dataset", choice.name, spec.options)
    check_kind(dataset, Dataset, f"dataset '{choice.name}'")
    with calling(f"dataset '{choice.name}'"):
        return replace(spec, digest=dataset.fingerprint()), dataset


def build_metrics(
    registry: Registry, choices: Sequence[Choice], vocabulary: Vocabulary
) -> tuple[tuple[Metric, ...], tuple[PartSpec, ...]]:
    """Fresh metrics and their specs, in order.

    Settings that follow from the dataset (`FromDataset`) are filled in unless chosen.

    Raises:
        UnknownNameError, SettingError: if a name or a setting is wrong.
    """
    names = tuple(each.name for each in vocabulary.classes)
    follows: dict[Filled, Any] = {
        FromDataset("num_classes"): len(names),
        FromDataset("class_names"): names,
        FromDataset("held_out"): held_out_ids(vocabulary),
    }
    fitted = [fit(registry, "metric", choice, follows) for choice in choices]
    specs = tuple(part_spec(registry, "metric", choice) for choice in fitted)
    built = tuple(registry.build("metric", spec.name, spec.options) for spec in specs)
    for spec, metric in zip(specs, built, strict=True):
        check_kind(metric, Metric, f"metric '{spec.name}'")
    return built, specs


def check_kind(component: object, base: type, what: str) -> None:
    """Refuse what a factory built if it is no component of its kind.

    Raises:
        ContractError: says what it is.
    """
    if not isinstance(component, base):
        raise ContractError(
            f"{what}: its factory gave {type(component).__name__}; expected an instance of {base.__name__}."
        )


def fit(registry: Registry, kind: str, choice: Choice, follows: Mapping[Filled, Any]) -> Choice:
    """Fill in settings that follow from other parts, where the component has them and they weren't chosen."""
    settings = registry.settings(kind, choice.name)
    roles = {each.name: each.role for each in settings if isinstance(each.role, Filled)}
    fitted = {name: follows[role] for name, role in roles.items() if role in follows}
    return Choice(choice.name, {**fitted, **choice.options})


def part_spec(registry: Registry, kind: str, choice: Choice) -> PartSpec:
    """Return the spec of a part as chosen, with every setting resolved and without its digest.

    Raises:
        UnknownNameError, SettingError: if the name or a setting is wrong.
    """
    found = registry.find(kind, choice.name)
    options = registry.resolve(kind, choice.name, choice.options)
    return PartSpec(
        choice.name,
        options,
        found.origin,
        found.version,
        located=located(registry, kind, choice.name),
        code=found.code,
    )


def located(registry: Registry, kind: str, name: str) -> tuple[str, ...]:
    """Return the settings of a component that say where content lies."""
    return tuple(each.name for each in registry.settings(kind, name) if isinstance(each.role, Located))


def clip_infos(dataset: Dataset, limit: int | None) -> tuple[ClipInfo, ...]:
    """Return identity and truth of the first ``limit`` clips, or of all.

    Raises:
        ContractError: if the name of a clip or video is not UTF-8.
    """
    with calling(f"dataset {type(dataset).__name__}"):
        count = len(dataset) if limit is None else min(limit, len(dataset))
        infos = tuple(dataset.info(index) for index in range(count))
    for info in infos:
        if in_utf8(info.id) != info.id or in_utf8(info.video) != info.video:
            raise ContractError(
                f"dataset {type(dataset).__name__}: the name {in_utf8(info.id)} of a clip is not UTF-8. "
                "Rename the file, or let the dataset give names through ovvol_bench.files.in_utf8."
            )
    return infos
