"""The contract's checks, for plugin authors: from Python, pytest, or as ``ovvol-bench check KIND NAME``.

def test_my_grouper_keeps_the_contract():
    check_grouper(MyGrouper(num_slots=4)).raise_if_broken()
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ovvol_bench.data.base import Dataset
from ovvol_bench.metrics.base import Metric
from ovvol_bench.registry import Filled, FromEncoder, Registry
from ovvol_bench.runs.build import check_kind
from ovvol_bench.runs.plan import BASES, check_component
from ovvol_bench.testing.datasets import check_dataset
from ovvol_bench.testing.findings import Finding, Report
from ovvol_bench.testing.metrics import check_metric
from ovvol_bench.testing.networks import check_encoder, check_grouper, check_labeler

__all__ = [
    "Finding", "Report", "check_dataset", "check_encoder", "check_grouper", "check_labeler", "check_metric",
    "check_registered",
]  # fmt: skip

FEATURE_DIM, FRAMES = 32, 8


def check_registered(registry: Registry, kind: str, name: str, options: Mapping[str, Any]) -> Report:
    """Hold a component to the contract of its kind.

    Args:
        registry: knows the component.
        kind: encoder, grouper, labeler, dataset or metric.
        name: as registered.
        options: settings that differ from the factory's. A grouper's that follow from the
            encoder are those of the features that it is tried on unless they are set.

    Raises:
        UnknownNameError, SettingError: if the name or a setting is wrong.
    """
    if kind == "metric":
        check_kind(registry.build(kind, name, options), Metric, f"metric '{name}'")  # no finding
        return check_metric(lambda: registry.build(kind, name, options), name)
    if kind == "grouper":
        return _grouper(registry, name, options)
    component = _seeded(registry, kind, name, options)
    if kind == "dataset":
        check_kind(component, Dataset, f"dataset '{name}'")
        return check_dataset(component, name)
    return (check_encoder if kind == "encoder" else check_labeler)(component, name)


def _grouper(registry: Registry, name: str, options: Mapping[str, Any]) -> Report:
    tried: dict[Filled, int] = {FromEncoder("dim"): FEATURE_DIM, FromEncoder("steps"): FRAMES}
    known = registry.settings("grouper", name)
    settings = {each.name: tried[each.role] for each in known if each.role in tried} | dict(options)
    values = registry.resolve("grouper", name, settings)
    set_to = {each.role: values[each.name] for each in known if each.role in tried and values[each.name]}
    grouper = _seeded(registry, "grouper", name, settings)
    dim, steps = ({**tried, **set_to}[role] for role in tried)
    return check_grouper(grouper, name, dim, steps)


def _seeded(registry: Registry, kind: str, name: str, options: Mapping[str, Any]) -> Any:
    """Build a component; weights that nothing sets are drawn from a fixed seed, as in a run."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = registry.build(kind, name, options)
    if kind in BASES:
        check_component(built, kind, name)
    return built
