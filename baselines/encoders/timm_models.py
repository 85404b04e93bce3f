"""Models of timm by name: refused before they are built, or built, and their published weights.

Plain vision transformers are in `vit`; here are the others by their feature maps: EVA-02 and DINOv3, BEiT,
Swin, Hiera, SAM's image encoder and convolutional networks.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import timm
import torch
from timm.models.hiera import Hiera
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from ovvol_bench import Encoder, Features, Pretrained, SettingError, Weights, WeightsError
from ovvol_bench.errors import nearest
from ovvol_bench.nn.hub import hub_file
from ovvol_bench.registry.annotations import Layers, Side, Width
from ovvol_bench.weights import load_strict, local_weights, read_state

from .vit import NOT_NEEDED, FrameTransformer, needed

_HUB_FILE = "model.safetensors"


class FeatureMaps(Encoder):
    """Feature map of a network that sees every frame alone.

    Args:
        model: of timm, with ``forward_intermediates``.
        name: of it.
        stride: pixels between neighbouring features, which tells the map; None: the last one.

    The channels of a map may change in a last norm or neck: ``dim`` is what timm states until `build_timm`
    has looked.

    Raises:
        SettingError: if it has no such map.
    """

    tubelet_size = 1

    def __init__(self, model: torch.nn.Module, name: str, stride: int | None = None) -> None:
        super().__init__()
        if not hasattr(model, "forward_intermediates") or not hasattr(model, "feature_info"):
            raise SettingError(f"timm model '{name}' ({type(model).__name__}) gives no feature maps.")
        self.name = name
        self.model: Any = model  # of a library without types
        stated: Any = model.feature_info
        infos: list[dict[str, Any]] = list(getattr(stated, "info", stated))
        strides = [int(info["reduction"]) for info in infos]
        if stride is not None and stride not in strides:
            known = ", ".join(map(str, sorted(set(strides))))
            raise SettingError(f"timm model '{name}' has no map with stride={stride}; it has {known}.")
        self.patch_size = strides[-1] if stride is None else stride
        self._map = max(index for index, each in enumerate(strides) if each == self.patch_size)
        self._norm = not isinstance(model, Hiera)  # which has it in its classifier alone
        self.dim = int(infos[self._map]["num_chs"])
        published: Any = self.model.pretrained_cfg
        self.mean, self.std = (tuple(published[key]) for key in ("mean", "std"))

    def encode(self, video: Tensor) -> Features:
        height, width = video.shape[3:]
        try:
            (found,) = self.model.forward_intermediates(
                video.flatten(0, 1), indices=[self._map], norm=self._norm, intermediates_only=True
            )
        except torch.OutOfMemoryError:
            raise
        except (AssertionError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise SettingError(
                f"timm model '{self.name}' takes no frames of {height} x {width} pixels ({reason}). Set "
                f"-o encoder.image_size={height},{width}, or take a model that takes any size."
            ) from error
        return Features(found.permute(0, 2, 3, 1).unflatten(0, video.shape[:2]))

    def load_weights(self, path: Path) -> None:
        """Load a file of timm's, or one of a layout that timm converts for this network."""
        convert = getattr(sys.modules[type(self.model).__module__], "checkpoint_filter_fn", None)
        state = read_state(path)
        if convert is not None:
            state = convert(state, self.model)
        classifier = self.model.pretrained_cfg.get("classifier") or ()
        heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
        unused = (*NOT_NEEDED, *(f"{head}.*" for head in heads))
        load_strict(self.model, needed(state, self.model, unused), path)


def build_timm(
    *,
    model: str,
    weights: Annotated[str | None, Weights] = None,
    pretrained: Annotated[bool, Pretrained] = True,
    patch_size: Side | None = None,
    dim: Width | None = None,
    depth: Layers | None = None,
    heads: Layers | None = None,
    positions: Literal["official", "timm"] = "official",
    stride: int | None = None,
    image_size: int | tuple[int, int] | None = None,
) -> FrameTransformer | FeatureMaps:
    """Build a model of timm as an encoder.

    Args:
        model: a model of timm, with or without the tag of its weights: a plain vision transformer, or a
            network with feature maps (EVA-02, DINOv3, BEiT, Swin, Hiera, SAM, convolutional networks).
        weights: path of a file, .safetensors or PyTorch's, or of a folder from the Hugging Face hub, with
            timm's names or those of DINO, DINOv2, MAE or CLIP as published, or of ViT, ViT-MAE or DINOv2 in
            transformers; None: see ``pretrained``.
        pretrained: without ``weights``: take timm's published weights from the hub's cache or the network;
            false: random weights.
        patch_size: side of a patch, pixels; none: the model's own. Weights of another size are resampled.
        dim: width of the transformer; none: the model's own.
        depth: number of blocks; none: the model's own.
        heads: attention heads; none: the model's own.
        positions: of a plain transformer, resized to the frames as by the ``official`` program where it is
            known (DINO, DINOv2, MAE), or as by ``timm``.
        stride: of a network with feature maps, pixels between the features, which tells the map; none: the
            last.
        image_size: one number or height,width of the frames, for networks that are made for one size; none:
            any size, or the network's own.

    Raises:
        SettingError: if timm has no such model, or it gives no features of patches.
        WeightsError: if the weights can't be had, read, or do not fit.
    """
    architecture = model.partition(".")[0]
    if not timm.is_model(architecture):
        raise SettingError(
            f"timm has no model '{model}'.{nearest(architecture, timm.list_models())} "
            "See: timm.list_models('vit*')"
        )
    sizes = {"patch_size": patch_size, "embed_dim": dim, "depth": depth, "num_heads": heads}
    changed = {key: value for key, value in sizes.items() if value is not None}
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    # First without memory or numbers: what can't be used is refused before anything is built.
    with torch.device("meta"):
        channels = _channels(_wrapped(_created(model, changed, size), model, positions, stride))
    encoder = _wrapped(_created(model, changed, size), model, positions, stride)
    encoder.dim = channels
    if weights is not None:
        encoder.load_weights(local_weights(weights))
    elif pretrained:
        encoder.load_weights(published_file(encoder))
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
    """Return the published weights of a model, from the hub's cache or the network.

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
