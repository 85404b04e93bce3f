"""Folders of results: places of files, and the README that follows them."""

import json

import pytest

from ovvol_bench.errors import DataError, OutputError
from ovvol_bench.files import sealed, write_json
from ovvol_bench.results.folder import add_results, problems, readme_is_stale, write_results_readme


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


def test_the_readme_is_stale_until_written_and_after_a_new_result(tmp_path, make_result):
    folder = tmp_path / "shapes" / "videomae+slot_attention+pacl"
    folder.mkdir(parents=True)
    (folder / "1.json").write_text(json.dumps(make_result()))
    assert readme_is_stale(tmp_path)
    path = write_results_readme(tmp_path)
    assert not readme_is_stale(tmp_path)
    assert "| videomae" in path.read_text()
    (folder / "2.json").write_text(json.dumps(make_result(grouper="kmeans")))
    assert readme_is_stale(tmp_path)
    assert "kmeans" in write_results_readme(tmp_path).read_text()
    assert [found.name for found in tmp_path.iterdir() if found.is_file()] == ["README.md"]


def test_an_empty_folder_has_no_results_yet(tmp_path):
    assert "No results yet." in write_results_readme(tmp_path).read_text()


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        write_results_readme(tmp_path / "nowhere")
