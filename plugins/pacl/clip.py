"""The CLIP towers that PACL stands on, built from open_clip's classes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import open_clip
from open_clip.transformer import TextTransformer, VisionTransformer
from torch import nn

from ovvol_bench import SettingError, WeightsError
from ovvol_bench.errors import nearest
from ovvol_bench.weights import load_strict, read_state

CUSTOM = "custom"
# Of both towers, of no use to either: the loss, and what OpenAI's files say about themselves.
_NOT_NEEDED = ("logit_scale", "logit_bias", "input_resolution", "context_length", "vocab_size")
_OPENAI_MARK = "input_resolution"


@dataclass(frozen=True)
class ClipNumbers:
    """The architecture of a CLIP that has no name.

    Attributes:
        embed_dim: channels of the space that images and texts share.
        patch_size: side of a patch, pixels.
        image_size: side of the images that positions are trained for, pixels.
        width, layers, heads: of the image tower.
        text_width, text_layers, text_heads: of the text tower.
        quick_gelu: x * sigmoid(1.702 x) in place of the exact GELU.

    Raises:
        SettingError: if the numbers do not fit together.
    """

    embed_dim: int
    patch_size: int
    image_size: int
    width: int
    layers: int
    heads: int
    text_width: int
    text_layers: int
    text_heads: int
    quick_gelu: bool = True

    def __post_init__(self) -> None:
        multiples = (
            ("image_size", "patch_size"),
            ("width", "heads"),
            ("text_width", "text_heads"),
        )
        for name, divisor in multiples:
            value, by = getattr(self, name), getattr(self, divisor)
            if value % by:
                raise SettingError(f"pacl: {name}={value} is not a multiple of {divisor}={by}.")

    def config(self) -> dict[str, Any]:
        """The same as a configuration of open_clip."""
        return {
            "embed_dim": self.embed_dim,
            "quick_gelu": self.quick_gelu,
            "vision_cfg": {
                "image_size": self.image_size,
                "patch_size": self.patch_size,
                "width": self.width,
                "layers": self.layers,
                "head_width": self.width // self.heads,
            },
            "text_cfg": {"width": self.text_width, "layers": self.text_layers, "heads": self.text_heads},
        }


@dataclass(frozen=True)
class ClipTowers:
    """A CLIP taken apart.

    Attributes:
        image: plain vision transformer with a class token.
        text: transformer over the 77 tokens of a prompt.
        quick_gelu: whether both use x * sigmoid(1.702 x).
        embed_dim: channels of the shared space.
    """

    image: VisionTransformer
    text: TextTransformer
    quick_gelu: bool
    embed_dim: int


def clip_config(model: str, numbers: dict[str, int | None], quick_gelu: bool = True) -> dict[str, Any]:
    """Find the configuration that the settings mean.

    Args:
        model: a name that open_clip knows, or ``custom``.
        numbers: values for `ClipNumbers` by name, all of them for ``custom``, none (all None) for a
            named model.
        quick_gelu: of a ``custom`` model.

    Raises:
        SettingError: for an unknown name, and for numbers that are missing or not wanted.
    """
    given = {name: value for name, value in numbers.items() if value is not None}
    if model == CUSTOM:
        missing = [item.name for item in fields(ClipNumbers) if item.name not in {*given, "quick_gelu"}]
        if missing:
            raise SettingError(f"pacl: model=custom also needs {', '.join(missing)}.")
        return ClipNumbers(**given, quick_gelu=quick_gelu).config()
    if given:
        raise SettingError(f"pacl: {', '.join(given)} can be set for model=custom only, not for {model!r}.")
    config = open_clip.get_model_config(model)
    if config is None:
        raise SettingError(
            f"pacl: unknown CLIP model {model!r}.{nearest(model, open_clip.list_models())} "
            f"Use a name of open_clip's or model=custom."
        )
    return dict(config)


def build_towers(config: dict[str, Any], model: str = CUSTOM) -> ClipTowers:
    """Build towers with random weights.

    Raises:
        SettingError: if the image tower is no plain vision transformer with a class token.
    """
    try:
        clip = open_clip.CustomTextCLIP(
            config["embed_dim"],
            config["vision_cfg"],
            {**config["text_cfg"]},
            quick_gelu=config.get("quick_gelu", False),
        )
    except TypeError as error:  # a configuration of another family of models
        raise SettingError(f"pacl: model {model!r} is not a plain CLIP ({error}).") from error
    return _take_apart(clip, config, model)


def pretrained_towers(config: dict[str, Any], model: str, pretrained: str) -> ClipTowers:
    """Build towers with published weights.

    Args:
        config: of the model.
        model: name of the model, ``custom`` allowed with a file.
        pretrained: path of a file with both towers under open_clip's or OpenAI's names, or one of
            open_clip's tags, such as ``openai``, which needs a network or open_clip's cache.

    Raises:
        SettingError: if the weights were trained with the other GELU.
        WeightsError: if the weights can't be had, or do not fit.
    """
    path = Path(pretrained).expanduser()
    if path.is_file():
        towers = build_towers(config, model)
        _load_both(towers, path)
        return towers
    tag = open_clip.get_pretrained_cfg(model, pretrained) if model != CUSTOM else {}
    if not tag:
        tags = [] if model == CUSTOM else open_clip.list_pretrained_tags_by_model(model)
        raise WeightsError(
            f"pacl: pretrained={pretrained!r} is no file, and no tag of {model!r} in open_clip "
            f"({', '.join(tags) or 'it has none'}).{nearest(pretrained, tags)}"
        )
    _refuse_other_gelu(tag.get("quick_gelu", False), config, f"pretrained={pretrained!r}")
    return _take_apart(_download(model, pretrained), config, model)


def _download(model: str, tag: str) -> nn.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            clip: nn.Module = open_clip.create_model(model, tag, force_custom_text=True)
            return clip
    except (RuntimeError, OSError) as error:
        raise WeightsError(
            f"pacl: the {tag!r} weights of {model!r} could not be fetched, and open_clip's cache does "
            f"not hold them. Fetch open_clip's file on a machine with a network and give it as "
            f"labeler.pretrained=PATH, or give labeler.weights a file that holds both towers."
        ) from error


def _take_apart(clip: nn.Module, config: dict[str, Any], model: str) -> ClipTowers:
    image, text = clip.visual, clip.text
    plain = isinstance(image, VisionTransformer) and image.attn_pool is None and image.pool_type == "tok"
    if not plain or not isinstance(text, TextTransformer):
        raise SettingError(
            f"pacl: model {model!r} is not a plain CLIP with a vision transformer and class token."
        )
    return ClipTowers(image, text, config.get("quick_gelu", False), config["embed_dim"])


def _load_both(towers: ClipTowers, path: Path) -> None:
    state = read_state(path)
    if _OPENAI_MARK in state and not towers.quick_gelu:
        _refuse_other_gelu(True, {"quick_gelu": False}, str(path))
    image = {name.removeprefix("visual."): v for name, v in state.items() if name.startswith("visual.")}
    text = {name.removeprefix("text."): v for name, v in state.items() if not name.startswith("visual.")}
    load_strict(towers.image, image, path)
    load_strict(towers.text, text, path, ignored=_NOT_NEEDED)


def _refuse_other_gelu(trained_with_quick: bool, config: dict[str, Any], what: str) -> None:
    if trained_with_quick != config.get("quick_gelu", False):
        better = "one ending in '-quickgelu'" if trained_with_quick else "one without '-quickgelu'"
        raise SettingError(
            f"pacl: {what} was trained with {'quick ' if trained_with_quick else 'exact '}GELU and the "
            f"model uses the other; features would be wrong. Set labeler.model to {better}."
        )
