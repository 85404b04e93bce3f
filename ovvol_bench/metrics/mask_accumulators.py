"""The built-in metrics of masks and slots: accumulators of clips' contingency tables."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from ovvol_bench.arrays import Doubles
from ovvol_bench.benchmark import Metric, MetricValue
from ovvol_bench.detections import Detections
from ovvol_bench.errors import ContractError, DataError, SettingError
from ovvol_bench.metrics.contingency import (
    DROPPED,
    ClipTable,
    Groups,
    Identity,
    Overlaps,
    Resolution,
    check_slots,
    clip_table,
)
from ovvol_bench.metrics.conventions import USUAL, Conventions
from ovvol_bench.metrics.detection_masks import Unit, detection_tables
from ovvol_bench.metrics.segmentation import (
    adjusted_rand_index,
    best_overlaps,
    matched_by_frame,
    matched_overlaps,
)
from ovvol_bench.metrics.slots import SlotUsage, company, pieces, slot_usage
from ovvol_bench.metrics.truth import TruthTable
from ovvol_bench.predictions import ClipPrediction, own_part
from ovvol_bench.types import ClipInfo, Localization


class TableMetric(Metric):
    """A metric that is computed from one small record a clip.

    Clips may come in any order, spread over any number of accumulators that are merged, and more
    than once: none of this changes a result.
    """

    def __init__(self) -> None:
        self._clips: dict[str, Any] = {}

    @abstractmethod
    def record(self, clip: ClipPrediction) -> Any:
        """What the metric keeps of a clip's own frames, see ``own_part``."""

    def update(self, localization: Localization, clip: ClipInfo) -> None:
        """Add one clip; context frames and frames that could not be read are left out.

        Raises:
            ContractError: if localization and clip don't fit together.
            DataError: if the truth is not what the metric needs, or the clip came before with another
                content.
        """
        own = own_part(ClipPrediction(clip, localization.input_size or (0, 0), localization))
        self._add(clip.id, self.record(own))

    def merge(self, other: Metric) -> None:
        """Add the clips of another accumulator; a clip that both have counts once.

        Raises:
            ContractError: if the other metric is of another kind or has other settings.
            DataError: if a clip has another content there.
        """
        if not isinstance(other, TableMetric) or self.settings() != other.settings():
            raise ContractError(f"{type(self).__name__} can only be merged with one of the same settings")
        for clip, record in other._clips.items():
            self._add(clip, record)

    def settings(self) -> Mapping[str, object]:
        """What two metrics must share to be merged."""
        own = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return {"metric": type(self).__name__, **own}

    def in_order(self) -> list[Any]:
        """The records by clip id, in whatever order the clips came."""
        return [self._clips[clip] for clip in sorted(self._clips)]

    def _add(self, clip: str, record: Any) -> None:
        if not _same(self._clips.setdefault(clip, record), record):
            raise DataError(f"clip '{clip}' was added twice with different results")


