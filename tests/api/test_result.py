"""Results as objects: numbers by name, frames, tables, comparisons."""

import json
import math

import pytest

import ovvol_bench as ovb
from ovvol_bench.api.result import Result, Results
from ovvol_bench.errors import DataError, OvvolError, SettingError
from ovvol_bench.results.schema import parse_result
from ovvol_bench.runs.spec import PartSpec, RunSpec
from ovvol_bench.runs.store import Coverage, Outcome, Truth, build_result

VALUES = [0.3 + 0.1 * (index % 5) for index in range(30)]


def make(grouper, shift=0.0, seed=0, protocols=("vid-reference",)):
    """A result of 30 videos whose AP50 is higher by ``shift``."""
    spec = RunSpec(
        *(PartSpec(name) for name in ("videomae", grouper, "pacl")),
        PartSpec("shapes", {"split": "test"}, digest="f00d" * 16),
        vocabulary="v",
        naming={},
        metrics=(),
        seeds=(seed,),
    )
    values = [value + shift for value in VALUES]
    keys = [f"ap50@{protocol}" for protocol in protocols]
    score = {"value": sum(values) / 30, "count": 360, "higher_is_better": True, "notes": {}}
    undefined = {"value": None, "count": 0, "higher_is_better": True, "notes": {}}
    terms = {key: {"sums": [12 * value for value in values], "counts": [12] * 30} for key in keys}
    outcome = Outcome(
        Coverage(30, 360),
        {**dict.fromkeys(keys, score), "detrate@vid-reference": undefined},
        videos={"names": [f"{index:02d}" for index in range(30)], "terms": terms},
    )
    return Result(parse_result(build_result(spec, Truth(30, 360, 900, "shapes"), outcome), "made up"))


@pytest.fixture
def stored(tmp_path):
    (tmp_path / "results/kmeans").mkdir(parents=True)
    (tmp_path / "results/kmeans/result.json").write_text(json.dumps(make("kmeans", 0.05).record.to_json()))
    (tmp_path / "results/grid.json").write_text(json.dumps(make("grid").record.to_json()))
    (tmp_path / "results" / "other.json").write_text("{}")
    return tmp_path / "results"


def test_numbers_are_found_by_short_and_by_full_name():
    metrics = make("kmeans").metrics
    assert metrics["ap50"] == metrics["ap50@vid-reference"] == pytest.approx(0.5)
    assert math.isnan(metrics["detrate"])
    assert list(metrics) == ["ap50", "detrate"]
    assert metrics.get("ap75") is None
    assert "ap50" in metrics and "ap75" not in metrics


def test_a_number_of_several_protocols_has_the_protocol_in_its_name():
    metrics = make("kmeans", protocols=("vid-reference", "vid-devkit")).metrics
    assert list(metrics) == ["ap50@vid-reference", "ap50@vid-devkit", "detrate"]
    with pytest.raises(KeyError):
        metrics["ap50"]


def test_an_unknown_number_is_named_with_the_nearest():
    with pytest.raises(OvvolError, match=r"no number 'ap5'\. Did you mean 'ap50'\?") as caught:
        make("kmeans").metrics["ap5"]
    assert not str(caught.value).startswith("'")


def test_results_are_a_frame_of_one_row_each():
    frame = Results([make("kmeans", 0.1), make("grid", seed=2)]).to_pandas()
    assert frame.grouper.tolist() == ["kmeans", "grid"]
    assert frame.seed.tolist() == ["0", "2"]
    assert frame.ap50.tolist() == pytest.approx([0.6, 0.5])
    assert frame.detrate.isna().all()
    assert make("kmeans").to_pandas().shape == (1, frame.shape[1])


def test_results_show_as_tables_in_text_and_notebooks():
    results = Results([make("kmeans"), make("grid")])
    assert "kmeans" in str(results) and "<table>" in results._repr_html_()
    assert "50.0" in str(results[0]) and "<table>" in results[0]._repr_html_()
    assert repr(results[0]) == "<Result videomae+kmeans+pacl on shapes: ap50=0.5, detrate=nan>"
    assert results.table(["grouper", "ap50"], "csv").splitlines()[0].startswith("dataset,split")
    assert str(Results([])) == "no results"


def test_slices_are_results():
    results = Results([make("kmeans"), make("grid"), make("whole")])
    assert [each.name for each in results[1:]] == ["videomae+grid+pacl", "videomae+whole+pacl"]


def test_stored_results_come_with_their_files(stored):
    results = ovb.load_results(stored)
    assert [each.path for each in results] == [stored / "grid.json", stored / "kmeans"]
    assert results.skipped == 1
    (found,) = ovb.load_results(stored, where="grouper=kmeans")
    assert found.name == "videomae+kmeans+pacl"


def test_stored_results_are_looked_for_in_the_usual_places(stored, monkeypatch):
    monkeypatch.chdir(stored.parent)
    assert len(ovb.load_results()) == 2
    monkeypatch.chdir(stored / "kmeans")
    with pytest.raises(DataError, match="neither is here"):
        ovb.load_results()


def test_filters_are_checked(stored):
    with pytest.raises(SettingError, match=r"unknown filter 'groper'\. Did you mean 'grouper'"):
        ovb.load_results(stored, where=["groper=kmeans"])


def test_the_first_is_compared_with_the_others_in_the_order_given():
    low, high = make("grid"), make("kmeans", 0.05)
    found = ovb.compare(low, high)
    assert found["ap50"].value == pytest.approx(-0.05)
    assert found["ap50"].interval == pytest.approx((-0.05, -0.05))
    assert found["ap50"].pair == ("grid", "kmeans")
    assert ovb.compare(low, high, best_first=True)["ap50"].value == pytest.approx(0.05)
    assert ovb.compare(Results([low, high]))["ap50"].value == pytest.approx(-0.05)


def test_a_comparison_is_a_frame_and_a_table(stored):
    found = ovb.compare(stored / "kmeans", str(stored / "grid.json"), columns=["ap50"])
    (row,) = found.to_pandas().to_dict("records")
    assert (row["first"], row["other"], row["number"], row["videos"]) == (
        "kmeans",
        "grid",
        "ap50@vid-reference",
        30,
    )
    assert "95% interval" in str(found) and "<table>" in found._repr_html_()


def test_one_result_is_not_compared():
    with pytest.raises(OvvolError, match="at least two"):
        ovb.compare(make("kmeans"))
    with pytest.raises(OvvolError, match="has no number 'ap'"):
        ovb.compare(make("kmeans"), make("grid"))["ap"]
