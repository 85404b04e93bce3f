"""The README of a results folder follows its files."""

import json

import pytest

from ovvol_bench.errors import DataError
from ovvol_bench.report.readme import readme_is_stale, write_results_readme


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
