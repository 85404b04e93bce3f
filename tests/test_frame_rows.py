"""Truth as rows of a table: what a clip of a large dataset has instead of a tuple."""

import pickle
from dataclasses import fields, replace

import numpy as np
import pytest

from ovvol_bench.errors import DataError
from ovvol_bench.metrics.truth import TruthTable
from ovvol_bench.types import ClipInfo, FrameRows, FrameTable, FrameTruth

OFFSETS = np.array([0, 2, 2, 3, 6, 7])
TABLE = FrameTable(
    offsets=OFFSETS,
    boxes=np.arange(28, dtype=np.float32).reshape(7, 4),
    class_ids=np.arange(1, 8),
    track_ids=np.arange(7) % 3,
    occluded=np.arange(7) % 2 == 0,
    generated=np.arange(7) % 2 == 1,
    motion_iou=np.linspace(0, 1, 7, dtype=np.float32),
)


def same(one, other):
    names = [field.name for field in fields(FrameTruth) if field.name != "masks"]
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


def clips(kind, table=TABLE):
    rows = {"a": range(0, 3), "b": range(2, 5), "c": range(0, 5, 2)}
    return [
        ClipInfo(name, "v", tuple(own), (30, 40), kind(FrameRows(table, own)), context=int(name == "b"))
        for name, own in rows.items()
    ]


def test_frames_are_read_like_those_of_a_tuple():
    rows = FrameRows(TABLE, range(0, 5, 2))
    assert len(rows) == 3
    assert [len(frame) for frame in rows] == [2, 1, 1]
    assert rows[1].class_ids.tolist() == [3]
    assert same(rows[-1], TABLE[4])
    assert [frame.class_ids.tolist() for frame in rows[1:]] == [[3], [7]]
    with pytest.raises(IndexError):
        rows[3]


def test_single_frames_of_a_table_may_be_left_out():
    unread = [[replace(info, unread={1: "cut off"}) for info in clips(kind)] for kind in (lambda t: t, tuple)]
    rows, tuples = map(TruthTable.of, unread)
    assert rows.frame_indices.tolist() == [0, 2, 4, 0, 4]
    assert rows.classes.tolist() == tuples.classes.tolist() == [1, 2, 3, 7, 1, 2, 7]


def test_a_table_of_clips_is_the_same_from_rows_and_from_tuples():
    rows, tuples = TruthTable.of(clips(lambda truth: truth)), TruthTable.of(clips(tuple))
    two_tables = TruthTable.of([*clips(lambda truth: truth)[:2], clips(tuple)[2]])
    assert rows.classes.tolist() == [1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 7]
    for field in fields(TruthTable):
        if field.name != "infos":
            for other in (tuples, two_tables):
                column, expected = getattr(rows, field.name), getattr(other, field.name)
                assert column.dtype == expected.dtype
                np.testing.assert_array_equal(column, expected)


def test_truth_of_another_number_of_frames_is_refused():
    clip = replace(clips(lambda truth: truth)[0], frame_indices=(0, 1))
    with pytest.raises(DataError, match="clip 'a': truth of 3 frames; expected 2"):
        TruthTable.of([clip])


def test_other_processes_get_the_frames_and_not_the_table():
    large = replace(TABLE, occluded=np.zeros(1_000_000, bool))
    content = pickle.dumps(clips(lambda truth: truth, large)[0])
    assert len(content) < 10_000
    truth = pickle.loads(content).truth
    assert all(same(one, other) for one, other in zip(truth, FrameRows(large, range(3)), strict=True))