class MaskMetric(TableMetric):
    """A metric on contingency tables of true masks and groups.

    The protocol says what is compared where, for example ``slots-frame``; the unit, what gets one
    table, is part of the numbers' names.

    Attributes:
        name: of the metric in messages.
        identity: what makes an object of a clip or video.
    """

    averages = True
    name: ClassVar[str]
    identity: Identity = "track"

    def __init__(
        self,
        groups: Groups = "slots",
        resolution: Resolution = "frame",
        unit: Unit = "clip",
        conventions: Conventions = USUAL,
    ) -> None:
        super().__init__()
        if conventions.upsampling == "bilinear" and resolution == "patch":
            raise SettingError("upsampling=bilinear enlarges masks to the frame; expected resolution=frame")
        self.protocol = f"{groups}-{resolution}{conventions.suffix}"
        self.unit = unit
        self.conventions = conventions
        self._groups: Groups = groups
        self._resolution: Resolution = resolution

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]  # read by others, set by nobody
        """See ``Metric``; ``slots`` beside, where the groups aren't segments in pixels."""
        tracks = {"tracks"} if self.unit != "image" else set()
        rows = {"true tracks"} if self._row == "track" else set()
        slots = set() if self._of_pixels else {"slots"}
        soft = {"soft masks"} if self.conventions.upsampling == "bilinear" else set()
        return frozenset({"masks", "true masks"} | tracks | rows | slots | soft)

    @abstractmethod
    def score(self, overlaps: Overlaps) -> Mapping[str, Doubles]:
        """The metric's numbers: (S,) values by table, NaN where undefined."""

    def check_truth(self, clip: ClipInfo) -> None:
        """Refuse a clip without truth.

        Raises:
            DataError: if it has none.
        """
        if clip.truth is None:
            raise DataError(
                f"clip '{clip.id}' has no truth; {self.name} needs a dataset with true masks, as shapes has"
            )

    def record(self, clip: ClipPrediction) -> ClipTable:
        """The clip's tables."""
        self.check_truth(clip.info)
        with self._named():
            chosen = self.conventions
            groups, resolution = self._groups, self._resolution
            return clip_table(clip, groups, resolution, self._row, chosen.upsampling, chosen.ignore)

    def score_detections(self, detections: Detections, table: TruthTable) -> Mapping[str, MetricValue]:
        """The metric's numbers on the masks of another program's detections.

        Raises:
            SettingError: if the metric is of slots or patches, which detections don't have.
            DataError: if masks or tracks are missing, or masks are of another size.
        """
        if not self._of_pixels:
            raise SettingError(
                f"{self.name} under {self.protocol} looks at slot maps, which detections don't have. Score "
                "their masks: -o metric.groups=segments -o metric.resolution=frame"
            )
        with self._named():
            ignore = self.conventions.ignore
            return self._conclude(list(detection_tables(detections, table, self.unit, self._row, ignore)))

    def compute(self) -> Mapping[str, MetricValue]:
        """Means over images, clips or videos that show an object; NaN where there is none."""
        return self._conclude(self.in_order())

    @property
    def _of_pixels(self) -> bool:
        """Whether groups are segments in pixels, as other programs' masks are."""
        hard = self.conventions.upsampling == "nearest"
        return self._groups == "segments" and self._resolution == "frame" and hard

    @property
    def _row(self) -> Identity:
        """What makes a row of this unit's tables."""
        return "frame" if self.unit == "image" and self.identity == "track" else self.identity

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors of the data say which metric needs it."""
        try:
            yield
        except DataError as error:
            raise DataError(f"{self.name}: {error}") from error

    def _conclude(self, tables: Sequence[ClipTable]) -> Mapping[str, MetricValue]:
        overlaps = join(tables, self.unit)
        objects = np.bincount(overlaps.foreground().row_sample, minlength=overlaps.samples)
        notes = {
            "without_objects": int((objects == 0).sum()),
            "single_object": int((objects == 1).sum()),
            "shared_points": sum(table.shared for table in tables),
            "unseen_objects": sum(table.unseen for table in tables),
        }
        if self.conventions.ignore == "crowds":
            notes["ignored_points"] = sum(table.ignored for table in tables)
        scores = self.score_tables(tables, overlaps)
        return {f"{name}_{self.unit}": _mean(value, notes) for name, value in scores.items()}

    def score_tables(self, tables: Sequence[ClipTable], overlaps: Overlaps) -> Mapping[str, Doubles]:
        """The values to average; of clips' tables frame by frame, and of them joined by the unit."""
        return self.score(overlaps)


class AdjustedRand(MaskMetric):
    """``ari_UNIT``; see ``segmentation.adjusted_rand_index``."""

    name = "ari"

    def score(self, overlaps: Overlaps) -> Mapping[str, Doubles]:
        """ARI of the tables that show an object."""
        return {"ari": np.where(overlaps.with_objects, adjusted_rand_index(overlaps), np.nan)}


class ForegroundAdjustedRand(MaskMetric):
    """``fg_ari_UNIT``: the same over the points of true objects."""

    name = "fg_ari"

    def score(self, overlaps: Overlaps) -> Mapping[str, Doubles]:
        """FG-ARI of the tables that show an object, or of all."""
        values = adjusted_rand_index(overlaps.foreground())
        return {"fg_ari": np.nan_to_num(values, nan=1.0) if self.conventions.empty == "one" else values}


class MeanBestOverlap(MaskMetric):
    """``mbo_instance_UNIT`` or ``mbo_class_UNIT``; see ``segmentation.best_overlaps``."""

    name = "mbo"

    def __init__(
        self,
        of: Literal["instance", "class"] = "instance",
        groups: Groups = "slots",
        resolution: Resolution = "frame",
        unit: Unit = "clip",
        conventions: Conventions = USUAL,
    ) -> None:
        super().__init__(groups, resolution, unit, conventions)
        self.of = of
        self.identity = "class" if of == "class" else "track"

    def score(self, overlaps: Overlaps) -> Mapping[str, Doubles]:
        """Mean best overlap of the tables that show an object."""
        background = self.conventions.background == "object"
        return {f"mbo_{self.of}": best_overlaps(overlaps, background).by_sample()}


