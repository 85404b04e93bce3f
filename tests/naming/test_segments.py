"""Touching slots, background, merging."""

from __future__ import annotations

from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovvol_bench.naming.prompts import Prompts, TextBank
from ovvol_bench.naming.rule import (
    best_names,
    group_slots,
    judge_slots,
    merge_same_name,
    segments_by_slot,
    touching,
)
from ovvol_bench.naming.settings import NamingSettings

DEFAULT = NamingSettings()


def word_bank(num_classes: int, background: int, per_class: int = 1) -> TextBank:
    """One unit axis a prompt; ``per_class`` prompts for every class, then the background words."""
    ids = np.concatenate(
        [
            np.repeat(np.arange(1, num_classes + 1), per_class),
            num_classes + 1 + np.arange(background),
        ]
    )
    names = tuple(f"c{i}" for i in range(num_classes + background + 1))
    return TextBank.of(Prompts(tuple(f"p{i}" for i in ids), ids, names, num_classes), np.eye(len(ids)))


def touching_by_definition(slot_map: np.ndarray, num_slots: int, reach: set[int]) -> np.ndarray:
    found = np.zeros((num_slots, num_slots), dtype=bool)
    cells = list(np.ndindex(slot_map.shape))
    for a in cells:
        for b in cells:
            if all(y - x in reach for x, y in zip(a, b, strict=True)) and slot_map[a] != slot_map[b]:
                found[slot_map[a], slot_map[b]] = found[slot_map[b], slot_map[a]] = True
    return found


@st.composite
def slot_maps(draw, num_slots: int = 4) -> np.ndarray:
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)))
    size = int(np.prod(shape))
    values = draw(st.lists(st.integers(0, num_slots - 1), min_size=size, max_size=size))
    return np.array(values).reshape(shape)


@settings(max_examples=60, deadline=None)
@given(slot_maps())
def test_touching_follows_its_definition(slot_map) -> None:
    reference = touching_by_definition(slot_map, 4, {0, 1})
    np.testing.assert_array_equal(touching(slot_map, 4, "reference"), reference)
    full = touching_by_definition(slot_map, 4, {-1, 0, 1})
    np.testing.assert_array_equal(touching(slot_map, 4, "full"), full)
    for flipped in (slot_map[::-1], slot_map[:, ::-1], slot_map[:, :, ::-1]):
        np.testing.assert_array_equal(touching(flipped, 4, "full"), full)


def test_anti_diagonals_connect_only_in_full() -> None:
    slot_map = np.array([[[0, 1], [2, 0]]])
    assert touching(slot_map, 3, "full")[1, 2]
    assert not touching(slot_map, 3, "reference")[1, 2]


def test_background_words_and_negative_scores_drop_a_slot() -> None:
    text = word_bank(num_classes=2, background=1)
    pooled = np.array([[1, 0, 0.5], [0.5, 0, 1], [-1, -2, -3], [0, 0, 0]], dtype=np.float32)
    verdict = judge_slots(pooled, text, DEFAULT)
    assert verdict.best_prompt.tolist() == [0, 2, 0, 0]
    assert verdict.names_object.tolist() == [True, False, True, True]
    assert verdict.is_positive.tolist() == [True, True, False, False]
    assert verdict.kept.tolist() == [True, False, False, False]
    assert not verdict.forced


def test_one_slot_is_kept_unless_told_otherwise() -> None:
    text = word_bank(num_classes=2, background=1)
    pooled = np.array([[0.1, 0, 1], [0.5, 0, 1]], dtype=np.float32)
    forced = judge_slots(pooled, text, DEFAULT)
    assert (forced.kept.tolist(), forced.forced) == ([False, True], True)
    none = judge_slots(pooled, text, replace(DEFAULT, keep_one=False))
    assert (none.kept.tolist(), none.forced) == ([False, False], False)


