"""Conventions of mask metrics that published evaluations differ in; the table is in ``docs/metrics.md``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ovvol_bench.metrics.contingency import Ignore, Upsampling

Background = Literal["ignored", "object"]
Empty = Literal["dropped", "one"]
IouOf = Literal["volume", "frames"]


@dataclass(frozen=True)
class Conventions:
    """What is counted, and how; the defaults leave the protocol's id as it is.

    Attributes:
        background: whether what no object covers is one more object to find (object_centric_bench's mBO and
            mIoU without ``skip``).
        empty: whether samples without objects are left out or count as 1, where both partitions are of no
            point (FG-ARI of SAVi, OCL and VideoSAUR).
        iou: of a sample's frames as one volume, or the mean over the frames in which object or group show
            (SOLV); groups are given to objects once a sample either way.
        upsampling: whether a pixel belongs to the slot of its patch, or to the winner of the soft masks
            enlarged to the frame (VideoSAUR, SlotContrast, SOLV, RandSF.Q, DINOSAUR).
        ignore: whether points in crowds (``FrameTruth.crowds``) are left out, as evaluations with an ignore
            mask do (COCO's crowds, VOC's void), or are what objects and background make of them.
    """

    background: Background = "ignored"
    empty: Empty = "dropped"
    iou: IouOf = "volume"
    upsampling: Upsampling = "nearest"
    ignore: Ignore = "nothing"

    @property
    def suffix(self) -> str:
        """What stands behind the protocol's id."""
        parts = (
            "-bilinear" if self.upsampling == "bilinear" else "",
            "-background" if self.background == "object" else "",
            "-empty1" if self.empty == "one" else "",
            "-nocrowds" if self.ignore == "crowds" else "",
            "-perframe" if self.iou == "frames" else "",
        )
        return "".join(parts)


USUAL = Conventions()
