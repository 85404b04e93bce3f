"""The built-in metrics, registered like anybody's."""

from __future__ import annotations

from collections.abc import Iterator

from ovvol_bench.registry import Entry, hookimpl

METRICS = (
    ("corloc", "corloc:CorLoc", "share of frames in which a box meets an object"),
    ("detrate", "detrate:DetectionRate", "mean share of a frame's objects that boxes meet"),
    ("vid_ap", "vid_ap:VidAP", "average precision of named boxes, by class and motion"),
    ("boxes_per_frame", "corloc:BoxesPerFrame", "mean number of boxes in a frame"),
    ("naming_accuracy", "naming:NamingAccuracy", "share of localized objects with the right name"),
    ("box_abo", "corloc:BestOverlapOfBoxes", "mean over true objects of the best overlap with a box"),
    ("naming_ece", "naming:CalibrationError", "expected calibration error of the names' probabilities"),
    ("confusion", "naming:Confusion", "which names localized objects get, class by class"),
    ("errors", "errors:Errors", "why objects and boxes are wrong, and what mending that would gain"),
    ("pr_curves", "pr_curves:PrecisionCurves", "precision-recall curves of every class"),
    ("detrate_by", "detrate:DetectionRateBy", "share of objects met by their size and motion"),
    ("fg_ari", "ari:ForegroundAdjustedRand", "adjusted Rand index of groups over the points of true objects"),
    ("ari", "ari:AdjustedRand", "adjusted Rand index of groups, background included"),
    ("mbo", "mbo:MeanBestOverlap", "mean best overlap of true masks with a group, by instance or class"),
    ("miou", "mbo:MatchedIoU", "mean IoU of true masks with groups matched one to one"),
    ("splits_and_merges", "slots:SplitsAndMerges", "over- and under-segmentation of true objects"),
    ("coco_ap", "coco_ap:CocoAP", "COCO's average precision and recall of boxes or masks"),
    ("tube_ap", "tube_ap:TubeAP", "AP and AR of tracks by overlap in space and time (YouTube-VIS)"),
    ("tracking", "tracking:Tracking", "HOTA, IDF1, MOTA of tracks, through the package trackeval"),
    ("id_switches", "tracking:IdSwitches", "how often the track of an object changes"),
    ("slots", "slots:SlotDiagnostics", "active slots, their entropy and stability; needs no truth"),
)
"""Name, module and class, and summary of each."""


@hookimpl
def ovvol_metrics() -> Iterator[Entry]:
    """Metrics of boxes and their names, of masks, and of slots."""
    for name, place, summary in METRICS:
        yield Entry(name, f"ovvol_bench.metrics.{place}", summary)
