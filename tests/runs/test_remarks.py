"""Remarks on runs."""

import numpy as np
import pytest

from ovvol_bench.predictions import Predictions
from ovvol_bench.runs.remarks import UNIFORM, relative_entropy, remarks


def predictions(probabilities, present) -> Predictions:
    """One clip of one frame a row of ``present``, with a segment a row of ``probabilities``."""
    probabilities = np.array(probabilities, np.float32)
    present = np.array(present, np.bool_)
    frames, segments = present.shape
    one = np.array([1])
    return Predictions(
        ("c",), ("v",), one * frames, one * segments, one * segments, np.array([[1, 1]]),
        np.array([[8, 8]]), np.array([[8, 8]]), np.arange(frames),
        np.zeros((present.size, 4), np.float32), present.ravel(), probabilities,
        np.zeros(frames, np.int16), np.arange(segments, dtype=np.int16),
    )  # fmt: skip


def test_without_truth_boxes_are_counted_by_name_and_absent_ones_are_not():
    found = predictions([[0, 0.9, 0.1], [0, 0.2, 0.8]], [[True, True], [False, True]])
    assert list(remarks(found, ["cat", "dog"], has_truth=False)) == ["found 3 boxes: 2 dog, 1 cat"]
    assert not list(remarks(found, ["cat", "dog"], has_truth=True))


def test_nothing_found_is_said():
    nothing = predictions(np.zeros((0, 3)), np.zeros((2, 0)))
    assert list(remarks(nothing, ["cat", "dog"], has_truth=False)) == ["found no boxes"]


def test_names_that_are_near_uniform_are_said():
    same = predictions([[0.1, 0.3, 0.3, 0.3]], [[True]])
    assert relative_entropy(same) == pytest.approx(1)
    (remark,) = remarks(same, ["a", "b", "c"], has_truth=True)
    assert "near uniform (entropy 100.0%" in remark
    sure = predictions([[0, 1, 0, 0]], [[True]])
    assert relative_entropy(sure) == 0 < UNIFORM
