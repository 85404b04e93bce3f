"""Results are put below their folder, whatever they are called."""

import pytest

from ovvol_bench.errors import DataError, OutputError
from ovvol_bench.files import write_json
from ovvol_bench.report.results_check import add_results, problems
from ovvol_bench.runs.spec import sealed


@pytest.mark.parametrize("field", ["dataset", "encoder", "id"])
@pytest.mark.parametrize("name", ["../../../evil", "/tmp/evil", "a\x1bb", "L" * 400])
def test_names_that_lead_elsewhere_are_refused_and_nothing_is_written(tmp_path, make_result, field, name):
    result = make_result()
    result |= {field: name if field == "id" else {**result[field], "name": name}}
    write_json(tmp_path / "runs" / "good.json", sealed(make_result(seed=1)))
    write_json(tmp_path / "runs" / "result.json", sealed(result))
    with pytest.raises(OutputError, match="can't write below"):
        list(add_results([tmp_path / "runs"], tmp_path / "deep" / "results"))
    assert not (tmp_path / "deep").exists()
    (line,) = [each for each in problems(tmp_path / "runs") if "good" not in each]
    assert "result.json: can't write below" in line


def test_a_folder_without_a_finished_result_is_named_and_nothing_is_written(tmp_path, make_result):
    write_json(tmp_path / "runs" / "good.json", sealed(make_result()))
    write_json(tmp_path / "failed" / "result.json", sealed(make_result(error="it broke")))
    (tmp_path / "empty").mkdir()
    for lacking in (tmp_path / "failed", tmp_path / "empty"):
        with pytest.raises(DataError, match=f"^{lacking}: no result of a finished run"):
            list(add_results([tmp_path / "runs", lacking], tmp_path / "results"))
    assert not (tmp_path / "results").exists()
