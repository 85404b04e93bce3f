"""HOTA, IDF1, MOTA and identity switches, computed by the package trackeval.

Detections and truth are put in the form that its metrics take, a sequence at a time: a clip or video, and
in it one class. The definitions are in ``docs/metrics.md``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np

from ovvol_bench.arrays import Doubles, Ints, all_pairs, offsets_of
from ovvol_bench.detections import Detections
from ovvol_bench.errors import SettingError, check_installed
from ovvol_bench.metrics.base import DetectionMetric, IouType, MetricValue
from ovvol_bench.metrics.columns import check_boxes, check_classes
from ovvol_bench.metrics.truth import TruthTable
from ovvol_bench.metrics.tubes import (
    Items,
    Tubes,
    Unit,
    check_distinct,
    found_items,
    samples_of,
    shared_by_boxes,
    shared_by_masks,
    true_items,
)

FIELDS = {
    "hota": ("HOTA", "HOTA"),
    "deta": ("HOTA", "DetA"),
    "assa": ("HOTA", "AssA"),
    "loca": ("HOTA", "LocA"),
    "idf1": ("Identity", "IDF1"),
    "mota": ("CLEAR", "MOTA"),
    "id_switches": ("CLEAR", "IDSW"),
}
"""The metric and field of trackeval's that each number is."""

_AT_ONCE = 1 << 14
"""Pairs whose overlaps are taken together, about."""


class Tracking(DetectionMetric):
    """``hota_UNIT``, ``deta_UNIT``, ``assa_UNIT``, ``loca_UNIT``, ``idf1_UNIT`` and ``mota_UNIT``.

    The protocol is ``mot-box`` or ``mot-mask``. There is no ranking, so that each box counts once, under its
    best class.

    Args:
        iou_type: boxes or masks.
        unit: whether tracks live in a clip or in a whole video.
        class_agnostic: whether a track may follow an object of another class.
        min_score: detections of a lower score are left out; None: all count, as in trackeval.
        iou_threshold: from it on a detection meets an object, for IDF1, MOTA and switches.
        average: over all detections at once, or over the classes.
    """

    package: ClassVar[str] = "trackeval"
    numbers: ClassVar[Sequence[str]] = ("hota", "deta", "assa", "loca", "idf1", "mota")

    def __init__(
        self,
        *,
        iou_type: IouType = "box",
        unit: Unit = "clip",
        class_agnostic: bool = False,
        min_score: float | None = None,
        iou_threshold: float = 0.5,
        average: Literal["detections", "classes"] = "detections",
    ) -> None:
        if not 0 < iou_threshold <= 1:
            raise SettingError(f"iou_threshold is {iou_threshold}; expected above 0 and at most 1")
        super().__init__(f"mot-{iou_type}", iou_type, class_agnostic)
        self.unit, self.min_score, self.iou_threshold, self.average = unit, min_score, iou_threshold, average
        self.needs |= {"tracks", "true tracks"}

    def score(self, detections: Detections, table: TruthTable) -> Mapping[str, MetricValue]:
        """Compute the metric's numbers on detections with tracks.

        Returns:
            NaN without truth and detections. ``count``: true objects, frame by frame. Notes:
            ``detections`` (of a sufficient score), ``tracks``, ``classes``, ``detection_averaged`` and
            ``class_averaged``.

        Raises:
            DataError: if tracks or masks are missing, a track is in two places at once, a box is inverted,
                or a truth's class is not in the vocabulary.
            SettingError: if trackeval is not installed.
        """
        check_installed(self.package, "tracking", "tracking")
        check_boxes(detections)
        check_classes(table.classes, detections.classes)
        enough = (detections.class_ids > 0) | self.class_agnostic
        if self.min_score is not None:
            enough &= detections.scores >= self.min_score
        kept = detections.keep(enough)
        scene = Scene.of(kept, table, self.iou_type, self.unit, self.class_agnostic)
        metrics = self._metrics()
        by_class = _by_class(metrics, scene, self.class_agnostic)
        tracks = np.unique(np.stack([scene.found.sample, kept.tracks]), axis=1).shape[1]
        notes = {"detections": len(kept), "tracks": tracks, "classes": len(by_class)}
        values = {}
        for name in self.numbers:
            means = _averages(metrics, by_class, *FIELDS[name])
            value = means["class_averaged" if self.average == "classes" else "detection_averaged"]
            key = f"{name}_{self.unit}{self._suffix}"
            values[key] = MetricValue(value, len(table.classes), {**notes, **means})
        return values

    @property
    def _suffix(self) -> str:
        parts = [""]
        parts += ["agnostic"] if self.class_agnostic else []
        parts += ["classes"] if self.average == "classes" else []
        parts += [f"min{self.min_score:g}"] if self.min_score is not None else []
        parts += [f"iou{round(100 * self.iou_threshold)}"] if self.iou_threshold != 0.5 else []
        return "_".join(parts)

    def _metrics(self) -> dict[str, Any]:
        """Build trackeval's metrics by name."""
        from trackeval import metrics

        config = {"THRESHOLD": self.iou_threshold, "PRINT_CONFIG": False}
        names = sorted({FIELDS[name][0] for name in self.numbers})
        return {name: getattr(metrics, name)(config) for name in names}


class IdSwitches(Tracking):
    """``id_switches_UNIT``: how often the track that follows an object changes."""

    higher_is_better = False
    numbers = ("id_switches",)


