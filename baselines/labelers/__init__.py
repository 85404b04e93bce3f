"""Labelers to beat: CLIP's patches without training, crops, and two that bound what naming can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from ovvol_bench import Entry, FromDataset, Located, Pretrained, hookimpl
from ovvol_bench.registry.limits import Layers, Side, Width

if TYPE_CHECKING:
    from ovvol_bench import GuidedLabeler, Labeler, SlotLabeler


def build_clip(  # noqa: PLR0913 - keywords are the settings
    *,
    model: str = "ViT-B-16-quickgelu",
    pretrained: Annotated[str | None, Pretrained] = "openai",
    attention: Literal["vanilla", "identity", "qq", "kk", "vv", "qq+kk", "kk+gauss", "proxy"] = "vanilla",
    residual: bool = True,
    feed_forward: bool = True,
    last_blocks: Layers = 1,
    dual_path: bool = False,
    gauss_std: float = 5.0,
    proxy_shift: float = 1.2,
    proxy_scale: float = 3.0,
    normalize: bool = True,
) -> Labeler | GuidedLabeler:
    """Build the labeler.

    Args:
        model: name of a CLIP in open_clip, or ``custom`` for the one that ``pretrained`` holds and states.
        pretrained: where its weights come from: a tag of open_clip's (``openai``), a file, PACKAGE:NAME for
            one that comes with a plugin, or None for random ones.
        attention: how the changed blocks attend: queries to keys (vanilla), one of queries, keys and values
            to itself (qq, kk, vv), the sum of two softmaxes (qq+kk), keys with a bonus for near patches
            (kk+gauss), each token to itself (identity), or as an encoder's features are alike (proxy).
        residual: add what went into a changed block.
        feed_forward: apply its MLP.
        last_blocks: how many blocks are changed.
        dual_path: keep the blocks beside the changed attention, which reads their tokens and adds up.
        gauss_std: of the bonus, patches.
        proxy_shift: similarities below so many times their mean are cut off.
        proxy_scale: factor on the others.
        normalize: give patches length 1, as all of the papers do: long ones weigh no more in a slot.

    Raises:
        SettingError: if settings are unknown or do not fit together.
        WeightsError: if weights can't be had or do not fit.
    """
    from ovvol_bench.nn.clip.pretrained import load_clip

    from .attention import Attention
    from .dense_clip import DenseClip, ProxyClip

    path = (residual, feed_forward, last_blocks, dual_path)
    chosen = Attention(attention, *path, gauss_std, proxy_shift, proxy_scale)
    kind = ProxyClip if attention == "proxy" else DenseClip
    return kind(load_clip(model, pretrained), chosen, normalize)


def build_crop_clip(
    *,
    model: str = "ViT-B-16-quickgelu",
    pretrained: Annotated[str | None, Pretrained] = "openai",
    context: float = 0.0,
    outside: Literal["keep", "mean"] = "keep",
    frames: int | None = None,
) -> SlotLabeler:
    """Build the labeler.

    The box of every slot in every frame is cut out, stretched to CLIP's square and embedded as a picture of
    its own; a slot is the sum over its frames. No paper's: the obvious way, at one CLIP a box.

    Args:
        model: name of a CLIP in open_clip, or ``custom`` for the one that ``pretrained`` holds and states.
        pretrained: where its weights come from: a tag of open_clip's (``openai``), a file, PACKAGE:NAME for
            one that comes with a plugin, or None for random ones.
        context: share of a box's sides that is added to them, within the frame.
        outside: keep what the box shows of other slots, or paint it over with the mean colour.
        frames: so many frames of a clip at most, evenly spread; None for all.

    Raises:
        SettingError: if settings are unknown or do not fit together.
        WeightsError: if weights can't be had or do not fit.
    """
    from ovvol_bench.nn.clip.pretrained import load_clip

    from .crop_clip import CropClip, Crops

    return CropClip(load_clip(model, pretrained), Crops(context, outside, frames))


def build_prior(
    *, frequencies: Annotated[Path | None, Located] = None, temperature: float = 100.0
) -> Labeler:
    """Build the labeler.

    Args:
        frequencies: JSON file of counts by class name, {"dog": 12, ...}; None: all classes alike, and the
            first one is the name of everything.
        temperature: of naming; probabilities are then the frequencies.

    Raises:
        DataError: if the file holds anything else.
        SettingError: if the temperature isn't above 0.
    """
    from .prior import Prior, read_frequencies

    return Prior(read_frequencies(frequencies) if frequencies else None, temperature)


def build_oracle(
    *, num_classes: Annotated[Width, FromDataset("num_classes")] = 30, patch_size: Side = 8
) -> Labeler:
    """Build the labeler.

    Args:
        num_classes: foreground classes; follows from the dataset.
        patch_size: side of a patch, pixels.

    Raises:
        SettingError: if a number is below 1.
    """
    from .oracle import Oracle

    return Oracle(num_classes, patch_size)


@dataclass(frozen=True)
class Method:
    """A published use of CLIP's last blocks: `build_clip` with other defaults.

    Attributes:
        summary: one line for lists.
        source: paper, section, and what differs from it.
        defaults: settings that differ from `build_clip`'s.
    """

    summary: str
    source: str
    defaults: dict[str, Any] = field(default_factory=dict)

    def factory(self) -> Callable[..., Labeler | GuidedLabeler]:
        """`build_clip` with these defaults and a docstring that says where they come from."""
        made = FunctionType(build_clip.__code__, build_clip.__globals__, build_clip.__name__)
        made.__kwdefaults__ = {**(build_clip.__kwdefaults__ or {}), **self.defaults}
        made.__annotations__ = build_clip.__annotations__
        made.__doc__ = f"{self.source}\n\n    {build_clip.__doc__}"
        return made


_ALONE = {"residual": False, "feed_forward": False}
METHODS = {
    "vanilla": Method(
        "CLIP's own patch tokens, as the last block leaves them",
        "Radford et al., ICML 2021: the image tower as it is; its patch tokens were never trained.",
    ),
    "maskclip": Method(
        "MaskCLIP: the last block's values, no attention",
        "Zhou et al., 'Extract Free Dense Labels from CLIP', ECCV 2022, section 3.3, as its program has "
        "it for ViTs: residual and MLP are kept. Key smoothing and prompt denoising work on class scores "
        "and are left out.",
        {"attention": "identity"},
    ),
    "sclip": Method(
        "SCLIP: queries attend to queries, keys to keys",
        "Wang et al., 'SCLIP: Rethinking Self-Attention for Dense Vision-Language Inference', ECCV 2024, "
        "section 3: correlative self-attention in the last block, two softmaxes, residual and MLP kept.",
        {"attention": "qq+kk"},
    ),
    "naclip": Method(
        "NACLIP: keys attend to keys, near ones more",
        "Hajimiri et al., 'Pay Attention to Your Neighbours', WACV 2025, section 3: key-key attention with a "
        "Gaussian bonus of standard deviation 5 in the last block, without residual and MLP. No "
        "refinement by pixels (PAMR).",
        {"attention": "kk+gauss", **_ALONE},
    ),
    "clearclip": Method(
        "ClearCLIP: queries attend to queries, no residual, no MLP",
        "Lan et al., 'ClearCLIP: Decomposing CLIP Representations for Dense Vision-Language Inference', "
        "ECCV 2024, section 3: the last block without residual and MLP, query-query attention.",
        {"attention": "qq", **_ALONE},
    ),
    "clip_surgery": Method(
        "CLIP Surgery: value-value attention beside the last six blocks",
        "Li et al., 'CLIP Surgery for Better Explainability', 2023, section 3: architecture surgery, a "
        "second path of value-value attention with residual and without MLP over the last 6 blocks. "
        "Feature surgery weighs the whole vocabulary by the picture's class token and is left out, as "
        "naming is the same for every labeler.",
        {"attention": "vv", "feed_forward": False, "last_blocks": 6, "dual_path": True},
    ),
    "proxyclip": Method(
        "ProxyCLIP: the last block attends as the encoder's features are alike",
        "Lan et al., 'ProxyCLIP: Proxy Attention Improves CLIP for Open-Vocabulary Segmentation', ECCV "
        "2024, section 3: the run's encoder gives the attention of the last block, shift 1.2 and scale 3, "
        "without residual and MLP. Frames share the features of their step; a patch always attends to "
        "itself.",
        {"attention": "proxy", **_ALONE},
    ),
}


@hookimpl
def ovvol_labelers() -> Iterator[Entry]:
    """Register the labelers."""
    for name, method in METHODS.items():
        yield Entry(name, method.factory(), method.summary)
    yield Entry("crop_clip", build_crop_clip, "every slot's boxes, cut out, through the whole CLIP")
    yield Entry("prior", build_prior, "names by how frequent classes are: no look at the video")
    yield Entry("oracle", build_oracle, "the truth's own names: what naming could reach on the given slots")
