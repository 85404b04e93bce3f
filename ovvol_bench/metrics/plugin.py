"""The built-in metrics, registered like anybody's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from ovvol_bench.registry import Entry, FromDataset, FromPredictions, hookimpl

if TYPE_CHECKING:
    from ovvol_bench.benchmark import Metric

ProtocolName = Literal["vid-reference", "vid-devkit"]
Unit = Literal["image", "clip", "video"]
Groups = Annotated[Literal["slots", "segments"], FromPredictions("groups")]
Resolution = Literal["frame", "patch"]
IouType = Literal["box", "mask"]
Upsampling = Literal["nearest", "bilinear"]
Ignore = Literal["nothing", "crowds"]
Background = Literal["ignored", "object"]


def build_corloc(
    *,
    protocol: ProtocolName = "vid-reference",
    box: Literal["any", "top1"] = "any",
    iou_threshold: float = 0.5,
) -> Metric:
    """CorLoc: any box of a frame may meet an object, or its best-scoring one only."""
    from ovvol_bench.metrics.corloc import CorLoc

    return CorLoc(protocol=protocol, box=box, iou_threshold=iou_threshold)


def build_detrate(*, protocol: ProtocolName = "vid-reference", iou_threshold: float = 0.5) -> Metric:
    """DetRate."""
    from ovvol_bench.metrics.detrate import DetectionRate

    return DetectionRate(protocol=protocol, iou_threshold=iou_threshold)


def build_vid_ap(
    *,
    protocol: ProtocolName = "vid-reference",
    iou_threshold: float = 0.5,
    ties: Literal["earlier", "reference", "group", "later"] = "earlier",
    motion: bool = True,
    sizes: bool = False,
    held_out: Annotated[tuple[int, ...], FromDataset("held_out")] = (),
    sweep: bool = False,
    class_agnostic: bool = False,
    labels: Literal["all", "top1"] = "all",
    use_07_metric: bool = False,
) -> Metric:
    """VID AP, by motion and size; with a sweep also the mean over the thresholds .5 to .95."""
    from ovvol_bench.metrics.vid_ap import VidAP

    return VidAP(
        protocol=protocol,
        iou_threshold=iou_threshold,
        ties=ties,
        motion=motion,
        sizes=sizes,
        held_out=held_out,
        sweep=sweep,
        class_agnostic=class_agnostic,
        labels=labels,
        use_07_metric=use_07_metric,
    )


def build_boxes_per_frame(*, protocol: ProtocolName = "vid-reference") -> Metric:
    """Mean number of boxes a frame."""
    from ovvol_bench.metrics.corloc import BoxesPerFrame

    return BoxesPerFrame(protocol=protocol)


def build_naming_accuracy(
    *,
    protocol: ProtocolName = "vid-reference",
    iou_threshold: float = 0.5,
    held_out: Annotated[tuple[int, ...], FromDataset("held_out")] = (),
) -> Metric:
    """Naming accuracy of localized objects."""
    from ovvol_bench.metrics.naming import NamingAccuracy

    return NamingAccuracy(protocol=protocol, iou_threshold=iou_threshold, held_out=held_out)


def build_box_abo(*, protocol: ProtocolName = "vid-reference") -> Metric:
    """Average best overlap of boxes."""
    from ovvol_bench.metrics.corloc import BestOverlapOfBoxes

    return BestOverlapOfBoxes(protocol=protocol)


def build_naming_ece(
    *, protocol: ProtocolName = "vid-reference", iou_threshold: float = 0.5, bins: int = 15
) -> Metric:
    """Calibration of names, with a reliability table."""
    from ovvol_bench.metrics.naming import CalibrationError

    return CalibrationError(protocol=protocol, iou_threshold=iou_threshold, bins=bins)


def build_confusion(
    *,
    protocol: ProtocolName = "vid-reference",
    iou_threshold: float = 0.5,
    held_out: Annotated[tuple[int, ...], FromDataset("held_out")] = (),
    class_names: Annotated[tuple[str, ...], FromDataset("class_names")] = (),
) -> Metric:
    """Confusion of the names of localized objects."""
    from ovvol_bench.metrics.naming import Confusion

    return Confusion(
        protocol=protocol, iou_threshold=iou_threshold, held_out=held_out, class_names=class_names
    )


def build_errors(
    *,
    protocol: ProtocolName = "vid-reference",
    iou_threshold: float = 0.5,
    touch: float = 0.1,
    most: float = 0.5,
    gains: bool = True,
    class_names: Annotated[tuple[str, ...], FromDataset("class_names")] = (),
) -> Metric:
    """Causes of error, with what mending each would gain."""
    from ovvol_bench.metrics.errors import Errors

    return Errors(
        protocol=protocol,
        iou_threshold=iou_threshold,
        touch=touch,
        most=most,
        gains=gains,
        class_names=class_names,
    )


def build_pr_curves(
    *,
    protocol: ProtocolName = "vid-reference",
    iou_threshold: float = 0.5,
    class_names: Annotated[tuple[str, ...], FromDataset("class_names")] = (),
) -> Metric:
    """Precision-recall curves of every class."""
    from ovvol_bench.metrics.pr_curves import PrecisionCurves

    return PrecisionCurves(protocol=protocol, iou_threshold=iou_threshold, class_names=class_names)


def build_detrate_by(*, protocol: ProtocolName = "vid-reference", iou_threshold: float = 0.5) -> Metric:
    """DetRate and CorLoc by size and motion of the objects."""
    from ovvol_bench.metrics.detrate import DetectionRateBy

    return DetectionRateBy(protocol=protocol, iou_threshold=iou_threshold)


def build_fg_ari(
    *,
    unit: Unit = "clip",
    groups: Groups = "slots",
    resolution: Resolution = "frame",
    upsampling: Upsampling = "nearest",
    ignore: Ignore = "nothing",
    empty: Literal["dropped", "one"] = "dropped",
) -> Metric:
    """Adjusted Rand index over the points of true objects."""
    from ovvol_bench.metrics.conventions import Conventions
    from ovvol_bench.metrics.mask_accumulators import ForegroundAdjustedRand

    conventions = Conventions(upsampling=upsampling, ignore=ignore, empty=empty)
    return ForegroundAdjustedRand(groups, resolution, unit, conventions)


def build_ari(
    *,
    unit: Unit = "clip",
    groups: Groups = "slots",
    resolution: Resolution = "frame",
    upsampling: Upsampling = "nearest",
    ignore: Ignore = "nothing",
) -> Metric:
    """Adjusted Rand index over all points."""
    from ovvol_bench.metrics.conventions import Conventions
    from ovvol_bench.metrics.mask_accumulators import AdjustedRand

    return AdjustedRand(groups, resolution, unit, Conventions(upsampling=upsampling, ignore=ignore))


def build_mbo(
    *,
    of: Literal["instance", "class"] = "instance",
    unit: Unit = "clip",
    groups: Groups = "slots",
    resolution: Resolution = "frame",
    upsampling: Upsampling = "nearest",
    ignore: Ignore = "nothing",
    background: Background = "ignored",
) -> Metric:
    """Mean best overlap of true objects, or of all objects of a class as one."""
    from ovvol_bench.metrics.conventions import Conventions
    from ovvol_bench.metrics.mask_accumulators import MeanBestOverlap

    conventions = Conventions(background, upsampling=upsampling, ignore=ignore)
    return MeanBestOverlap(of, groups, resolution, unit, conventions)


def build_miou(
    *,
    unit: Unit = "clip",
    groups: Groups = "slots",
    resolution: Resolution = "frame",
    upsampling: Upsampling = "nearest",
    ignore: Ignore = "nothing",
    background: Background = "ignored",
    iou: Literal["volume", "frames"] = "volume",
) -> Metric:
    """Mean IoU under Hungarian matching."""
    from ovvol_bench.metrics.conventions import Conventions
    from ovvol_bench.metrics.mask_accumulators import MatchedIoU

    conventions = Conventions(background, iou=iou, upsampling=upsampling, ignore=ignore)
    return MatchedIoU(groups, resolution, unit, conventions)


def build_splits_and_merges(
    *,
    unit: Unit = "clip",
    groups: Groups = "slots",
    resolution: Resolution = "frame",
    upsampling: Upsampling = "nearest",
    ignore: Ignore = "nothing",
) -> Metric:
    """Over- and under-segmentation."""
    from ovvol_bench.metrics.conventions import Conventions
    from ovvol_bench.metrics.mask_accumulators import SplitsAndMerges

    return SplitsAndMerges(groups, resolution, unit, Conventions(upsampling=upsampling, ignore=ignore))


def build_slots(*, min_share: float = 0.01) -> Metric:
    """Active slots, entropy, stability."""
    from ovvol_bench.metrics.mask_accumulators import SlotDiagnostics

    return SlotDiagnostics(min_share)


def build_coco_ap(
    *,
    iou_type: IouType = "box",
    class_agnostic: bool = False,
    labels: Literal["all", "top1"] = "all",
    ignore_generated: bool = False,
    backend: Literal["auto", "pycocotools", "hotcoco"] = "auto",
) -> Metric:
    """COCO's AP and AR, of named boxes or masks, or whatever they are called."""
    from ovvol_bench.metrics.coco import CocoSettings
    from ovvol_bench.metrics.detection_accumulators import CocoAP

    return CocoAP(CocoSettings(iou_type, class_agnostic, ignore_generated, backend), labels)


