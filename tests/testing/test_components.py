"""Every component that comes with the harness keeps its contract."""

import pytest

from ovvol_bench.registry import load_registry
from ovvol_bench.runs.selection import load_preset
from ovvol_bench.testing import check_registered

REGISTRY = load_registry()
PRESET = load_preset("shapes")
TINY = {"pretrained": False, "dim": 32, "depth": 2, "heads": 4}
SMALL = {
    ("dataset", "shapes"): {"videos": 2, "split": "val"},
    ("encoder", "timm"): {**TINY, "model": "vit_tiny_patch16_224"},
    **{("encoder", name): TINY for name in ("dino", "dinov2", "mae", "clip")},
}
"""Settings that make a component quick to build, or possible without a network."""
NEEDS_FILES = {
    ("dataset", name)
    for name in ("imagenet-vid", "videos", "image-folder", "youtube-vis", "coco", "coco-vid", "movi")
}
"""Datasets of files, checked where their tests have made some."""

COMPONENTS = [
    (kind, name)
    for kind in ("encoder", "grouper", "labeler", "dataset", "metric")
    for name in REGISTRY.names(kind)
    if (kind, name) not in NEEDS_FILES
]


@pytest.mark.parametrize(("kind", "name"), COMPONENTS, ids=[f"{kind}-{name}" for kind, name in COMPONENTS])
def test_it_keeps_its_contract(kind, name):
    options = PRESET.options_for(kind, name) | SMALL.get((kind, name), {})
    report = check_registered(REGISTRY, kind, name, options)
    report.raise_if_broken()
    assert sum(finding.status == "held" for finding in report.findings) >= 6
