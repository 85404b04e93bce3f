import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ovvol_bench.arrays import all_pairs, offsets_of, spans

lengths = st.lists(st.integers(0, 4), max_size=6)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), max_size=6))
def test_spans_are_the_ranges_end_to_end(ranges):
    starts = np.array([start for start, _ in ranges], np.int64)
    counts = np.array([count for _, count in ranges], np.int64)
    expected = [index for start, count in ranges for index in range(start, start + count)]
    assert spans(starts, counts).tolist() == expected


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=6))
def test_pairs_stay_within_their_list(counts):
    first = np.array([one for one, _ in counts], np.int64)
    second = np.array([other for _, other in counts], np.int64)
    expected = [
        (int(offsets_of(first)[row]) + one, int(offsets_of(second)[row]) + other)
        for row in range(len(counts))
        for one in range(first[row])
        for other in range(second[row])
    ]
    got = all_pairs(first, second)
    assert list(zip(*(each.tolist() for each in got), strict=True)) == expected


@given(lengths)
def test_offsets_start_at_zero_and_end_at_the_total(counts):
    offsets = offsets_of(np.array(counts, np.int64))
    assert offsets[0] == 0
    assert offsets[-1] == sum(counts)
    assert np.diff(offsets).tolist() == counts
