"""Mergers that look at no name, on cases worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from naming_steps import name_clip
from sklearn.cluster import AgglomerativeClustering

from ovvol_bench import SettingError
from ovvol_bench.naming.localize import gather_evidence
from ovvol_bench.naming.prompts import Prompts, TextBank
from ovvol_bench.naming.rule import Evidence, group_slots, merge_alike, merge_overlapping
from ovvol_bench.naming.settings import NamingSettings, naming_settings

TEXT = TextBank.of(Prompts(("a", "b"), np.array([1, 2]), ("bg", "a", "b"), 2), np.eye(2))
KEEP_ALL = NamingSettings(filter_background=False)


def at(*degrees):
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_complete_linkage_by_hand():
    """0, 10 and 18 degrees: 10 and 18 join first; 0 is then compared with 18, 1 - cos 18 = 0.049."""
    features = at(0, 10, 18, 90)
    assert merge_alike(features, 0.048) == [(0,), (1, 2), (3,)]
    assert merge_alike(features, 0.05) == [(0, 1, 2), (3,)]
    assert merge_alike(features * [[1], [9], [0.1], [2]], 0.05) == [(0, 1, 2), (3,)]


def test_few_and_empty_slots():
    assert merge_alike(np.zeros((0, 3)), 0.1) == []
    assert merge_alike(np.ones((1, 3)), 0.1) == [(0,)]
    assert merge_alike([[0.0, 0.0], [1.0, 0.0]], 0.5) == [(0,), (1,)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 9), st.floats(0.01, 1.5))
def test_equals_scikit_learn(seed, count, threshold):
    features = np.random.default_rng(seed).normal(size=(count, 4))
    labels = AgglomerativeClustering(
        n_clusters=None, metric="cosine", linkage="complete", distance_threshold=threshold
    ).fit_predict(features)
    want = {frozenset(np.flatnonzero(labels == label).tolist()) for label in set(labels)}
    assert {frozenset(group) for group in merge_alike(features, threshold)} == want


def test_overlap_is_transitive_and_above_the_threshold():
    overlap = np.eye(4)
    for i, j, value in ((0, 2, 0.8), (2, 3, 0.75), (1, 3, 0.7)):
        overlap[i, j] = overlap[j, i] = value
    assert merge_overlapping(overlap, 0.7) == [(0, 2, 3), (1,)]
    assert merge_overlapping(overlap, 0.69) == [(0, 1, 2, 3)]


def test_slots_are_active_where_they_have_more_than_an_even_share():
    """Of three slots two share patches 0 and 1, the third has patch 2: IoU 1 of the first two."""
    masks = torch.tensor([[0.5, 0.45, 0.1], [0.4, 0.5, 0.1], [0.1, 0.05, 0.8]])[:, None, None]
    merge = replace(KEEP_ALL, merge="overlap")
    evidence = gather_evidence(merge, masks.argmax(0), masks)
    assert np.allclose(evidence.overlap, [[1, 1, 0], [1, 1, 0], [0, 0, 1]])
    patches = torch.tensor([[1.0, 0], [0, 1], [0, 1]])[None, None]
    found = name_clip(masks, patches, TEXT, merge, (10, 30))
    assert found.segment_of_slot.tolist() == [0, 0, 1]


def test_hard_masks_never_overlap():
    masks = torch.eye(3)[:, None, None]
    evidence = gather_evidence(replace(KEEP_ALL, merge="overlap"), masks.argmax(0), masks)
    assert merge_overlapping(evidence.overlap, 0.0) == [(0,), (1,), (2,)]


def test_the_encoders_features_are_pooled_over_all_frames_of_a_step():
    slots = torch.tensor([[[0, 1]], [[1, 1]]])
    features = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
    merge = replace(KEEP_ALL, merge="features", merge_features="encoder")
    evidence = gather_evidence(merge, slots, features=features)
    assert evidence.features.tolist() == [[1, 0], [1, 2]]


def test_features_of_the_labeler_or_the_encoder():
    slot_map, pooled = np.array([[[0, 1, 2]]]), np.array([[1, 0], [9, 1], [0, 1]], np.float32)
    by_labeler = replace(KEEP_ALL, merge="features")
    assert group_slots(slot_map, pooled, TEXT, by_labeler) == [(0, 1), (2,)]
    by_encoder = replace(by_labeler, merge_features="encoder")
    evidence = Evidence(features=np.array([[1, 0], [0, 1], [0, 1]], np.float32))
    assert group_slots(slot_map, pooled, TEXT, by_encoder, evidence) == [(0,), (1, 2)]


def test_slots_that_were_dropped_or_win_nowhere_are_not_united():
    slot_map, pooled = np.array([[[0, 2]]]), np.array([[1, 0], [1, 0], [1, 0]], np.float32)
    assert group_slots(slot_map, pooled, TEXT, replace(KEEP_ALL, merge="features")) == [(0, 2)]


@pytest.mark.parametrize("merge", [{"merge": "overlap"}, {"merge": "features", "merge_features": "encoder"}])
def test_what_is_not_at_hand_is_said(merge):
    with pytest.raises(SettingError, match=r"naming\.merge needs .* not at hand"):
        group_slots(np.array([[[0, 1]]]), np.eye(2, dtype=np.float32), TEXT, replace(KEEP_ALL, **merge))


def test_thresholds_are_checked_and_said_as_used():
    assert naming_settings({"merge": "features"}).as_used().merge_threshold == 0.12
    assert naming_settings({"merge": "overlap"}).as_used().merge_threshold == 0.7
    assert naming_settings({"merge": "overlap", "merge_threshold": "0.5"}).as_used().merge_threshold == 0.5
    assert NamingSettings().as_used() == NamingSettings()
    with pytest.raises(SettingError, match=r"merge_threshold=1\.5: expected a number from 0 to 1"):
        naming_settings({"merge": "overlap", "merge_threshold": 1.5})
