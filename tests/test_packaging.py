"""What a wheel holds: every package of the tree."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def test_every_folder_with_code_or_weights_is_packaged():
    found = set()
    for package, folder in SETUPTOOLS["package-dir"].items():
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in {".py", ".safetensors"}:
                found.add(".".join((package, *file.parent.relative_to(ROOT / folder).parts)))
    assert found == set(SETUPTOOLS["packages"])
