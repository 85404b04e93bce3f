"""A run's predictions in the formats of other programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ovvol_bench.detections import Frames, Labels, detections_of, in_order
from ovvol_bench.errors import SettingError
from ovvol_bench.formats import Format
from ovvol_bench.formats.entries import Content
from ovvol_bench.metrics.linking import link_clips
from ovvol_bench.predictions import Predictions
from ovvol_bench.registry import Registry
from ovvol_bench.runs.build import clip_infos
from ovvol_bench.runs.predictions import read_predictions
from ovvol_bench.runs.rescore import same_dataset
from ovvol_bench.runs.selection import load_preset
from ovvol_bench.runs.spec import RunSpec
from ovvol_bench.runs.store import RunFolder


@dataclass(frozen=True)
class Export:
    """Settings of an export.

    Attributes:
        format: of the file.
        labels: each box under its best class, or under every class; see ``detections_of``.
        masks: whether to write masks.
        link: whether to join tracks over clips; see ``link_clips``.
        complete: whether to write what ``vid-reference`` alone counts, class 0 and segments that their
            frame doesn't show. None: with all labels, where the format can and tracks aren't joined.

    Raises:
        SettingError: if the format has no place for segments that aren't shown, or they are to be joined.
    """

    format: Format
    labels: Labels = "top1"
    masks: bool = False
    link: bool = False
    complete: bool | None = None

    def __post_init__(self) -> None:
        if self.complete and (self.link or not self.format.absent):
            reason = "--link joins boxes" if self.link else f"{self.format.name} says where by masks"
            raise SettingError(
                f"--complete writes segments that no frame shows, and {reason}. Drop one of them"
            )

    @property
    def writes_absent(self) -> bool:
        """Tell whether class 0 and segments that their frame doesn't show are written."""
        if self.complete is None:
            return self.labels == "all" and self.format.absent and not self.link
        return self.complete

    def lost(self, predictions: Predictions, frames: Frames) -> Iterator[str]:
        """Say what of a run the file leaves out, a line each.

        Args:
            predictions: of the run.
            frames: of its dataset.
        """
        yield "slots"
        if self.labels == "top1":
            yield "probabilities of all classes but the best, so that AP differs (kept with --labels all)"
        absent = int((~predictions.present).sum())
        if absent and not self.writes_absent:
            how = " (kept with --complete)" if self.format.absent and not self.link else ""
            yield f"{absent} boxes of segments that their frame doesn't show, which vid-reference counts{how}"
        if predictions.probabilities[:, :1].any() and not self.writes_absent:
            yield "class 0, the background, which some boxes may be named (kept with --complete)"
        missing = len(frames) - len(predictions.frame_indices)
        if missing:
            yield f"that {missing} frames of the dataset were not done: eval takes them for empty"
        yield "the size at which models saw frames: eval takes that of the dataset, as vid-reference needs it"
        if not self.masks and "masks" not in self.format.lost:
            yield "masks (kept with --masks)"
        yield from self.format.lost


def export_run(folder: RunFolder, registry: Registry, export: Export, path: Path) -> tuple[int, list[str]]:
    """Write a run's predictions.

    Args:
        folder: of the run.
        registry: builds the dataset.
        export: what to write.
        path: of the file, or of the folder for a format that is one.

    Returns:
        How many detections were written, and what the file can't say, see ``Export.lost``.

    Raises:
        DataError: if the folder is no run, its dataset has changed, or has no number for what was found.
        SettingError: if the format can't be written so.
    """
    dataset = same_dataset(registry, folder.read_spec())
    clips = in_order(clip_infos(dataset, None))
    frames = Frames.of(clips)
    predictions = read_predictions(folder.predictions, export.masks)
    found = detections_of(predictions, frames, export.labels, export.masks, export.writes_absent)
    if export.link:
        found = link_clips(found, clips)
    export.format.write(found, Content(frames, dataset.file_ids(), dataset.vocabulary.names), path)
    return len(found), [*export.lost(predictions, frames), *_metric_settings(registry, folder.read_spec())]


def _metric_settings(registry: Registry, spec: RunSpec) -> Iterator[str]:
    """Settings of the run's metrics that ``eval`` doesn't take by itself, as they are typed."""
    usual = load_preset("shapes").metrics
    for part in spec.metrics:
        own = [each.options for each in usual if each.name == part.name]
        for setting in registry.settings("metric", part.name):
            value = part.options.get(setting.name, setting.default)
            known = [options.get(setting.name, setting.default) for options in own] or [setting.default]
            if setting.role is None and value not in known:
                yield (
                    f"setting {setting.name} of {part.name}: give eval --metrics {part.name} "
                    f"-o metric.{setting.name}={value}"
                )
