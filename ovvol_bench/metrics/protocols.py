"""Protocols: the exact conventions that a metric is computed under, each with an id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Bools, Floats
from ovvol_bench.errors import UnknownNameError, nearest

ProtocolName = Literal["vid-reference", "vid-devkit"]


@dataclass(frozen=True)
class MotionRange:
    """True objects by how much they overlap with themselves at neighbouring frames (FGFA).

    Attributes:
        name: suffix of the metric, for example ``fast``.
        low, high: bounds of the motion IoU, in [0, 1].
        open_low, open_high: whether a bound itself is outside.
    """

    column: ClassVar[str] = "motion"
    name: str
    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def contains(self, motion_iou: Floats) -> Bools:
        """Tell which objects are in the range; an unknown (NaN) motion is in none."""
        above = motion_iou > self.low if self.open_low else motion_iou >= self.low
        below = motion_iou < self.high if self.open_high else motion_iou <= self.high
        inside: Bools = np.logical_and(above, below)
        return inside


@dataclass(frozen=True)
class SizeRange:
    """True objects by the area of their box in the original frame, as COCO parts them.

    Attributes:
        name: suffix of the metric, for example ``area_small``.
        low, high: bounds of the area, square pixels; the upper one is outside.
    """

    column: ClassVar[str] = "areas"
    name: str
    low: float
    high: float

    def contains(self, areas: npt.NDArray[np.float64]) -> Bools:
        """Tell which objects are in the range."""
        inside: Bools = (areas >= self.low) & (areas < self.high)
        return inside


SIZES: tuple[SizeRange, ...] = (
    SizeRange("area_small", 0, 32**2),
    SizeRange("area_medium", 32**2, 96**2),
    SizeRange("area_large", 96**2, float("inf")),
)
ObjectRange = MotionRange | SizeRange


@dataclass(frozen=True)
class Protocol:
    """Conventions of box comparison and counting.

    Attributes:
        name: id that stands in every result.
        space: where boxes are compared: ``input`` is the resized frame that the models saw,
            ``original`` the frame as it was filmed.
        overlap_offset: pixel convention (see ``boxes.box_iou``) of CorLoc, DetRate and naming.
        ap_offset: pixel convention of VID AP.
        ignore_generated: whether interpolated truth is left out: neither missed nor found.
        absent_boxes: whether a segment that is absent from a frame counts as the box (0, 0, 0, 0).
        padding: whether CorLoc and DetRate take a box with x1 = -1 for padding.
        unmatched: weight of a false positive beside ignored truth. ``full``: 1, unless it meets
            ignored truth of its class at the threshold. ``shared``: the reference's fractions.
        motion: the motion ranges of VID AP.
    """

    name: str
    space: Literal["input", "original"]
    overlap_offset: int
    ap_offset: int
    ignore_generated: bool
    absent_boxes: bool
    padding: bool
    unmatched: Literal["full", "shared"]
    motion: tuple[MotionRange, ...]


VID_REFERENCE = Protocol(
    name="vid-reference",
    space="input",
    overlap_offset=0,
    ap_offset=2,
    ignore_generated=False,
    absent_boxes=True,
    padding=True,
    unmatched="shared",
    motion=(MotionRange("fast", 0.0, 0.7), MotionRange("medium", 0.7, 0.9), MotionRange("slow", 0.9, 1.0)),
)
"""What the program of arXiv 2309.09858 computes, to the letter."""

VID_DEVKIT = Protocol(
    name="vid-devkit",
    space="original",
    overlap_offset=1,
    ap_offset=1,
    ignore_generated=True,
    absent_boxes=False,
    padding=False,
    unmatched="full",
    motion=(
        MotionRange("fast", 0.0, 0.7, open_high=True),
        MotionRange("medium", 0.7, 0.9),
        MotionRange("slow", 0.9, 1.0, open_low=True),
    ),
)
"""The ILSVRC-VID development kit: original pixels, inclusive ends, generated boxes ignored."""

PROTOCOLS = {protocol.name: protocol for protocol in (VID_REFERENCE, VID_DEVKIT)}


def protocol_of(name: str) -> Protocol:
    """The protocol with an id.

    Raises:
        UnknownNameError: if there is none.
    """
    if name not in PROTOCOLS:
        known = ", ".join(PROTOCOLS)
        raise UnknownNameError(f"unknown protocol '{name}'.{nearest(name, PROTOCOLS)} Protocols: {known}")
    return PROTOCOLS[name]
