"""A run's predictions in the formats of other programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ovvol_bench.detections import Frames, Labels, detections_of, in_order
from ovvol_bench.formats.content import Content
from ovvol_bench.formats.registry import Format
from ovvol_bench.metrics.linking import link_clips
from ovvol_bench.registry import Registry
from ovvol_bench.runs.benchmark import clip_infos
from ovvol_bench.runs.predictions import read_predictions
from ovvol_bench.runs.rescore import same_dataset
from ovvol_bench.runs.store import RunFolder


@dataclass(frozen=True)
class Export:
    """How to write a run.

    Attributes:
        format: of the file.
        labels: each box under its best class, or under every class; see ``detections_of``.
        masks: whether to write masks.
        link: whether to join tracks over clips; see ``link_clips``.
    """

    format: Format
    labels: Labels = "top1"
    masks: bool = False
    link: bool = False

    def lost(self) -> Iterator[str]:
        """What of the run the file can't say, each in a few words."""
        yield "slots"
        if self.labels == "top1":
            yield "probabilities of all classes but the best"
        if not self.masks and "masks" not in self.format.lost:
            yield "masks (kept with --masks)"
        yield from self.format.lost


def export_run(folder: RunFolder, registry: Registry, export: Export, path: Path) -> int:
    """Write a run's predictions.

    Args:
        folder: of the run.
        registry: builds the dataset.
        export: what to write.
        path: of the file, or of the folder for a format that is one.

    Returns:
        How many detections were written.

    Raises:
        DataError: if the folder is no run, its dataset has changed, or has no number for what was found.
        SettingError: if the format can't be written so.
    """
    dataset = same_dataset(registry, folder.read_spec())
    clips = in_order(clip_infos(dataset, None))
    frames = Frames.of(clips)
    predictions = read_predictions(folder.predictions, export.masks)
    found = detections_of(predictions, frames, export.labels, export.masks)
    if export.link:
        found = link_clips(found, clips)
    export.format.write(found, Content(frames, dataset.file_ids(), dataset.vocabulary.names), path)
    return len(found)