def build_tube_ap(
    *,
    iou_type: IouType = "box",
    unit: Literal["clip", "video"] = "clip",
    class_agnostic: bool = False,
    labels: Literal["all", "top1"] = "all",
) -> Metric:
    """AP and AR of tracks by spatio-temporal overlap, as YouTube-VIS has it."""
    from ovvol_bench.metrics.detection_accumulators import TubeAP
    from ovvol_bench.metrics.tube_evaluation import TubeSettings

    return TubeAP(TubeSettings(iou_type, unit, class_agnostic), labels)


def build_tracking(
    *,
    iou_type: IouType = "box",
    unit: Literal["clip", "video"] = "clip",
    class_agnostic: bool = False,
    min_score: float | None = None,
    iou_threshold: float = 0.5,
    average: Literal["detections", "classes"] = "detections",
) -> Metric:
    """HOTA, DetA, AssA, LocA, IDF1 and MOTA."""
    from ovvol_bench.metrics.detection_accumulators import Tracking
    from ovvol_bench.metrics.tracking import TrackingSettings

    return Tracking(
        TrackingSettings(iou_type, unit, class_agnostic, min_score, iou_threshold, average),
    )


def build_id_switches(
    *,
    iou_type: IouType = "box",
    unit: Literal["clip", "video"] = "clip",
    class_agnostic: bool = False,
    min_score: float | None = None,
    iou_threshold: float = 0.5,
) -> Metric:
    """Identity switches."""
    from ovvol_bench.metrics.detection_accumulators import IdSwitches
    from ovvol_bench.metrics.tracking import TrackingSettings

    return IdSwitches(TrackingSettings(iou_type, unit, class_agnostic, min_score, iou_threshold))


