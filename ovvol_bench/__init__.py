"""ovvol-bench: unsupervised, open-vocabulary object localization in videos, measured.

Public names load on first use, so that importing this package, as every plugin does at discovery, brings in
neither torch nor any model library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ovvol_bench.api.evaluate import dataset, evaluate
    from ovvol_bench.api.localize import FrameObjects, LocalizedVideo, localize
    from ovvol_bench.api.results import Comparison, Result, Results, compare, load_results
    from ovvol_bench.api.run import run
    from ovvol_bench.benchmark import Dataset, Metric, MetricValue
    from ovvol_bench.components import Encoder, Grouper, GuidedLabeler, Labeler, SlotLabeler
    from ovvol_bench.data.videos import open_videos
    from ovvol_bench.errors import DataError, DecodeError, OvvolError, SettingError, WeightsError
    from ovvol_bench.naming.vocabulary import Vocabulary
    from ovvol_bench.registry import (
        ClipLength,
        Entry,
        FromDataset,
        FromEncoder,
        FromPredictions,
        FromSize,
        Lazy,
        Located,
        Pretrained,
        Weights,
        hookimpl,
    )
    from ovvol_bench.types import Clip, ClipInfo, Features, FrameTruth, Localization, SlotMasks

__version__: str

_HOME = {
    "ovvol_bench.api.evaluate": ["dataset", "evaluate"],
    "ovvol_bench.api.localize": ["FrameObjects", "LocalizedVideo", "localize"],
    "ovvol_bench.api.results": ["Comparison", "Result", "Results", "compare", "load_results"],
    "ovvol_bench.api.run": ["run"],
    "ovvol_bench.benchmark": ["Dataset", "Metric", "MetricValue"],
    "ovvol_bench.components": ["Encoder", "Grouper", "GuidedLabeler", "Labeler", "SlotLabeler"],
    "ovvol_bench.data.videos": ["open_videos"],
    "ovvol_bench.errors": ["DataError", "DecodeError", "OvvolError", "SettingError", "WeightsError"],
    "ovvol_bench.naming.vocabulary": ["Vocabulary"],
    "ovvol_bench.registry": [
        "ClipLength",
        "Entry",
        "FromDataset",
        "FromEncoder",
        "FromPredictions",
        "FromSize",
        "Lazy",
        "Located",
        "Pretrained",
        "Weights",
        "hookimpl",
    ],
    "ovvol_bench.types": ["Clip", "ClipInfo", "Features", "FrameTruth", "Localization", "SlotMasks"],
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

PLUGIN_API = (
    "ovvol_bench.arrays",
    "ovvol_bench.benchmark",
    "ovvol_bench.components",
    "ovvol_bench.data",
    "ovvol_bench.errors",
    "ovvol_bench.naming",
    "ovvol_bench.nn",
    "ovvol_bench.registry",
    "ovvol_bench.training",
    "ovvol_bench.truth",
    "ovvol_bench.types",
    "ovvol_bench.weights",
)
"""Modules that a plugin may import from, beside the public names of this package; all others may change."""

__all__ = [  # noqa: RUF022 - grouped by role
    "run", "localize", "evaluate", "dataset", "load_results", "compare",
    "Result", "Results", "Comparison", "LocalizedVideo", "FrameObjects",
    "Encoder", "Grouper", "Labeler", "GuidedLabeler", "SlotLabeler", "Dataset", "Metric",
    "Entry", "Lazy", "hookimpl",
    "Located", "Pretrained", "Weights", "FromEncoder", "FromDataset", "FromPredictions", "FromSize",
    "ClipLength",
    "Clip", "ClipInfo", "Features", "FrameTruth", "Localization", "MetricValue", "SlotMasks", "Vocabulary",
    "open_videos",
    "DataError", "DecodeError", "OvvolError", "SettingError", "WeightsError",
    "PLUGIN_API",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("ovvol-bench")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'ovvol_bench' has no attribute '{name}'")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return ["__version__", *__all__]
