"""HOTA, IDF1, MOTA and identity switches, computed by the package trackeval.

Detections and truth are put in the form that its metrics take, a sequence at a time: a clip or video, and
in it one class. The definitions are in ``docs/metrics.md``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ovvol_bench.arrays import Doubles, Ints, offsets_of
from ovvol_bench.benchmark import MetricValue
from ovvol_bench.detections import Detections
from ovvol_bench.errors import check_installed
from ovvol_bench.metrics.coco import IouType
from ovvol_bench.metrics.columns import check_boxes, check_classes
from ovvol_bench.metrics.truth import TruthTable
from ovvol_bench.metrics.tubes import (
    Items,
    Tubes,
    Unit,
    check_distinct,
    found_items,
    mask_pairs,
    samples_of,
    true_items,
)

Average = Literal["detections", "classes"]
Scores = Mapping[str, Mapping[str, Any]]
"""What trackeval's metrics, by name, say of some sequences: field to value."""

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


@dataclass(frozen=True)
class TrackingSettings:
    """What is compared.

    Attributes:
        iou_type: boxes or masks.
        unit: whether tracks live in a clip or in a whole video.
        class_agnostic: whether a track may follow an object of another class.
        min_score: detections of a lower score are left out; None: all count, as in trackeval.
        iou_threshold: at which a detection meets an object, for IDF1, MOTA and switches.
        average: over all detections at once, or over the classes.
    """

    iou_type: IouType = "box"
    unit: Unit = "clip"
    class_agnostic: bool = False
    min_score: float | None = None
    iou_threshold: float = 0.5
    average: Average = "detections"


@dataclass(frozen=True)
class Side:
    """The detections or the true objects of all frames.

    Attributes:
        items: frame by frame.
    """

    items: Items

    def of(self, sample: int, class_id: int) -> Ints:
        """Which items are in a sample and of a class; 0 for any."""
        start, end = np.searchsorted(self.items.sample, [sample, sample + 1])
        rows = np.arange(start, end)
        return rows if class_id == 0 else rows[self.items.classes[rows] == class_id]

    def classes(self, sample: int) -> Ints:
        """The classes of a sample's items."""
        return np.unique(self.items.classes[self.of(sample, 0)])


@dataclass(frozen=True)
class Scene:
    """Detections and truth side by side.

    Attributes:
        found: the detections.
        truth: the true objects.
        similar: gives (m, d) float64, the overlap of some true objects with some detections of one frame.
        samples: number of clips or videos.
    """

    found: Side
    truth: Side
    similar: Callable[[Ints, Ints], Doubles]
    samples: int

    @classmethod
    def of(cls, detections: Detections, table: TruthTable, settings: TrackingSettings) -> Scene:
        """All frames.

        Raises:
            DataError: if tracks or masks are missing, or a track is in two places at once.
        """
        samples = samples_of(table, settings.unit)
        number = int(samples.max(initial=-1)) + 1
        found = found_items(detections, samples, settings.iou_type)
        truth = true_items(table, samples, settings.iou_type)
        check_distinct(detections, Tubes.of(found, number, settings.class_agnostic))
        shared = _shared_boxes if settings.iou_type == "box" else _shared_masks
        share = shared(detections, table)

        def similar(things: Ints, items: Ints) -> Doubles:
            both = share(things, items)
            union = truth.areas[things][:, None] + found.areas[items] - both
            return np.divide(both, union, out=np.zeros_like(both), where=union > 0)

        return cls(Side(found), Side(truth), similar, number)

    def sequences(self, class_agnostic: bool) -> Iterator[tuple[int, int, dict[str, Any]]]:
        """Sample, class (0 if classes play no part) and data, for all that hold something."""
        for sample in range(self.samples):
            classes = np.union1d(self.found.classes(sample), self.truth.classes(sample)).tolist()
            for class_id in [0] * bool(classes) if class_agnostic else classes:
                yield sample, class_id, self._data(sample, class_id)

    def _data(self, sample: int, class_id: int) -> dict[str, Any]:
        """A sequence as trackeval has it; frames without anything are left out, which changes no number."""
        sides = {"gt": self.truth, "tracker": self.found}
        rows = {name: side.of(sample, class_id) for name, side in sides.items()}
        frames = np.unique(np.concatenate([side.items.frame[rows[name]] for name, side in sides.items()]))
        data: dict[str, Any] = {"num_timesteps": len(frames)}
        places = {}
        for name, side in sides.items():
            tracks, numbers = np.unique(side.items.tracks[rows[name]], return_inverse=True)
            ends = np.searchsorted(side.items.frame[rows[name]], frames, side="right")[:-1]
            data[f"{name}_ids"] = np.split(numbers, ends)
            data[f"num_{name}_ids"], data[f"num_{name}_dets"] = len(tracks), len(numbers)
            places[name] = np.split(rows[name], ends)
        data["similarity_scores"] = list(map(self.similar, places["gt"], places["tracker"]))
        return data


