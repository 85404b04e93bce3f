"""Labelers to beat: CLIP's patches without training, crops, and two that bound what naming can be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ovvol_bench import Entry, Lazy, hookimpl


@hookimpl
def ovvol_labelers() -> Iterator[Entry]:
    """Register the labelers; published uses of CLIP's last blocks are `build_clip` with other defaults."""
    here = "ovvol_baselines.labelers"

    def clip(name: str, summary: str, reference: str, **defaults: Any) -> Entry:
        return Entry(name, Lazy(f"{here}.dense_clip:build_clip", **defaults), summary, reference=reference)

    yield clip(
        "vanilla",
        "CLIP's own patch tokens, as the last block leaves them",
        "Radford et al., ICML 2021: the image tower as it is; its patch tokens were never trained.",
    )
    yield clip(
        "maskclip",
        "MaskCLIP: the last block's values, no attention",
        "Zhou et al., 'Extract Free Dense Labels from CLIP', ECCV 2022, section 3.3, as its program has "
        "it for ViTs: residual and MLP are kept. Key smoothing and prompt denoising work on class scores "
        "and are left out.",
        attention="identity",
    )
    yield clip(
        "sclip",
        "SCLIP: queries attend to queries, keys to keys",
        "Wang et al., 'SCLIP: Rethinking Self-Attention for Dense Vision-Language Inference', ECCV 2024, "
        "section 3: correlative self-attention in the last block, two softmaxes, residual and MLP kept.",
        attention="qq+kk",
    )
    yield clip(
        "naclip",
        "NACLIP: keys attend to keys, near ones more",
        "Hajimiri et al., 'Pay Attention to Your Neighbours', WACV 2025, section 3: key-key attention with a "
        "Gaussian bonus of standard deviation 5 in the last block, without residual and MLP. No "
        "refinement by pixels (PAMR).",
        attention="kk+gauss",
        residual=False,
        feed_forward=False,
    )
    yield clip(
        "clearclip",
        "ClearCLIP: queries attend to queries, no residual, no MLP",
        "Lan et al., 'ClearCLIP: Decomposing CLIP Representations for Dense Vision-Language Inference', "
        "ECCV 2024, section 3: the last block without residual and MLP, query-query attention.",
        attention="qq",
        residual=False,
        feed_forward=False,
    )
    yield clip(
        "clip_surgery",
        "CLIP Surgery: value-value attention beside the last six blocks",
        "Li et al., 'CLIP Surgery for Better Explainability', 2023, section 3: architecture surgery, a "
        "second path of value-value attention with residual and without MLP over the last 6 blocks. "
        "Feature surgery weighs the whole vocabulary by the picture's class token and is left out, as "
        "naming is the same for every labeler.",
        attention="vv",
        feed_forward=False,
        last_blocks=6,
        dual_path=True,
    )
    yield clip(
        "proxyclip",
        "ProxyCLIP: the last block attends as the encoder's features are alike",
        "Lan et al., 'ProxyCLIP: Proxy Attention Improves CLIP for Open-Vocabulary Segmentation', ECCV "
        "2024, section 3: the run's encoder gives the attention of the last block, shift 1.2 and scale 3, "
        "without residual and MLP. Frames share the features of their step; a patch always attends to "
        "itself.",
        attention="proxy",
        residual=False,
        feed_forward=False,
    )
    yield Entry(
        "crop_clip", f"{here}.crop_clip:CropClip", "every slot's boxes, cut out, through the whole CLIP"
    )
    yield Entry("prior", f"{here}.prior:Prior", "names by how frequent classes are: no look at the video")
    yield Entry(
        "oracle",
        "ovvol_baselines.oracle:OracleLabeler",
        "the truth's own names: what naming could reach on the given slots",
    )
