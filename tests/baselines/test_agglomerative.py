import numpy as np
import pytest
import torch
from patch_scenes import build, same_partition, scene, slots_of
from sklearn.cluster import AgglomerativeClustering

from ovvol_baselines.groupers.agglomerative import merged
from ovvol_baselines.groupers.linking import unit
from ovvol_bench import SettingError


def directions(count=40, seed=0):
    return unit(np.random.default_rng(seed).standard_normal((count, 4)))


@pytest.mark.parametrize("threshold", [0.1, 0.5, 1.2])
def test_it_merges_as_scikit_learn_does(threshold):
    given = directions()
    model = AgglomerativeClustering(None, metric="cosine", linkage="complete", distance_threshold=threshold)
    reference = model.fit(given.astype(np.float64)).labels_
    assert same_partition(merged(given, threshold, most=40), reference)


def test_the_number_of_groups_is_bounded():
    groups = merged(directions(), 0.0, most=5)
    reference = AgglomerativeClustering(5, metric="cosine", linkage="complete").fit(directions()).labels_
    assert same_partition(groups, reference)


CORNERS = torch.zeros(3, 5, 6, dtype=torch.int64)
CORNERS[:, :2, :2], CORNERS[:, 3:, 4:] = 1, 2


@pytest.mark.parametrize("start", ["clusters", "patches"])
@pytest.mark.parametrize("span", ["clip", "frame"])
def test_groups_that_are_alike_become_one(start, span):
    grouper = build("agglomerative", num_slots=6, threshold=0.3, start=start, span=span)
    slots = slots_of(grouper, scene(CORNERS))
    assert same_partition(slots, CORNERS)


def test_merging_to_two_is_undone():
    labels = (CORNERS > 0).long()
    slots = slots_of(build("agglomerative", num_slots=4, threshold=0.3), scene(labels))
    assert len(slots.unique()) == 4
    for slot in slots.unique():
        assert len(labels[slots == slot].unique()) == 1


@pytest.mark.parametrize("options", [{"num_slots": 0}, {"threshold": 2.5}, {"restarts": 0}])
def test_wrong_numbers_are_refused(options):
    ((name, value),) = options.items()
    with pytest.raises(SettingError, match=f"'{name}' can't be {value}"):
        build("agglomerative", **options)