@dataclass(frozen=True)
class Scene:
    """Detections and truth side by side.

    Attributes:
        found: the detections.
        truth: the true objects.
        shared: gives (P,) float64, the area that pairs of a true object and a detection of one frame share.
        samples: number of clips or videos.
    """

    found: Items
    truth: Items
    shared: Callable[[Ints, Ints], Doubles]
    samples: int

    @classmethod
    def of(
        cls, detections: Detections, table: TruthTable, iou_type: IouType, unit: Unit, class_agnostic: bool
    ) -> Scene:
        """Take all frames.

        Raises:
            DataError: if tracks or masks are missing, or a track is in two places at once.
        """
        samples = samples_of(table, unit)
        number = int(samples.max(initial=-1)) + 1
        found, truth = found_items(detections, samples, iou_type), true_items(table, samples, iou_type)
        check_distinct(detections, Tubes.of(found, number, class_agnostic))
        if iou_type == "box":
            boxes, corners = detections.boxes.astype(np.float64), table.boxes.astype(np.float64)
            return cls(found, truth, lambda thing, item: shared_by_boxes(corners, thing, boxes, item), number)
        areas = shared_by_masks(detections, table)
        first = offsets_of(detections.counts * table.counts)
        items, things = offsets_of(detections.counts), offsets_of(table.counts)

        def shared(thing: Ints, item: Ints) -> Doubles:
            frame = table.frame[thing]
            place = (item - items[frame]) * table.counts[frame] + thing - things[frame]
            return areas[first[frame] + place]

        return cls(found, truth, shared, number)

    def sequences(self, class_agnostic: bool) -> Iterator[tuple[int, int, dict[str, Any]]]:
        """Yield sample, class (0 if classes play no part) and data, for all that hold something."""
        things, items = (
            np.searchsorted(side.sample, np.arange(self.samples + 1)) for side in (self.truth, self.found)
        )
        for sample in range(self.samples):
            truth, found = (np.arange(*starts[sample : sample + 2]) for starts in (things, items))
            of_truth, of_found = self.truth.classes[truth], self.found.classes[found]
            classes = np.union1d(of_truth, of_found).tolist()
            if class_agnostic and classes:
                yield sample, 0, self._data(truth, found)
            for class_id in () if class_agnostic else classes:
                yield sample, class_id, self._data(truth[of_truth == class_id], found[of_found == class_id])

    def _data(self, truth: Ints, found: Ints) -> dict[str, Any]:
        """Put a sequence of some items in the form of trackeval."""
        # Frames without anything are left out, which changes no number.
        frames = np.unique(np.concatenate([self.truth.frame[truth], self.found.frame[found]]))
        data: dict[str, Any] = {"num_timesteps": len(frames)}
        bounds = []
        for name, side, rows in (("gt", self.truth, truth), ("tracker", self.found, found)):
            tracks, numbers = np.unique(side.tracks[rows], return_inverse=True)
            bounds.append([*np.searchsorted(side.frame[rows], frames).tolist(), len(rows)])
            data[f"{name}_ids"] = [numbers[start:end] for start, end in pairwise(bounds[-1])]
            data[f"num_{name}_ids"], data[f"num_{name}_dets"] = len(tracks), len(numbers)
        data["similarity_scores"] = list(self._overlaps(truth, found, *map(np.array, bounds)))
        return data

    def _overlaps(self, truth: Ints, found: Ints, things: Ints, items: Ints) -> Iterator[Doubles]:
        """Yield for each frame (m, d) IoU of its m true objects and d detections.

        Args:
            truth: true objects, frame by frame.
            found: detections, frame by frame.
            things: (F + 1,) where the true objects of each frame start.
            items: (F + 1,) where the detections of each frame start.
        """
        objects, detections = things[1:] - things[:-1], items[1:] - items[:-1]
        ends = np.cumsum(objects * detections)
        # Some frames at a time: the pairs of all of them would be many.
        cuts = np.searchsorted(ends, np.arange(0, ends[-1], _AT_ONCE)).tolist()
        for first, end in pairwise(sorted({0, *cuts, len(objects)})):
            thing, item = all_pairs(objects[first:end], detections[first:end])
            thing, item = truth[thing + things[first]], found[item + items[first]]
            shared = self.shared(thing, item)
            union = self.truth.areas[thing] + self.found.areas[item] - shared
            iou = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
            start = 0
            shapes = zip(objects[first:end].tolist(), detections[first:end].tolist(), strict=True)
            for rows, columns in shapes:
                yield iou[start : start + rows * columns].reshape(rows, columns)
                start += rows * columns


def _by_class(
    metrics: Mapping[str, Any], scene: Scene, class_agnostic: bool
) -> dict[int, dict[str, Mapping[str, Any]]]:
    """Evaluate the sequences of each class: by class id and metric, field to value."""
    parts: dict[int, dict[str, dict[int, Any]]] = defaultdict(lambda: defaultdict(dict))
    for sample, class_id, data in scene.sequences(class_agnostic):
        for name, metric in metrics.items():
            parts[class_id][name][sample] = metric.eval_sequence(data)
    return {
        class_id: {name: metrics[name].combine_sequences(sequences) for name, sequences in named.items()}
        for class_id, named in parts.items()
    }


def _averages(
    metrics: Mapping[str, Any], by_class: Mapping[int, Mapping[str, Any]], name: str, field: str
) -> dict[str, float]:
    """Average a field over all detections at once and over the classes; NaN without classes."""
    if not by_class:
        return {"detection_averaged": float("nan"), "class_averaged": float("nan")}
    parts = {class_id: scores[name] for class_id, scores in by_class.items()}
    pooled = metrics[name].combine_classes_det_averaged(parts)[field]
    means = metrics[name].combine_classes_class_averaged(parts)[field]
    return {"detection_averaged": float(np.mean(pooled)), "class_averaged": float(np.mean(means))}
