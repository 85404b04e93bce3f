"""The built-in metrics, registered like anybody's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from ovvol_bench.registry import Entry, hookimpl

if TYPE_CHECKING:
    from ovvol_bench.benchmark import Metric

ProtocolName = Literal["vid-reference", "vid-devkit"]


def build_corloc(
    *,
    protocol: ProtocolName = "vid-reference",
    box: Literal["any", "top1"] = "any",
    iou_threshold: float = 0.5,
) -> Metric:
    """CorLoc: any box of a frame may meet an object, or its best-scoring one only."""
    from ovvol_bench.metrics.accumulators import CorLoc

    return CorLoc(protocol, box, iou_threshold)


def build_detrate(*, protocol: ProtocolName = "vid-reference", iou_threshold: float = 0.5) -> Metric:
    """DetRate."""
    from ovvol_bench.metrics.accumulators import DetectionRate

    return DetectionRate(protocol, iou_threshold)


def build_vid_ap(
    *,
    protocol: ProtocolName = "vid-reference",
    iou_threshold: float = 0.5,
    ties: Literal["group", "reference", "earlier", "later"] = "group",
    motion: bool = True,
    held_out: tuple[int, ...] = (),
) -> Metric:
    """VID AP, with motion ranges."""
    from ovvol_bench.metrics.accumulators import VidAP

    return VidAP(protocol, iou_threshold, ties, motion, held_out)


def build_boxes_per_frame(*, protocol: ProtocolName = "vid-reference") -> Metric:
    """Mean number of boxes a frame."""
    from ovvol_bench.metrics.accumulators import BoxesPerFrame

    return BoxesPerFrame(protocol)


def build_naming_accuracy(
    *,
    protocol: ProtocolName = "vid-reference",
    iou_threshold: float = 0.5,
    held_out: tuple[int, ...] = (),
) -> Metric:
    """Naming accuracy of localized objects."""
    from ovvol_bench.metrics.accumulators import NamingAccuracy

    return NamingAccuracy(protocol, iou_threshold, held_out)


@hookimpl
def ovvol_metrics() -> Iterator[Entry]:
    """CorLoc, DetRate, VID AP, boxes a frame, naming accuracy."""
    yield Entry("corloc", build_corloc, "share of frames in which a box meets an object")
    yield Entry("detrate", build_detrate, "mean share of a frame's objects that boxes meet")
    yield Entry("vid_ap", build_vid_ap, "average precision of named boxes, by class and motion")
    yield Entry("boxes_per_frame", build_boxes_per_frame, "mean number of boxes in a frame")
    yield Entry("naming_accuracy", build_naming_accuracy, "share of localized objects with the right name")
