"""Weights of a run: their digests, and folders of official checkpoints."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import nn

from ovvol_bench.errors import WeightsError

OFFICIAL_FILES = {
    "videomae.pth": ("encoder", "weights"),
    "grouping.pth": ("grouper", "weights"),
    "pacl.pth": ("labeler", "weights"),
    "clip.pt": ("labeler", "pretrained"),
}
"""File names that ``--weights-from`` looks for, and the setting that each goes to."""


def weights_digest(module: nn.Module) -> str | None:
    """Digest of parameters and persistent buffers: names, types, shapes and bytes.

    It is of what was loaded, not of the file, so that the same weights in another layout count as
    the same, and weights that a library fetched by name count at all.

    Returns:
        SHA-256, 64 hex digits; None for a module without any.
    """
    state = module.state_dict()
    if not state:
        return None
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def weights_from(folder: Path) -> dict[str, dict[str, str]]:
    """Settings that point to the official checkpoints in a folder.

    Args:
        folder: with the files of ``OFFICIAL_FILES``, or the same names ending in .safetensors.

    Returns:
        {kind: {setting: path}}, as ``-o`` would give them.

    Raises:
        WeightsError: listing what is missing.
    """
    found = {name: _existing(folder / name) for name in OFFICIAL_FILES}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise WeightsError(
            f"--weights-from {folder}: missing {', '.join(missing)}. Expected files: "
            f"{', '.join(OFFICIAL_FILES)}; rename or link them so, or give each file with "
            "-o encoder.weights=FILE, -o grouper.weights=FILE, -o labeler.weights=FILE."
        )
    settings: dict[str, dict[str, str]] = {}
    for name, (kind, setting) in OFFICIAL_FILES.items():
        settings.setdefault(kind, {})[setting] = str(found[name])
    return settings


def _existing(path: Path) -> Path | None:
    """The file, or the one of the same name that training writes."""
    return next((each for each in (path, path.with_suffix(".safetensors")) if each.is_file()), None)