@hookimpl
def ovvol_metrics() -> Iterator[Entry]:
    """Metrics of boxes and their names, of masks, and of slots."""
    yield Entry("corloc", build_corloc, "share of frames in which a box meets an object")
    yield Entry("detrate", build_detrate, "mean share of a frame's objects that boxes meet")
    yield Entry("vid_ap", build_vid_ap, "average precision of named boxes, by class and motion")
    yield Entry("boxes_per_frame", build_boxes_per_frame, "mean number of boxes in a frame")
    yield Entry("naming_accuracy", build_naming_accuracy, "share of localized objects with the right name")
    yield Entry("box_abo", build_box_abo, "mean over true objects of the best overlap with a box")
    yield Entry("naming_ece", build_naming_ece, "expected calibration error of the names' probabilities")
    yield Entry("confusion", build_confusion, "which names localized objects get, class by class")
    yield Entry("errors", build_errors, "why objects and boxes are wrong, and what mending that would gain")
    yield Entry("pr_curves", build_pr_curves, "precision-recall curves of every class")
    yield Entry("detrate_by", build_detrate_by, "share of objects met by their size and motion")
    yield Entry("fg_ari", build_fg_ari, "adjusted Rand index of groups over the points of true objects")
    yield Entry("ari", build_ari, "adjusted Rand index of groups, background included")
    yield Entry("mbo", build_mbo, "mean best overlap of true masks with a group, by instance or class")
    yield Entry("miou", build_miou, "mean IoU of true masks with groups matched one to one")
    yield Entry("splits_and_merges", build_splits_and_merges, "over- and under-segmentation of true objects")
    yield Entry("coco_ap", build_coco_ap, "COCO's average precision and recall of boxes or masks")
    yield Entry("tube_ap", build_tube_ap, "AP and AR of tracks by overlap in space and time (YouTube-VIS)")
    yield Entry("tracking", build_tracking, "HOTA, IDF1, MOTA of tracks, through the package trackeval")
    yield Entry("id_switches", build_id_switches, "how often the track of an object changes")
    yield Entry("slots", build_slots, "active slots, their entropy and stability; needs no truth")
