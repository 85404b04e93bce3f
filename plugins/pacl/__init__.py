"""PACL labeler: patch-aligned CLIP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from ovvol_bench import Entry, Pretrained, Weights, WeightsError, hookimpl
from ovvol_bench.registry.limits import Layers, Side, Width

from .recipes import clip_recipe, pacl_recipe

if TYPE_CHECKING:
    from ovvol_bench import Labeler

BUNDLED = Path(__file__).parent / "weights"


def build_pacl(
    *,
    weights: Annotated[str | None, Weights] = None,
    model: str = "ViT-B-16-quickgelu",
    pretrained: Annotated[str | None, Pretrained] = "openai",
    pixel_statistics: Literal["clip", "imagenet"] = "clip",
    embed_dim: Width | None = None,
    patch_size: Side | None = None,
    image_size: Side | None = None,
    width: Width | None = None,
    layers: Layers | None = None,
    heads: Layers | None = None,
    text_width: Width | None = None,
    text_layers: Layers | None = None,
    text_heads: Layers | None = None,
    quick_gelu: bool | None = None,
) -> Labeler:
    """Build the labeler.

    Args:
        weights: path of a PACL checkpoint, or the name of one that comes with the plugin; None leaves
            the trained part random.
        model: name of a CLIP in open_clip, or ``custom``, stated by the numbers below; those not set
            are read from ``weights`` where that file states them.
        pretrained: where the CLIP's weights come from: a tag of open_clip's (``openai``), a file, or
            None for random ones. Not read where ``weights`` holds a text tower.
        pixel_statistics: ``clip``, or ``imagenet`` as the reference's evaluation has it.
        embed_dim: custom: channels of the shared space.
        patch_size: custom: side of a patch, pixels.
        image_size: custom: side of the images that positions are trained for, pixels; those of ``weights``
            are resized to it.
        width: custom: width of the image tower.
        layers: custom: blocks of the image tower.
        heads: custom: attention heads of the image tower.
        text_width: custom: width of the text tower.
        text_layers: custom: blocks of the text tower.
        text_heads: custom: attention heads of the text tower.
        quick_gelu: custom: x * sigmoid(1.702 x) in place of the exact GELU; by
            default true.

    Raises:
        SettingError: if settings are unknown or do not fit together.
        WeightsError: if weights can't be had or do not fit.
    """
    from ovvol_bench.nn.clip.files import holds_text, stored_numbers
    from ovvol_bench.nn.clip.pretrained import load_pretrained
    from ovvol_bench.nn.clip.towers import build_towers, clip_config
    from ovvol_bench.weights import read_state, resolve_weights

    from .checkpoint import load_state, with_positions_for
    from .model import PaclLabeler

    numbers = {
        "embed_dim": embed_dim,
        "patch_size": patch_size,
        "image_size": image_size,
        "width": width,
        "layers": layers,
        "heads": heads,
        "text_width": text_width,
        "text_layers": text_layers,
        "text_heads": text_heads,
        "quick_gelu": quick_gelu,
    }
    path = resolve_weights(weights, BUNDLED) if weights is not None else None
    state = read_state(path) if path else {}
    complete = holds_text(state)
    if path and not complete and pretrained is None:
        raise WeightsError(
            f"{path}: holds no text tower, and labeler.pretrained=none. Set labeler.pretrained to the "
            f"CLIP that these weights were trained on (openai, or a file)."
        )
    config = clip_config(model, numbers, stored_numbers(path) if path else None)
    towers = build_towers(config, model)
    if pretrained is not None and not complete:
        load_pretrained(towers, model, pretrained)
    labeler = PaclLabeler(towers, pixel_statistics)
    if path:
        fitting = state if image_size is None else with_positions_for(labeler, state, path)
        load_state(labeler, fitting, path)
    return labeler


@hookimpl
def ovvol_labelers() -> Iterator[Entry]:
    """Register the labeler."""
    yield Entry(
        "pacl",
        build_pacl,
        "PACL: CLIP with a trained head that aligns patches with text",
        recipes={"pacl": pacl_recipe, "clip": clip_recipe},
    )
