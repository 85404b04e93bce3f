"""Requests for tiny components, measured in this process where a fresh one is not what is tested."""

from pathlib import Path

import pytest

from ovvol_bench.registry import load_registry
from ovvol_bench.runs.selection import load_preset, select
from ovvol_bench.throughput.request import Request

RUNS = Path(__file__).parents[1] / "runs"
PLUGIN = RUNS / "tiny_plugin.py"


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setenv("OVVOL_PLUGINS", "metrics")
    return load_registry((PLUGIN,))


@pytest.fixture
def request_for(registry):
    """A request for the tiny preset: ``names`` by kind, ``limit``, and fields of the request."""

    def make(names=None, settings=None, limit=None, **fields):
        preset = load_preset(str(RUNS / "tiny.yaml"))
        selection = select(preset, registry, names or {}, settings or {}, fidelity="fast", limit=limit)
        fields = {"sizes": ((32, 48),), "batch_sizes": (2,), "device": "cpu", **fields}
        return Request(selection, plugins=(PLUGIN,), **fields)

    return make
