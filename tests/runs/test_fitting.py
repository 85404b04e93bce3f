"""What truth and files lack, and which metrics that leaves out."""

from dataclasses import replace

import numpy as np
import pytest

from ovvol_bench.data.shapes.dataset import Shapes
from ovvol_bench.runs.score import lacks_of_truth
from ovvol_bench.types import ClipInfo, FrameRows, FrameTable


@pytest.fixture(scope="module")
def infos():
    dataset = Shapes("val", videos=1)
    return [dataset.info(index) for index in range(len(dataset))]


def changed(infos, **columns):
    return [
        replace(info, truth=tuple(replace(frame, **columns) for frame in info.truth) if columns else None)
        for info in infos
    ]


def in_table(**columns):
    """A clip whose truth is a table's; its frames aren't made one by one."""
    ones = {"class_ids": np.ones(1, np.int64), "track_ids": np.zeros(1, np.int64)}
    no = np.zeros(1, np.bool_)
    table = FrameTable(
        **{
            "offsets": np.array([0, 1]),
            "boxes": np.zeros((1, 4), np.float32),
            **ones,
            "occluded": no,
            "generated": no,
            "motion_iou": np.ones(1, np.float32),
            **columns,
        }
    )
    return [ClipInfo("a/0", "a", (0,), (8, 8), FrameRows(table, range(1)))]


def refused(frame):
    raise AssertionError(f"the masks of frame {frame} were made")


def test_full_truth_lacks_nothing(infos):
    assert lacks_of_truth(infos, "shapes") == {}


def test_what_truth_lacks_is_said(infos):
    assert lacks_of_truth(changed(infos, masks=None), "shapes") == {"true masks": "dataset 'shapes' has none"}
    untracked = [
        replace(info, truth=(replace(info.truth[0], track_ids=info.truth[0].track_ids - 9),))
        for info in infos
    ]
    assert lacks_of_truth(untracked, "shapes").keys() == {"true tracks"}
    lacks = lacks_of_truth(changed(infos), "shapes")
    assert lacks.keys() == {"true boxes", "true masks", "true tracks"}
    assert f"clip '{infos[0].id}'" in lacks["true boxes"]


def test_truth_in_a_table_is_not_unfolded():
    assert lacks_of_truth(in_table(masks=refused), "a") == {}
    assert lacks_of_truth(in_table(), "a").keys() == {"true masks"}
    unknown = in_table(masks=refused, track_ids=np.full(1, -1))
    assert lacks_of_truth(unknown, "a").keys() == {"true tracks"}
