"""Published numbers: read strictly, shown with their sources, never ranked."""

import json
from pathlib import Path

import pytest

from ovvol_bench.errors import DataError
from ovvol_bench.results.folder import read_results
from ovvol_bench.results.references import load_references, reference_grid, render_references

FOLDER = Path(__file__).parents[2] / "results" / "reference"


def document(**changes):
    row = {
        "method": "LOST",
        "kind": "unsupervised",
        "metrics": {"corloc_top1": {"value": 61.9, "std": 0.4}, "ap50": {"value": 3}},
        "status": "reported",
        "source": "a README",
        "note": "one box",
    }
    return {
        "schema": 1,
        "reference": True,
        "dataset": "voc07",
        "split": "val",
        "protocol": "single-box",
        "rows": [row, row | {"method": "Other", "metrics": {}}],
    } | changes


def test_a_table_says_where_numbers_come_from(tmp_path):
    (tmp_path / "voc.json").write_text(json.dumps(document()))
    grid = reference_grid(load_references(tmp_path)[0])
    assert grid.title == "voc07 · split: val · single-box · published, not ranked"
    assert [each.header for each in grid.columns] == [
        *("method", "corloc_top1 %", "ap50 %", "kind", "status", "source")
    ]
    first, second = zip(*(each.cells for each in grid.columns), strict=True)
    assert first == ("LOST", "61.9 ± 0.4", "3.0", "unsupervised", "reported", "a README")
    assert second[1:3] == ("–", "–")
    assert grid.notes == ["LOST: one box", "Other: one box"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"schema": 2}, "schema"),
        ({"rows": [{"method": "LOST"}]}, "rows.0.kind"),
        ({"colour": "red"}, "colour"),
        (
            {"rows": [document()["rows"][0] | {"metrics": {"ap50": {"value": "high"}}}]},
            "rows.0.metrics.ap50.value",
        ),
    ],
)
def test_a_wrong_file_is_named(tmp_path, changes, field):
    path = tmp_path / "voc.json"
    path.write_text(json.dumps(document(**changes)))
    with pytest.raises(DataError) as error:
        load_references(tmp_path)
    assert str(path) in str(error.value)
    assert f"field '{field}'" in str(error.value)


def test_a_truncated_file_is_named(tmp_path):
    (tmp_path / "voc.json").write_text("{")
    with pytest.raises(DataError, match="can't be read as JSON"):
        load_references(tmp_path)


def test_ours_are_valid_and_have_sources():
    found = load_references(FOLDER)
    assert len(found) == len(list(FOLDER.glob("*.json"))) > 10
    assert all(row["source"] for each in found for row in each["rows"])
    assert all(
        0 <= number["value"] <= 100
        for each in found
        for row in each["rows"]
        for number in row["metrics"].values()
    )
    assert "\\toprule" in render_references(found, "latex")


def test_the_papers_own_numbers_are_not_invented():
    paper = next(each for each in load_references(FOLDER) if each["protocol"] == "vid-reference")
    assert [row["metrics"] for row in paper["rows"]] == [{}]
    assert "not reported in any source found" in paper["rows"][0]["note"]


def test_results_pass_them_over_silently():
    assert read_results([FOLDER])[1] == 0