def _shared_boxes(detections: Detections, table: TruthTable) -> Callable[[Ints, Ints], Doubles]:
    """Gives what the boxes of true objects and detections share, by frame: all at once are many."""
    found, truth = detections.boxes.astype(np.float64), table.boxes.astype(np.float64)

    def shared(things: Ints, items: Ints) -> Doubles:
        first, second = truth[things][:, None], found[items]
        sides = np.minimum(first[..., 2:], second[:, 2:]) - np.maximum(first[..., :2], second[:, :2]) + 1
        np.maximum(sides, 0, out=sides)
        areas: Doubles = sides[..., 0] * sides[..., 1]
        return areas

    return shared


def _shared_masks(detections: Detections, table: TruthTable) -> Callable[[Ints, Ints], Doubles]:
    """Gives what the masks of true objects and detections of one frame share."""
    pairs = mask_pairs(detections, table)
    first = offsets_of(detections.counts * table.counts)
    items, things = offsets_of(detections.counts), offsets_of(table.counts)

    def shared(thing: Ints, item: Ints) -> Doubles:
        if not len(thing) or not len(item):
            return np.zeros((len(thing), len(item)))
        frame = table.frame[thing[0]]
        place = (item - items[frame]) * table.counts[frame] + (thing - things[frame])[:, None]
        areas: Doubles = pairs.shared[first[frame] + place]
        return areas

    return shared


def tracking_values(
    detections: Detections, table: TruthTable, settings: TrackingSettings, numbers: Sequence[str], suffix: str
) -> dict[str, MetricValue]:
    """Some of the numbers in ``FIELDS``.

    Args:
        detections: with tracks, in the frames of the table.
        table: truth of clips in order, with tracks.
        settings: what is compared.
        numbers: names.
        suffix: what stands at their end.

    Returns:
        Their values; NaN without truth and detections. ``count``: true objects, frame by frame. Notes:
        ``detections`` (of a sufficient score), ``tracks``, ``classes``, ``detection_averaged`` and
        ``class_averaged``.

    Raises:
        DataError: if tracks or masks are missing, a track is in two places at once, a box is inverted,
            or a truth's class is not in the vocabulary.
        SettingError: if trackeval is not installed.
    """
    check_installed("trackeval", "tracking", "tracking")
    check_boxes(detections)
    check_classes(table.classes, detections.classes)
    enough = (detections.class_ids > 0) | settings.class_agnostic
    if settings.min_score is not None:
        enough &= detections.scores >= settings.min_score
    kept = detections.keep(enough)
    scene = Scene.of(kept, table, settings)
    metrics = _metrics({FIELDS[name][0] for name in numbers}, settings.iou_threshold)
    by_class = _by_class(metrics, scene, settings.class_agnostic)
    tracks = np.unique(np.stack([scene.found.items.sample, kept.tracks]), axis=1).shape[1]
    notes = {"detections": len(kept), "tracks": tracks, "classes": len(by_class)}
    values = {}
    for name in numbers:
        means = _averages(metrics, by_class, *FIELDS[name])
        value = means["class_averaged" if settings.average == "classes" else "detection_averaged"]
        values[f"{name}_{settings.unit}{suffix}"] = MetricValue(value, len(table.classes), {**notes, **means})
    return values


def _metrics(names: set[str], iou_threshold: float) -> dict[str, Any]:
    from trackeval import metrics

    config = {"THRESHOLD": iou_threshold, "PRINT_CONFIG": False}
    return {name: getattr(metrics, name)(config) for name in sorted(names)}


def _by_class(metrics: Mapping[str, Any], scene: Scene, class_agnostic: bool) -> dict[int, Scores]:
    """What each metric says of the sequences of each class."""
    parts: dict[int, dict[str, dict[int, Any]]] = defaultdict(lambda: defaultdict(dict))
    for sample, class_id, data in scene.sequences(class_agnostic):
        for name, metric in metrics.items():
            parts[class_id][name][sample] = metric.eval_sequence(data)
    return {
        class_id: {name: metrics[name].combine_sequences(sequences) for name, sequences in named.items()}
        for class_id, named in parts.items()
    }


def _averages(
    metrics: Mapping[str, Any], by_class: Mapping[int, Scores], name: str, field: str
) -> dict[str, float]:
    """A field over all detections at once and over the classes; NaN without classes."""
    if not by_class:
        return {"detection_averaged": float("nan"), "class_averaged": float("nan")}
    parts = {class_id: scores[name] for class_id, scores in by_class.items()}
    pooled = metrics[name].combine_classes_det_averaged(parts)[field]
    means = metrics[name].combine_classes_class_averaged(parts)[field]
    return {"detection_averaged": float(np.mean(pooled)), "class_averaged": float(np.mean(means))}
