"""Every network, on a device that isn't the CPU."""

from functools import wraps

import pytest
from device.pretended import DEVICE, pretended_device

from ovvol_bench.registry import load_registry
from ovvol_bench.runs.selection import load_preset
from ovvol_bench.testing import check_registered, networks

REGISTRY = load_registry()
PRESET = load_preset("shapes")
TINY = {"pretrained": False, "dim": 32, "depth": 2, "heads": 4}
SMALL = {
    ("encoder", "timm"): {**TINY, "model": "vit_tiny_patch16_224"},
    **{("encoder", name): TINY for name in ("dino", "dinov2", "mae", "clip")},
}
NETWORKS = [(kind, name) for kind in ("encoder", "grouper", "labeler") for name in REGISTRY.names(kind)]


@pytest.mark.parametrize(("kind", "name"), NETWORKS, ids=[f"{kind}-{name}" for kind, name in NETWORKS])
def test_it_answers_on_the_device_what_it_answers_on_the_cpu(kind, name, monkeypatch):
    moves = networks.Contract.moves

    @wraps(moves)
    def pretended(contract):
        with pretended_device():
            moves(contract)

    monkeypatch.setattr(networks, "gpu", lambda: DEVICE)
    monkeypatch.setattr(networks.Contract, "moves", pretended)
    options = PRESET.options_for(kind, name) | SMALL.get((kind, name), {})
    report = check_registered(REGISTRY, kind, name, options)
    found = next(each for each in report.findings if "GPU" in each.promise)
    assert found.status == "held", found.reason[:300]
