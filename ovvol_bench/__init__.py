"""ovvol-bench: unsupervised, open-vocabulary object localization in videos, measured.

Public names load on first use, so that importing this package, as every plugin does at discovery, brings in
neither torch nor any model library.
"""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the one list of public names; it is read as source below
    from ovvol_bench.api.evaluate import dataset as dataset
    from ovvol_bench.api.evaluate import evaluate as evaluate
    from ovvol_bench.api.localize import FrameObjects as FrameObjects
    from ovvol_bench.api.localize import LocalizedVideo as LocalizedVideo
    from ovvol_bench.api.localize import localize as localize
    from ovvol_bench.api.result import Comparison as Comparison
    from ovvol_bench.api.result import Result as Result
    from ovvol_bench.api.result import Results as Results
    from ovvol_bench.api.result import compare as compare
    from ovvol_bench.api.result import load_results as load_results
    from ovvol_bench.api.run import run as run
    from ovvol_bench.components import Encoder as Encoder
    from ovvol_bench.components import Grouper as Grouper
    from ovvol_bench.components import GuidedLabeler as GuidedLabeler
    from ovvol_bench.components import Labeler as Labeler
    from ovvol_bench.components import SlotLabeler as SlotLabeler
    from ovvol_bench.data.base import Dataset as Dataset
    from ovvol_bench.data.videos import open_videos as open_videos
    from ovvol_bench.errors import DataError as DataError
    from ovvol_bench.errors import DecodeError as DecodeError
    from ovvol_bench.errors import OvvolError as OvvolError
    from ovvol_bench.errors import SettingError as SettingError
    from ovvol_bench.errors import WeightsError as WeightsError
    from ovvol_bench.metrics.base import Metric as Metric
    from ovvol_bench.metrics.base import MetricValue as MetricValue
    from ovvol_bench.naming.vocabulary import Vocabulary as Vocabulary
    from ovvol_bench.registry import ClipLength as ClipLength
    from ovvol_bench.registry import Entry as Entry
    from ovvol_bench.registry import FromDataset as FromDataset
    from ovvol_bench.registry import FromEncoder as FromEncoder
    from ovvol_bench.registry import FromPredictions as FromPredictions
    from ovvol_bench.registry import FromSize as FromSize
    from ovvol_bench.registry import Lazy as Lazy
    from ovvol_bench.registry import Located as Located
    from ovvol_bench.registry import Pretrained as Pretrained
    from ovvol_bench.registry import Weights as Weights
    from ovvol_bench.registry import hookimpl as hookimpl
    from ovvol_bench.types import Clip as Clip
    from ovvol_bench.types import ClipInfo as ClipInfo
    from ovvol_bench.types import Features as Features
    from ovvol_bench.types import FrameTruth as FrameTruth
    from ovvol_bench.types import Localization as Localization
    from ovvol_bench.types import SlotMasks as SlotMasks

__version__: str

PLUGIN_API = (
    "ovvol_bench.arrays",
    "ovvol_bench.components",
    "ovvol_bench.data",
    "ovvol_bench.errors",
    "ovvol_bench.metrics.base",
    "ovvol_bench.naming",
    "ovvol_bench.nn",
    "ovvol_bench.registry",
    "ovvol_bench.training",
    "ovvol_bench.types",
    "ovvol_bench.weights",
)
"""Modules that a plugin may import from, beside the public names of this package; all others may change."""

# Importing the names would load torch, and a second list would have to be kept in step with the first.
_MODULE_OF = {
    alias.name: str(node.module)
    for block in ast.parse(Path(__file__).read_text("utf-8")).body
    if isinstance(block, ast.If)
    for node in block.body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
}
__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("ovvol-bench")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'ovvol_bench' has no attribute '{name}'")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return ["PLUGIN_API", "__version__", *__all__]
