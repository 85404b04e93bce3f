"""Which files count as results, and what is said about broken ones."""

import json

import pytest

from ovvol_bench.errors import DataError
from ovvol_bench.results.folder import read_results
from ovvol_bench.results.schema import json_schema, parse_result


@pytest.fixture
def tree(tmp_path, make_result):
    """A run folder and a results folder, with other JSON files beside the results."""
    for name, result in {
        "runs/shapes/a/1/result": make_result(),
        "results/shapes/a/2": make_result(seed=1),
    }.items():
        path = tmp_path / f"{name}.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(result))
    (tmp_path / "runs/shapes/a/1/run.json").write_text('{"schema": 1, "id": "x", "spec": {}}')
    (tmp_path / "runs/annotations.json").write_text("[1, 2]")
    return tmp_path


def test_trees_run_folders_and_files_are_read_and_other_json_is_counted(tree):
    assert len(list(read_results([tree])[0].values())) == 2
    assert read_results([tree])[1] == 2
    assert [r.seed for r in list(read_results([tree / "runs/shapes/a/1"])[0].values())] == [0]
    assert [r.seed for r in list(read_results([tree / "results/shapes/a/2.json"])[0].values())] == [1]


def test_a_copy_on_the_same_machine_counts_once_and_the_newest_wins(tmp_path, make_result):
    older, newer = make_result(), make_result(date="2026-10-01T00:00:00+00:00", error=None)
    elsewhere = make_result(machine={"gpu": "H100"})
    for index, result in enumerate([newer, older, elsewhere]):
        (tmp_path / f"{index}.json").write_text(json.dumps(result))
    results = list(read_results([tmp_path])[0].values())
    assert [r.date[:7] for r in results] == ["2026-10", "2026-09"]
    assert [r.machine.text for r in results] == ["Xeon, 2 cores, torch 2.15", "H100"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"encoder": {"options": {}}}, "encoder.name"),
        ({"status": "half"}, "status"),
        ({"metrics": {"ap50@p": {"value": "high", "count": 1}}}, "metrics.ap50@p.value"),
        ({"schema": 0}, "schema"),
    ],
)
def test_a_malformed_result_is_refused_with_file_and_field(tmp_path, make_result, change, field):
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(make_result() | change))
    with pytest.raises(DataError) as caught:
        read_results([tmp_path])
    assert str(path) in str(caught.value)
    assert f"'{field}'" in str(caught.value)


def test_a_newer_schema_asks_for_an_update(make_result):
    with pytest.raises(DataError, match=r"new\.json: field 'schema': got 2, .*Update ovvol-bench"):
        parse_result(make_result() | {"schema": 2}, "new.json")


def test_truncated_missing_and_unfit_files_are_refused_by_name(tmp_path):
    (tmp_path / "cut.json").write_text('{"schema": 1, "stat')
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(DataError, match=r"cut\.json: can't be read as JSON"):
        read_results([tmp_path])
    with pytest.raises(DataError, match=r"list\.json: not a result"):
        read_results([tmp_path / "list.json"])
    with pytest.raises(DataError, match="no such file"):
        read_results([tmp_path / "nowhere"])


def test_a_machine_without_facts_has_a_name(make_result):
    assert parse_result(make_result(machine={}), "x").machine.text == "unknown machine"


def test_what_is_read_is_written_as_it_was(make_result):
    result = make_result(by_video={"ap50": [0.25] * 3}, consensus=[3, 10], future={"field": [1, 2.5, None]})
    result["metrics"]["ap50@vid-reference"] |= {"value": 1, "unit": "share"}
    again = parse_result(result, "x").to_json()
    assert json.dumps(again, sort_keys=True) == json.dumps(result, sort_keys=True)


def test_the_schema_names_the_fields_that_results_have(make_result):
    schema = json_schema()
    assert make_result().keys() <= schema["properties"].keys()
    assert {"schema", "status", "id", "dataset", "metrics"} == set(schema["required"])
    assert schema["properties"]["metrics"]["additionalProperties"] == {"$ref": "#/$defs/Score"}
