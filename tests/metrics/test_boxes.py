import numpy as np
import pytest

from ovvol_bench.errors import DataError
from ovvol_bench.metrics import boxes
from ovvol_bench.metrics.boxes import box_iou, checked, paired_iou


@pytest.mark.parametrize(
    ("offset", "expected"),
    [(0, 9 * 4 / (9 * 9)), (1, 10 * 5 / (10 * 10)), (2, 11 * 6 / (11 * 11))],
)
def test_offset_is_added_to_every_side(offset, expected):
    iou = box_iou(np.array([[0, 0, 9, 9]]), np.array([[0, 0, 9, 4]]), offset)
    assert iou == pytest.approx(expected)
    assert iou.dtype == np.float32


def test_boxes_apart_do_not_overlap():
    apart = np.array([[0, 0, 4, 4], [6, 6, 9, 9]])
    assert box_iou(apart[:1], apart[1:], 0) == 0
    assert box_iou(apart[:1], apart[1:], 1) == 0


def test_empty_sets_keep_their_shape():
    none, one = np.zeros((0, 4)), np.array([[0, 0, 1, 1]])
    assert box_iou(none, one).shape == (0, 1)
    assert box_iou(one, none).shape == (1, 0)
    assert box_iou(np.array([]), np.array([])).shape == (0, 0)


def test_boxes_without_area_have_no_overlap_instead_of_none():
    point = np.array([[3, 3, 3, 3]])
    assert box_iou(point, point, 0) == 0
    assert box_iou(point, point, 1) == 1


@pytest.mark.parametrize("wrong", [[5, 0, 4, 9], [0, 5, 9, 4], [0, 0, np.nan, 1], [0, 0, np.inf, 1]])
def test_boxes_that_are_none_are_refused(wrong):
    with pytest.raises(DataError, match=r"predictions, box 1: .*expected finite x1, y1, x2, y2"):
        checked(np.array([[0, 0, 1, 1], wrong]), "predictions")
    with pytest.raises(DataError, match="second set, box 0"):
        box_iou(np.array([[0, 0, 1, 1]]), np.array([wrong]))


def test_pairs_equal_their_place_in_the_matrix():
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 9, (2, 50, 2))
    first, second = np.concatenate([low, low + rng.uniform(0, 9, low.shape)], axis=-1).astype(np.float32)
    rows, others = np.arange(50), np.arange(50)[::-1]
    for offset in (0, 1, 2):
        expected = box_iou(first, second, offset)[rows, others]
        np.testing.assert_array_equal(paired_iou(first, rows, second, others, offset), expected)


def test_any_number_of_pairs(monkeypatch):
    monkeypatch.setattr(boxes, "_AT_ONCE", 3)
    one = np.array([[0, 0, 9, 9], [0, 0, 9, 4]], np.float32)
    for count in range(8):
        iou = paired_iou(one, np.arange(count) % 2, one, np.zeros(count, np.int64), 1)
        np.testing.assert_array_equal(iou, np.where(np.arange(count) % 2, 0.5, 1).astype(np.float32))
