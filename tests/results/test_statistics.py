"""Intervals and paired comparisons over videos."""

import numpy as np
import pytest
from scipy import stats

from ovvol_bench.errors import DataError
from ovvol_bench.metrics.by_video import Terms
from ovvol_bench.results.statistics import Sample, difference, holm, interval

NAMES = tuple(f"video {index:03d}" for index in range(200))


def sample(sums, counts, seeds=1):
    terms = Terms(np.asarray(sums, float), np.asarray(counts, float))
    return Sample(NAMES[: len(terms.sums)], (terms,) * seeds)


def clustered(rng, videos=100, effect=0.0):
    """Hits among the frames of videos that differ in length and difficulty; the true share is 0.6."""
    lengths = rng.integers(10, 60, videos)
    shares = rng.beta(3, 2, videos)
    return sample(rng.binomial(lengths, np.clip(shares + effect, 0, 1)), lengths)


def test_an_interval_of_a_mean_is_students():
    values = np.random.default_rng(0).normal(size=60)
    found = interval(sample(values, np.ones(60)))
    low, high = stats.t.interval(0.95, 59, values.mean(), values.std(ddof=1) / np.sqrt(60))
    assert found.low == pytest.approx(low, abs=0.03)
    assert found.high == pytest.approx(high, abs=0.03)
    assert found.videos == 60


def test_the_same_videos_give_the_same_interval():
    one = clustered(np.random.default_rng(1))
    assert interval(one) == interval(one)
    assert interval(one, 0.5).high < interval(one).high


def test_seeds_are_averaged():
    rng = np.random.default_rng(2)
    one = clustered(rng)
    assert interval(Sample(one.videos, one.seeds * 3)).low == pytest.approx(interval(one).low)
    other = clustered(rng)
    both = Sample(one.videos, (*one.seeds, *other.seeds))
    assert both.value == pytest.approx((one.value + other.value) / 2)


def test_videos_without_data_change_nothing_but_the_count():
    values, empty = np.arange(20.0), np.zeros(10)
    found = interval(sample([*values, *empty], [*np.ones(20), *empty]))
    assert found.low < 9.5 < found.high
    assert found.videos == 30


def test_pairing_sees_what_single_intervals_hide():
    rng = np.random.default_rng(3)
    base = rng.normal(size=80)
    one, other = sample(base + 0.1 + 0.02 * rng.normal(size=80), np.ones(80)), sample(base, np.ones(80))
    assert interval(one).low < interval(other).high
    found = difference(one, other)
    assert found.value == pytest.approx(0.1, abs=0.01)
    assert found.interval.low > 0
    assert (found.first_higher, found.p_value) == (1.0, 0.0)
    assert difference(other, one).value == pytest.approx(-found.value)


def test_a_number_does_not_differ_from_itself():
    one = clustered(np.random.default_rng(4))
    found = difference(one, one)
    assert (found.value, found.interval.low, found.interval.high) == (0, 0, 0)
    assert (found.first_higher, found.p_value) == (0.5, 1.0)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(DataError, match="9 videos are too few for an interval; expected at least 10"):
        interval(sample(np.ones(9), np.ones(9)))
    one = clustered(np.random.default_rng(5), 20)
    with pytest.raises(DataError, match="10 are in one of them only, such as 'video 020'"):
        difference(one, clustered(np.random.default_rng(5), 30))


def test_several_comparisons_are_adjusted_by_holm():
    p = [0.01, 0.04, 0.03, 0.5]
    expected = [0.04, 0.09, 0.09, 0.5]
    assert holm(p) == pytest.approx(expected)
    assert holm([]) == []


@pytest.mark.slow
def test_intervals_cover():
    """95% intervals over clustered videos hold the true share in 93 to 97% of 2,000 repetitions."""
    rng = np.random.default_rng(6)
    covered = sum(found.low <= 0.6 <= found.high for found in (interval(clustered(rng)) for _ in range(2000)))
    assert 0.93 <= covered / 2000 <= 0.97


@pytest.mark.slow
def test_paired_intervals_cover():
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(2000):
        lengths, shares = rng.integers(10, 60, 100), rng.beta(3, 2, 100)
        one, other = (sample(rng.binomial(lengths, shares), lengths) for _ in range(2))
        found = difference(one, other).interval
        covered += found.low <= 0 <= found.high
    assert 0.93 <= covered / 2000 <= 0.97
