from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovvol_bench.data.sampling import PAST_THE_END, TOO_SHORT, ClipSettings, clip_starts, plan_clips
from ovvol_bench.errors import SettingError

frames_per_clip = st.integers(1, 20)


@given(st.integers(0, 200), frames_per_clip)
def test_every_frame_is_reported_exactly_once(length, frames):
    starts = clip_starts(length, frames)
    reported = [clip.start + offset for clip in starts for offset in range(clip.context, frames)]
    assert reported == (list(range(length)) if length >= frames else [])


@given(st.integers(0, 200), frames_per_clip)
def test_reference_drops_an_exactly_fitting_last_clip(length, frames):
    starts = clip_starts(length, frames, "reference")
    assert len(starts) == max(length - 1, 0) // frames
    assert all(clip.context == 0 for clip in starts)


def test_short_videos_and_lost_ends_are_counted():
    clips, skipped = plan_clips([3, 8, 17, 0], ClipSettings(sampling="reference"))
    assert [(video, clip.start) for video, clip in clips] == [(2, 0), (2, 8)]
    assert skipped == {TOO_SHORT: 2, PAST_THE_END: 8 + 1}


def test_nothing_skipped_is_not_listed():
    assert plan_clips([8, 9], ClipSettings())[1] == {}


def test_stride_shortens_the_video():
    clips, _ = plan_clips([17, 8], ClipSettings(frames=4, stride=2))
    assert [(video, clip.start, clip.context) for video, clip in clips] == [
        (0, 0, 0), (0, 4, 0), (0, 5, 3), (1, 0, 0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "setting", [{"frames": 0}, {"stride": 0}, {"sampling": "some"}, {"short_side": 100}, {"multiple": -1}]
)
def test_bad_settings_are_named(setting):
    with pytest.raises(SettingError, match=next(iter(setting)).replace("frames", "frames_per_clip")):
        ClipSettings(**setting)


def test_short_videos_can_be_clips_of_their_own_length():
    settings = ClipSettings(frames=8, stride=2, keep_short=True)
    clips, skipped = plan_clips([0, 5, 16], settings)
    assert [(video, list(settings.positions(clip))) for video, clip in clips] == [
        (1, [0, 2, 4]),
        (2, list(range(0, 16, 2))),
    ]
    assert skipped == {TOO_SHORT: 1}
