"""Numbers by video make the numbers over all of them."""

import numpy as np
import pytest

from ovvol_bench.data.shapes.dataset import Shapes
from ovvol_bench.metrics import default_metrics, evaluate
from ovvol_bench.metrics.ari import ForegroundAdjustedRand
from ovvol_bench.metrics.by_video import by_video
from ovvol_bench.metrics.vid_ap import VidAP
from ovvol_bench.predictions import ClipPrediction, pack
from ovvol_bench.types import Localization


def near_truth(info, rng):
    """A moved box for every true object, named right more often than not."""
    frames, tracks = len(info.frame_indices), sorted({int(t) for f in info.truth for t in f.track_ids})
    boxes = np.zeros((frames, len(tracks), 4), np.float32)
    present = np.zeros(boxes.shape[:2], bool)
    scores = rng.dirichlet(np.ones(17), len(tracks)).astype(np.float32)
    for t, truth in enumerate(info.truth):
        for box, track, name in zip(truth.boxes, truth.track_ids, truth.class_ids, strict=True):
            n = tracks.index(int(track))
            present[t, n] = True
            low = np.clip(box[:2] + rng.integers(-6, 7, 2), 0, 80)
            boxes[t, n] = [*low, *np.maximum(low, box[2:] + rng.integers(-6, 7, 2))]
            scores[n, name] += 0.3
    slots = rng.integers(0, 3, (frames, 12, 16)).astype(np.int16)
    found = Localization(
        boxes, present, scores / scores.sum(1, keepdims=True), slots, np.full(3, -1, np.int16), (96, 128)
    )
    return ClipPrediction(info, (96, 128), found)


@pytest.fixture(scope="module")
def world():
    dataset = Shapes("val", videos=12)
    infos = {dataset.info(index).id: dataset.info(index) for index in range(len(dataset))}
    rng = np.random.default_rng(3)
    predictions = pack([near_truth(info, rng) for info in infos.values()])
    return (
        predictions.select(np.random.default_rng(1).permutation(len(predictions))),
        infos,
        dataset.vocabulary,
    )


def test_terms_add_up_to_the_numbers(world):
    predictions, infos, vocabulary = world
    whole = evaluate(predictions, infos, [*default_metrics(vocabulary), ForegroundAdjustedRand()])
    found = by_video(predictions, infos, [*default_metrics(vocabulary), ForegroundAdjustedRand()])
    assert len(found.videos) == 12
    assert list(found.videos) == sorted(found.videos)
    assert whole.keys() - found.terms.keys() <= {f"ap50_{speed}@vid-devkit" for speed in ("fast", "slow")} | {
        f"ap50_{speed}@vid-reference" for speed in ("fast", "slow")
    }
    for name, terms in found.terms.items():
        assert terms.value == pytest.approx(whole[name].value, abs=1e-7), name


@pytest.mark.parametrize("at_once", [10, 1 << 20])
def test_pseudo_values_come_from_leaving_videos_out(world, monkeypatch, at_once):
    monkeypatch.setattr("ovvol_bench.metrics.by_video._AT_ONCE", at_once)
    predictions, infos, _ = world
    metric = VidAP(protocol="vid-reference", ties="group")
    found = by_video(predictions, infos, [metric])
    whole = evaluate(predictions, infos, [metric])
    ordered = predictions.in_order()
    left = []
    for video in found.videos:
        rest = np.array([place for place, name in enumerate(ordered.videos) if name != video])
        left.append(evaluate(ordered.select(rest), infos, [metric]))
    assert len(found.terms) > 1
    for name, value in whole.items():
        values = np.array([12 * value.value - 11 * each[name].value for each in left])
        assert (name in found.terms) == (not np.isnan(values).any())
    for name, terms in found.terms.items():
        values = np.array([12 * whole[name].value - 11 * each[name].value for each in left])
        assert terms.sums == pytest.approx(values - values.mean() + whole[name].value, abs=1e-9), name


@pytest.mark.parametrize("ties", ["earlier", "reference"])
def test_pseudo_values_of_any_order_of_ties_are_those_of_grouped_ones_around_its_value(world, ties):
    predictions, infos, _ = world
    metric, grouped = (VidAP(protocol="vid-reference", ties=each) for each in (ties, "group"))
    value = evaluate(predictions, infos, [metric])["ap50@vid-reference"].value
    (terms, wanted) = (
        by_video(predictions, infos, [each]).terms["ap50@vid-reference"] for each in (metric, grouped)
    )
    assert terms.value == pytest.approx(value, abs=1e-12)
    assert terms.sums - terms.value == pytest.approx(wanted.sums - wanted.value, abs=1e-12)


def test_metrics_stay_fresh(world):
    predictions, infos, _ = world
    metric = ForegroundAdjustedRand()
    by_video(predictions, infos, [metric])
    assert np.isnan(metric.compute()["fg_ari_clip"].value)


def test_a_single_video_has_means_but_no_pseudo_values(world):
    predictions, infos, vocabulary = world
    one = np.array([place for place, name in enumerate(predictions.videos) if name == predictions.videos[0]])
    names = by_video(predictions.select(one), infos, default_metrics(vocabulary, ["vid-devkit"])).terms
    assert "corloc_any@vid-devkit" in names
    assert "ap50@vid-devkit" not in names
