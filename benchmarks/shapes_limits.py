"""What limits the default method on `shapes`: each part in turn replaced by one that knows the truth.

    python benchmarks/shapes_limits.py [SPLIT] [VIDEOS] [GROUPER]

Perfect slots are the truth's masks at the patch grid (the object or background that covers most of a patch);
a perfect labeler embeds every patch as the class that covers most of it. Naming and metrics are the
harness's own, so that what is left of 100 % with both is the patch grid's share.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import torch
from tabulate import tabulate

from ovvol_bench.components import Encoder, Grouper, Labeler
from ovvol_bench.data.base import Dataset
from ovvol_bench.fidelity import autocast, best_precision
from ovvol_bench.metrics.base import ColumnMetric
from ovvol_bench.metrics.corloc import CorLoc
from ovvol_bench.metrics.detrate import DetectionRate
from ovvol_bench.metrics.evaluation import held_out_ids
from ovvol_bench.metrics.vid_ap import VidAP
from ovvol_bench.naming.localize import name_pooled, pool_slots, winning_slots
from ovvol_bench.naming.prompts import Prompts, TextBank, build_prompts
from ovvol_bench.naming.settings import NamingSettings
from ovvol_bench.pipeline import clip_generator, embed, encode, group, stack
from ovvol_bench.registry import load_registry
from ovvol_bench.runs.selection import load_preset
from ovvol_bench.types import Clip, ClipInfo, Localization

SHOWN = ("corloc_any", "corloc_top1", "detrate", "ap50", "ap50_held_out")
PROTOCOL = "vid-reference"
CPU = torch.device("cpu")


def patch_truth(info: ClipInfo, patch: int) -> tuple[np.ndarray, np.ndarray]:
    """Track (0: background) and class id of every patch, (T, h, w) each."""
    tracks, classes = [], []
    for frame in info.truth or ():
        masks = np.zeros((0, *info.frame_size), bool) if frame.pixels is None else frame.pixels
        background = ~masks.any(axis=0, keepdims=True)
        every = np.concatenate([background, masks])
        cells = every.reshape(len(every), every.shape[1] // patch, patch, every.shape[2] // patch, patch)
        winner = cells.mean(axis=(2, 4)).argmax(axis=0)
        tracks.append(np.concatenate([[0], 1 + frame.track_ids])[winner])
        classes.append(np.concatenate([[0], frame.class_ids])[winner])
    return np.stack(tracks), np.stack(classes)


def perfect_text(prompts: Prompts, classes: int) -> TextBank:
    """Every prompt points along the axis of its class; all background words share axis 0."""
    axes = np.where(prompts.class_ids > classes, 0, prompts.class_ids)
    return TextBank.of(prompts, np.eye(classes + 1, dtype=np.float32)[axes])


class Limits:
    """The default method beside the truth, on one dataset."""

    def __init__(self, dataset: Dataset, grouper: str) -> None:
        preset, registry = load_preset("shapes"), load_registry()
        self.encoder: Encoder = registry.build("encoder", preset.encoder.name, preset.encoder.options).eval()
        self.grouper: Grouper = registry.build(
            "grouper", grouper, preset.options_for("grouper", grouper)
        ).eval()
        self.name = grouper
        self.labeler: Labeler = registry.build("labeler", preset.labeler.name, preset.labeler.options).eval()
        self.settings = NamingSettings(**preset.naming)
        self.dataset = dataset
        self.classes = len(dataset.vocabulary.classes)
        prompts = build_prompts(dataset.vocabulary, self.settings)
        rows = self.labeler.embed_text(prompts.texts).float().numpy()
        self.text = {"PACL": TextBank.of(prompts, rows), "truth": perfect_text(prompts, self.classes)}

    def slots(self, clip: Clip, tracks: np.ndarray) -> dict[str, torch.Tensor]:
        """(T, h, w) slot of every patch: found, and true."""
        draws = [clip_generator(0, clip.info.id, self.name)]
        with autocast(CPU, best_precision(CPU)):
            masks = group(self.grouper, encode(self.encoder, stack([clip], CPU)), draws).masks.float()
        return {
            self.name: winning_slots(masks[0], len(clip.frames)),
            "truth": torch.from_numpy(tracks),
        }

    def patches(self, clip: Clip, classes: np.ndarray) -> dict[str, torch.Tensor]:
        """(T, h, w, E) patch embeddings: PACL's, and the truth's."""
        with autocast(CPU, best_precision(CPU)):
            own = embed(self.labeler, stack([clip], CPU))[0].float()
        return {"PACL": own, "truth": torch.eye(self.classes + 1)[torch.from_numpy(classes)]}

    def localizations(self, clip: Clip) -> dict[tuple[str, str], Localization]:
        """By (slots, labels)."""
        tracks, classes = patch_truth(clip.info, self.encoder.patch_size)
        slots, patches = self.slots(clip, tracks), self.patches(clip, classes)
        size = clip.info.frame_size
        named = {
            (a, b): name_pooled(
                slots[a],
                pool_slots(slots[a], int(slots[a].max()) + 1, patches[b]),
                self.text[b],
                self.settings,
                size,
            )
            for a, b in product(slots, patches)
        }
        return {pair: replace(found, input_size=size) for pair, found in named.items()}


def metrics_of(dataset: Dataset) -> list[ColumnMetric]:
    """Fresh metrics."""
    held_out = held_out_ids(dataset.vocabulary)
    return [
        CorLoc(protocol=PROTOCOL),
        CorLoc(protocol=PROTOCOL, box="top1"),
        DetectionRate(protocol=PROTOCOL),
        VidAP(protocol=PROTOCOL, held_out=held_out),
    ]


def row_of(pair: tuple[str, str], metrics: Sequence[ColumnMetric]) -> dict[str, str]:
    """A row of the table."""
    values = {name: value for metric in metrics for name, value in metric.compute().items() if name in SHOWN}
    shown = {name: f"{100 * value.value:.1f}" for name, value in values.items()}
    return {"slots": pair[0], "labels": pair[1], **shown}


def main(split: str = "val", videos: str = "32", grouper: str = "slot_attention") -> None:
    """Print the table."""
    dataset: Dataset = load_registry().build("dataset", "shapes", {"split": split, "videos": int(videos)})
    limits = Limits(dataset, grouper)
    metrics = {pair: metrics_of(dataset) for pair in product((grouper, "truth"), ("PACL", "truth"))}
    with torch.inference_mode():
        for index in range(len(dataset)):
            clip = dataset.clip(index)
            for pair, found in limits.localizations(clip).items():
                for metric in metrics[pair]:
                    metric.update(found, clip.info)
    rows = [row_of(pair, metrics[pair]) for pair in metrics]
    sys.stdout.write(tabulate(rows, headers="keys", disable_numparse=True) + "\n")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