class MatchedIoU(MaskMetric):
    """``miou_UNIT``; see ``segmentation.matched_overlaps`` and ``segmentation.matched_by_frame``.

    By frame the mean is over all objects of all samples at once, as in SOLV's evaluation.
    """

    name = "miou"

    def __init__(
        self,
        groups: Groups = "slots",
        resolution: Resolution = "frame",
        unit: Unit = "clip",
        conventions: Conventions = USUAL,
    ) -> None:
        super().__init__(groups, resolution, unit, conventions)
        if conventions.iou == "frames" and unit == "image":
            raise SettingError("iou=frames is of the frames of a clip or video; expected unit=clip or video")

    def score(self, overlaps: Overlaps) -> Mapping[str, Doubles]:
        """Mean IoU of the tables that show an object."""
        return {"miou": matched_overlaps(overlaps, self.conventions.background == "object").by_sample()}

    def score_tables(self, tables: Sequence[ClipTable], overlaps: Overlaps) -> Mapping[str, Doubles]:
        """See ``MaskMetric``."""
        if self.conventions.iou == "volume":
            return self.score(overlaps)
        _, sample_of_clip = _samples(tables, self.unit)
        samples = np.repeat(sample_of_clip, [table.overlaps.samples for table in tables])
        background = self.conventions.background == "object"
        return {"miou": matched_by_frame(join(tables, "image"), samples.astype(np.int64), background)}


class SplitsAndMerges(MaskMetric):
    """``over_segmentation_UNIT``, ``under_segmentation_UNIT``; see ``slots.pieces`` and ``slots.company``."""

    name = "splits_and_merges"
    higher_is_better = False

    def score(self, overlaps: Overlaps) -> Mapping[str, Doubles]:
        """Both, for the tables that show an object."""
        objects = overlaps.foreground()
        return {
            "over_segmentation": pieces(objects).by_sample(),
            "under_segmentation": company(objects).by_sample(),
        }


class SlotDiagnostics(TableMetric):
    """``active_slots``, ``slot_entropy`` and ``slot_stability``; see ``slots.slot_usage``.

    They describe, and need no truth: more isn't better as such, but a collapse shows.
    """

    averages = True
    needs = frozenset({"slots"})
    needs_truth: ClassVar[bool] = False

    def __init__(self, min_share: float = 0.01) -> None:
        if not 0 <= min_share <= 1:
            raise SettingError(f"min_share is {min_share}; expected a share between 0 and 1")
        super().__init__()
        self.protocol = "slots-patch"
        self.min_share = min_share

    def record(self, clip: ClipPrediction) -> SlotUsage:
        """The clip's use of its slots."""
        check_slots(clip)
        found = clip.localization
        return slot_usage(found.slot_map, len(found.segment_of_slot), self.min_share)

    def compute(self) -> Mapping[str, MetricValue]:
        """Means over clips; NaN where there are none."""
        clips: list[SlotUsage] = self.in_order()
        slots = {"slots": _mean([clip.slots for clip in clips]).value}
        return {
            "active_slots": _mean([clip.active for clip in clips], {**slots, "min_share": self.min_share}),
            "slot_entropy": _mean(
                [clip.entropy for clip in clips],
                {"effective_slots": _mean([clip.effective for clip in clips]).value},
            ),
            "slot_stability": _mean([clip.stability for clip in clips]),
        }


def join(tables: Sequence[ClipTable], unit: Unit) -> Overlaps:
    """The tables of clips as tables of images, clips or videos.

    Groups of different clips are different groups, also in one video: nothing says which slot of a
    clip goes on as which of the next. What was dropped is one column in all of them.
    """
    samples, sample_of_clip = _samples(tables, unit)
    parts = [np.zeros((4, 0), np.int64)]
    columns = 0
    for table, sample in zip(tables, sample_of_clip, strict=True):
        cells = table.overlaps
        group = np.where(cells.group == DROPPED, DROPPED, cells.group + columns)
        place = sample + cells.sample if unit == "image" else np.full_like(cells.sample, sample)
        parts.append(np.stack([place, cells.truth, group, cells.points]))
        columns += table.columns
    return Overlaps.of(np.concatenate(parts, axis=1), samples)


def _samples(tables: Sequence[ClipTable], unit: Unit) -> tuple[int, list[int]]:
    """Number of samples, and the first one of every clip."""
    if unit == "image":
        ends = np.cumsum([0, *(table.overlaps.samples for table in tables)]).tolist()
        return ends[-1], ends[:-1]
    if unit == "clip":
        return len(tables), list(range(len(tables)))
    videos = {video: index for index, video in enumerate(dict.fromkeys(table.video for table in tables))}
    return len(videos), [videos[table.video] for table in tables]


def _mean(values: Sequence[float] | Doubles, notes: Mapping[str, Any] | None = None) -> MetricValue:
    """Mean of the values that are defined."""
    defined = np.asarray(values, np.float64)
    defined = defined[~np.isnan(defined)]
    mean = float(defined.mean()) if len(defined) else math.nan
    return MetricValue(mean, len(defined), notes or {})


def _same(first: Any, second: Any) -> bool:
    """Whether two records hold the same, arrays included."""
    if is_dataclass(first):
        names = [field.name for field in fields(first)]
        return all(_same(getattr(first, name), getattr(second, name)) for name in names)
    both_undefined = isinstance(first, float) and math.isnan(first) and math.isnan(second)
    return both_undefined or bool(np.array_equal(first, second))
