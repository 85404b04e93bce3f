"""Fixtures shared by the whole suite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.register_assert_rewrite("golden_checks")


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of reference vectors: OVVOL_GOLDEN, or the copy beside the tests."""
    return Path(os.environ.get("OVVOL_GOLDEN", Path(__file__).parent / "golden"))
