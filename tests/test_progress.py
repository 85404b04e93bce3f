"""Progress where standard error is no terminal."""

import logging
import time

import pytest

from ovvol_bench.progress import LINE_EVERY, LOGGER, progress_bars, with_progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_line_every_half_minute_says_how_far_how_fast_and_how_long_yet(clock, capsys):
    with progress_bars("clips") as update:
        update("shapes", 0, 300)
        clock[0] += LINE_EVERY - 1
        update("shapes", 50, 300)
        assert capsys.readouterr().err == ""
        clock[0] += 1
        update("shapes", 60, 300, "loss 2")
    assert capsys.readouterr().err == "shapes: 60 of 300 clips, 2 clips/s, 2:00 left, loss 2\n"


def test_steps_that_take_long_are_told_too(clock, capsys):
    for _ in with_progress(range(4), 4, "reading", lambda _: 1):
        clock[0] += LINE_EVERY
    assert "reading: 3 of 4 steps" in capsys.readouterr().err


def test_quiet_means_no_line(clock, capsys):
    LOGGER.setLevel(logging.WARNING)
    try:
        with progress_bars("clips") as update:
            for done in range(3):
                update("shapes", done, 3)
                clock[0] += LINE_EVERY
    finally:
        LOGGER.setLevel(logging.INFO)
    assert capsys.readouterr().err == ""