def test_a_dropped_slot_connects_nothing() -> None:
    text = word_bank(num_classes=1, background=1)
    pooled = np.array([[1, 0], [0, 1], [1, 0]], dtype=np.float32)
    in_a_row = np.array([[[0, 1, 2]]])
    assert group_slots(in_a_row, pooled, text, DEFAULT) == [(0,), (2,)]
    unfiltered = replace(DEFAULT, filter_background=False)
    assert group_slots(in_a_row, pooled, text, unfiltered) == [(0, 1, 2)]
    assert group_slots(in_a_row, pooled, text, replace(DEFAULT, merge="none")) == [(0,), (2,)]


def test_slots_that_win_nowhere_are_in_no_segment() -> None:
    text = word_bank(num_classes=1, background=0)
    pooled = np.array([[1], [0], [1]], dtype=np.float32)
    groups = group_slots(np.array([[[0, 2]]]), pooled, text, DEFAULT)
    assert segments_by_slot(groups, 3).tolist() == [0, -1, 0]


def test_names_of_sums_decide_with_several_prompts_a_class() -> None:
    class_ids = np.array([1, 1, 2])
    prompts = Prompts(("a", "b", "c"), class_ids, ("bg", "one", "two"), 2)
    text = TextBank.of(prompts, np.array([[1, 0], [0, 1], [1, 1]]))
    pooled = np.array([[1, 0], [0, 1]], dtype=np.float32)
    assert best_names(pooled, text).tolist() == [1, 1]
    assert best_names(pooled.sum(axis=0, keepdims=True), text).tolist() == [2]
    assert merge_same_name(pooled, ~np.eye(2, dtype=bool), text) == [(0,), (1,)]


@st.composite
def graphs(draw, nodes: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    touches = np.triu(rng.random((nodes, nodes)) < draw(st.floats(0, 0.6)), 1)
    return rng.normal(size=(nodes, 4)).astype(np.float32), touches | touches.T


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_with_one_prompt_a_class_merging_finds_connected_components(graph) -> None:
    pooled, touches = graph
    text = word_bank(num_classes=3, background=1)
    names = best_names(pooled, text)
    same = nx.from_numpy_array(touches & (names[:, None] == names))
    expected = sorted(tuple(sorted(part)) for part in nx.connected_components(same))
    assert merge_same_name(pooled, touches, text) == expected


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_merging_what_is_merged_changes_nothing(graph) -> None:
    pooled, touches = graph
    text = word_bank(num_classes=2, background=0, per_class=2)
    groups = merge_same_name(pooled, touches, text)
    sums = np.stack([pooled[list(group)].sum(axis=0) for group in groups])
    between = np.array([[touches[np.ix_(a, b)].any() for b in groups] for a in groups])
    np.fill_diagonal(between, False)
    assert merge_same_name(sums, between, text) == [(i,) for i in range(len(groups))]
    assert sorted(slot for group in groups for slot in group) == list(range(len(pooled)))


def test_merging_writes_to_neither_argument() -> None:
    pooled, touches = np.ones((2, 1), dtype=np.float32), ~np.eye(2, dtype=bool)
    merge_same_name(pooled, touches, word_bank(1, 0))
    assert (pooled == 1).all()
    assert touches.tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize("seed", range(5))
def test_slot_ids_do_not_matter(seed) -> None:
    rng = np.random.default_rng(seed)
    slot_map = rng.integers(0, 6, (2, 4, 5))
    pooled = rng.normal(size=(6, 5)).astype(np.float32)
    text = word_bank(num_classes=3, background=2)
    new_id = rng.permutation(6)
    renamed = np.empty_like(pooled)
    renamed[new_id] = pooled
    groups = group_slots(slot_map, pooled, text, DEFAULT)
    expected = sorted(tuple(sorted(new_id[list(group)].tolist())) for group in groups)
    assert group_slots(new_id[slot_map], renamed, text, DEFAULT) == expected
