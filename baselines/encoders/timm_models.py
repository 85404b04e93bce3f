"""Models of timm by name: refused before they are built, or built, and their published weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from timm.models.vision_transformer import VisionTransformer

from ovvol_bench import SettingError, WeightsError
from ovvol_bench.errors import nearest
from ovvol_bench.nn.hub import hub_file

from .feature_maps import FeatureMaps
from .vit import FrameTransformer

_HUB_FILE = "model.safetensors"


def build_model(
    name: str,
    sizes: Mapping[str, int | None],
    positions: Literal["official", "timm"] = "official",
    stride: int | None = None,
    image_size: tuple[int, int] | None = None,
) -> FrameTransformer | FeatureMaps:
    """A model of timm with random weights.

    Args:
        name: in timm, with or without the tag of its weights.
        sizes: ``patch_size``, ``embed_dim``, ``depth``, ``num_heads`` that differ from the model's own; None
            leaves the model's.
        positions: of a plain transformer, see `FrameTransformer`.
        stride: of a model with feature maps, see `FeatureMaps`.
        image_size: height and width of frames, for models that are made for one size.

    Raises:
        SettingError: if timm has no such model, it can't be used, or the sizes don't fit.
    """
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        raise SettingError(
            f"timm has no model '{name}'.{nearest(architecture, timm.list_models())} "
            "See: timm.list_models('vit*')"
        )
    changed = {key: value for key, value in sizes.items() if value is not None}
    # First without memory or numbers: what can't be used is refused before anything is built.
    with torch.device("meta"):
        channels = _channels(_wrapped(_created(name, changed, image_size), name, positions, stride))
    encoder = _wrapped(_created(name, changed, image_size), name, positions, stride)
    encoder.dim = channels
    return encoder


def _created(name: str, changed: Mapping[str, Any], image_size: tuple[int, int] | None) -> torch.nn.Module:
    """Built for frames of any size where the model can be, else for one size."""
    fixed = {"img_size": image_size} if image_size else {}
    errors = []
    for freedom in ([] if image_size else [{"dynamic_img_size": True}]) + [fixed]:
        try:
            return timm.create_model(name, pretrained=False, num_classes=0, **freedom, **changed)
        except (AssertionError, RuntimeError, TypeError, ValueError) as error:
            errors.append(error)
    given = {**changed, **({"image_size": image_size} if image_size else {})}
    reason = str(errors[-1]).partition("\n")[0] or "its sizes don't fit together"
    raise SettingError(f"timm model '{name}' with {given or 'its own sizes'}: {reason}") from errors[-1]


def _wrapped(
    model: torch.nn.Module, name: str, positions: Literal["official", "timm"], stride: int | None
) -> FrameTransformer | FeatureMaps:
    if not isinstance(model, VisionTransformer) or not hasattr(model.blocks[-1].attn, "qkv"):
        return FeatureMaps(model, name, stride)
    if stride is not None:
        raise SettingError(
            f"timm model '{name}' is a plain transformer: it has one map, and takes no stride."
        )
    return FrameTransformer(model, name, positions)


def _channels(encoder: FrameTransformer | FeatureMaps) -> int:
    """Channels of the features, D.

    Raises:
        SettingError: for a model whose features lie on no grid of equal cells.
    """
    published = encoder.model.pretrained_cfg["input_size"][1:]
    side = encoder.patch_size
    made_for = getattr(getattr(encoder.model, "patch_embed", None), "img_size", None)
    height, width = made_for or (-(-each // side) * side for each in published)
    model = f"timm model '{encoder.name}' ({type(encoder.model).__name__})"
    try:
        grid = encoder.eval().encode(torch.empty(1, 1, 3, height, width)).grid
    except (SettingError, AttributeError, LookupError, NotImplementedError, TypeError, ValueError) as error:
        reason = str(error.__cause__ or error).partition("\n")[0]
        raise SettingError(f"{model} gives no features of patches: {reason}") from error
    if grid.shape[2:4] != (height // side, width // side):
        raise SettingError(
            f"{model} gives {grid.shape[2]} x {grid.shape[3]} features of frames of {height} x {width} "
            f"pixels; expected one every {side} pixels."
        )
    return grid.shape[-1]


def published_file(encoder: FrameTransformer | FeatureMaps) -> Path:
    """The published weights of a model, from the hub's cache or the network.

    Raises:
        WeightsError: if there are none, or they can't be had.
    """
    repository = encoder.model.pretrained_cfg.get("hf_hub_id")
    if not repository:
        raise WeightsError(
            f"timm has no published weights for '{encoder.name}'. Give a file with -o encoder.weights=FILE,"
            " or set -o encoder.pretrained=false for random weights."
        )
    path = hub_file(repository, _HUB_FILE)
    if path is None:
        raise WeightsError(
            f"the weights of '{encoder.name}' are not in the hub's cache and could not be fetched. Fetch"
            f" {repository}/{_HUB_FILE} (Hugging Face hub) on a machine with a network and set"
            " -o encoder.weights=FILE, or -o encoder.pretrained=false for random weights."
        )
    return path
