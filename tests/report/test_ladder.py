"""What limits a method: shares that add up, and a picture of them."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ovvol_bench.cli import main
from ovvol_bench.errors import DataError
from ovvol_bench.report.ladder import attribute, ladder, ladder_figure, ladder_grid
from ovvol_bench.results.schema import Record, Score

STEPS = {(False, False): 0.1, (True, False): 0.2, (False, True): 0.6, (True, True): 0.8}


def result(**values):
    metrics = {name: {"value": value, "count": 1} for name, value in values.items()}
    data = {"name": "shapes", "fingerprint": ""}
    return Record(schema=1, status="done", id="x", dataset=data, metrics=metrics)


def results(values, name="ap50@vid-reference"):
    return {step: [result(**{name: value})] for step, value in values.items()}


def test_what_is_reached_and_lost_adds_up_to_one():
    (shares,) = ladder(results(STEPS))
    assert shares.reached + sum(shares.lost) == pytest.approx(1)
    assert shares == attribute("ap50@vid-reference", 0.1, 0.2, 0.6, 0.8)
    assert (shares.grid, shares.grouping) == (pytest.approx(0.2), pytest.approx(0.15))


def test_parts_that_do_not_interact_lose_what_mending_them_brings():
    shares = attribute("x", 0.2, 0.5, 0.3, 0.6)
    assert (shares.grouping, shares.naming) == (pytest.approx(0.3), pytest.approx(0.1))


def test_seeds_are_averaged_and_other_numbers_left_out():
    steps = results(STEPS)
    steps[False, False].append(result(**{"ap50@vid-reference": 0.3}))
    steps[False, False][0].metrics["boxes_per_frame@vid-reference"] = Score(value=3.0, count=1)
    (shares,) = ladder(steps)
    assert shares.reached == pytest.approx(0.2)


def test_a_missing_step_is_named():
    steps = results(STEPS)
    del steps[False, True]
    with pytest.raises(DataError, match="lacks the step 'true names'"):
        ladder(steps)


def test_the_table_and_the_picture_say_the_same():
    shares = ladder(results(STEPS))
    cells = [list(each.cells) for each in ladder_grid(shares).columns]
    assert cells == [["ap50@vid-reference"], ["10.0"], ["20.0"], ["15.0"], ["55.0"]]
    (axes,) = ladder_figure(shares, "shapes").axes
    assert {text.get_text() for text in axes.texts} == {"10", "20", "15", "55"}


def test_a_share_below_zero_is_told_in_words():
    (axes,) = ladder_figure([attribute("x@y", 0.5, 0.4, 0.9, 0.9)], "shapes").axes
    assert "encoder and grouper -5.0" in {text.get_text() for text in axes.texts}


def test_the_command_runs_all_four_steps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ["-o", "dataset.videos=1", "-o", "dataset.split=val", "--limit", "2", "--format", "json"]
    done = CliRunner().invoke(main, ["ladder", "--grouper", "grid", *small, "--picture", "ladder.png"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert [row["number"].split("@")[0] for row in rows][:2] == ["corloc_any", "corloc_top1"]
    for row in rows:
        assert sum(value for key, value in row.items() if key != "number") == pytest.approx(1)
    assert Path("ladder.png").stat().st_size > 1000
    assert len(list(Path("runs").rglob("result.json"))) == 4


def test_an_oracle_has_no_ladder():
    done = CliRunner().invoke(main, ["ladder", "--grouper", "oracle"])
    assert done.exit_code == 2
    assert "expected the method's own grouper" in done.output
