import json

import pytest
from throughput_results import row, throughput

from ovvol_bench.errors import DataError
from ovvol_bench.files import sealed, write_json
from ovvol_bench.results.folder import problems, read_results
from ovvol_bench.throughput.record import default_name, load_throughput


def test_what_is_written_is_read(tmp_path):
    result = throughput([row(2.0)])
    path = tmp_path / "throughput" / "one.json"
    write_json(path, result)
    assert json.loads(path.read_text()) == result
    (found,) = load_throughput([tmp_path])
    assert found.rows[0].clips_per_s.median == 2.0
    assert load_throughput([path]) == [found]


def test_an_edited_file_is_refused(tmp_path):
    result = throughput([row(2.0)])
    result["rows"][0]["clips_per_s"]["median"] = 20.0
    write_json(tmp_path / "one.json", result)
    with pytest.raises(DataError, match=r"one\.json: field 'digest' differs from the content"):
        load_throughput([tmp_path])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"throughput": 2}, "field 'throughput'"),
        ({"rows": [row(2.0, batch_size=None)]}, r"field 'rows\.0\.batch_size'"),
        ({"rows": [row(2.0, fidelity="slow")]}, r"field 'rows\.0\.fidelity'"),
    ],
)
def test_a_wrong_field_is_named(tmp_path, fields, message):
    write_json(tmp_path / "one.json", sealed({**throughput([row(2.0)]), **fields}))
    with pytest.raises(DataError, match=message):
        load_throughput([tmp_path / "one.json"])


def test_a_missing_file_and_an_empty_folder_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"none\.json"):
        load_throughput([tmp_path / "none.json"])
    with pytest.raises(DataError, match="ovvol-bench bench"):
        load_throughput([tmp_path])


def test_the_name_says_preset_method_and_machine():
    one = throughput([row(2.0)], fingerprint="12ab34cd")
    assert default_name(one) == "shapes-videomae+kmeans+pacl-12ab34cd.json"


def test_they_are_in_order_in_a_folder_of_results_and_are_no_results(tmp_path):
    path = tmp_path / "throughput" / "one.json"
    write_json(path, throughput([row(2.0)]))
    assert [problem for problem in problems(tmp_path) if str(path) in problem] == []
    assert read_results([tmp_path])[1] == 0
    path.write_text(path.read_text().replace("shapes", "squares"))
    assert any("'digest' differs" in problem for problem in problems(tmp_path))
