"""Facts about what a result ran on: machine, libraries and the state of the code."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_CPUINFO = Path("/proc/cpuinfo")


def core_version() -> str:
    """Version of ovvol-bench."""
    return version("ovvol-bench")


@cache
def machine_facts(gpu: str | None = None) -> dict[str, Any]:
    """Names and sizes that explain a speed.

    Args:
        gpu: name of the GPU that was used, or None.
    """
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": gpu,
        "torch": _version_or_none("torch"),
        "python": platform.python_version(),
    }


@cache
def code_facts() -> dict[str, Any]:
    """Version of ovvol-bench and, in a git checkout, the commit and whether files differ from it."""
    root = Path(__file__).parents[2]
    commit = _git(root, "rev-parse", "HEAD") if (root / ".git").exists() else None
    changes = _git(root, "status", "--porcelain") if commit else None
    return {"version": core_version(), "commit": commit, "dirty": None if changes is None else bool(changes)}


def _version_or_none(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    if _CPUINFO.exists():
        for line in _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git(root: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
