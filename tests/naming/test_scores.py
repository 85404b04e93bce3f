"""Scores of segments against prompts and classes."""

from __future__ import annotations

import numpy as np
import pytest

from ovvol_bench.naming.prompts import Prompts, TextBank
from ovvol_bench.naming.rule import (
    best_names,
    class_logits,
    class_probabilities,
    name_probabilities,
    prompt_logits,
)


def axes_bank(class_ids: list[int], num_classes: int) -> TextBank:
    """One unit axis a prompt."""
    names = tuple(f"c{i}" for i in range(max(class_ids) + 1))
    prompts = Prompts(tuple(f"p{i}" for i in range(len(class_ids))), np.array(class_ids), names, num_classes)
    return TextBank.of(prompts, np.eye(len(class_ids)))


def test_logits_are_temperature_times_cosine() -> None:
    logits = prompt_logits([[3.0, 4.0], [0.0, 0.0]], axes_bank([1, 2], 2), temperature=10.0)
    np.testing.assert_allclose(logits, [[6.0, 8.0], [0.0, 0.0]], rtol=1e-5)
    assert logits.dtype == np.float32


def test_equal_prompts_tie_exactly() -> None:
    rng = np.random.default_rng(0)
    row = rng.normal(size=512)
    prompts = Prompts(("a",) * 37, np.arange(1, 38), tuple("x" * 38), 37)
    text = TextBank.of(prompts, np.tile(row, (37, 1)))
    logits = prompt_logits(rng.normal(size=(15, 512)), text, 100.0)
    assert (logits == logits[:, :1]).all()
    assert (best_names(rng.normal(size=(15, 512)), text) == 1).all()


def test_a_class_scores_as_its_best_prompt() -> None:
    logits = np.array([[1.0, 5.0, 2.0, -3.0]], dtype=np.float32)
    found = class_logits(logits, np.array([2, 1, 2, 4]), num_ids=5)
    np.testing.assert_array_equal(found, [[-np.inf, 5.0, 2.0, -np.inf, -3.0]])
    assert found.dtype == np.float64


def test_probabilities_sum_to_one_and_survive_large_logits() -> None:
    found = class_probabilities([[1000.0, 1000.0, -np.inf], [-1000.0, 0.0, -1000.0]])
    np.testing.assert_allclose(found, [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]], atol=1e-12)


def test_background_words_take_no_part_in_naming() -> None:
    text = axes_bank([1, 2, 3], num_classes=2)
    pooled = [[0.0, 1.0, 9.0]]
    assert best_names(pooled, text).tolist() == [2]
    found = name_probabilities(pooled, text, temperature=100.0)
    assert found.shape == (1, 3)
    assert found[0, 0] == 0.0
    assert found[0].sum() == pytest.approx(1.0)
    assert found[0].argmax() == 2


def test_no_segments_have_no_probabilities() -> None:
    assert name_probabilities(np.zeros((0, 3)), axes_bank([0, 1, 2], 2), 100.0).shape == (0, 3)
