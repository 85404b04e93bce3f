"""Run folders: files in full or not at all, one writer, three ways to overwrite."""

import json
import subprocess
import sys

import pytest

from ovvol_bench.errors import DataError, SettingError
from ovvol_bench.files import ensure_writable, read_json_object, sealed, write_json
from ovvol_bench.runs.spec import PartSpec, RunSpec
from ovvol_bench.runs.store import Overwrite, RunFolder

SPEC = RunSpec(
    encoder=PartSpec("e"),
    grouper=PartSpec("g"),
    labeler=PartSpec("l"),
    dataset=PartSpec("d"),
    vocabulary="",
    naming={},
    metrics=(),
)


@pytest.fixture
def folder(tmp_path):
    return RunFolder.of(tmp_path, SPEC)


def start(folder, overwrite=Overwrite.MISSING):
    with folder.claimed():
        folder.start(SPEC, overwrite)


def complete(folder):
    start(folder)
    (folder.predictions / "some.safetensors").touch()
    folder.write_result({"status": "done"})


def test_folder_is_named_by_dataset_combination_and_identity(folder, tmp_path):
    assert folder.path == tmp_path / "d" / "e+g+l" / SPEC.id


def test_spec_is_kept(folder):
    start(folder)
    assert folder.read_spec() == SPEC
    assert json.loads(folder.spec_file.read_text())["id"] == SPEC.id


def test_a_spec_of_another_schema_is_refused(folder):
    start(folder)
    write_json(folder.spec_file, {"schema": 99, "spec": {}})
    with pytest.raises(DataError, match="expected a run of schema 1, found 99"):
        folder.read_spec()


@pytest.mark.parametrize(("overwrite", "kept"), [(Overwrite.MISSING, True), (Overwrite.ALWAYS, False)])
def test_a_complete_run_is_kept_or_started_anew(folder, overwrite, kept):
    complete(folder)
    start(folder, overwrite)
    assert folder.complete is kept
    assert bool(list(folder.predictions.iterdir())) is kept


def test_never_refuses_a_complete_run_and_continues_a_failed_one(folder):
    complete(folder)
    with pytest.raises(SettingError, match="holds a complete run already"):
        start(folder, Overwrite.NEVER)
    folder.write_result({"status": "failed"})
    start(folder, Overwrite.NEVER)
    assert list(folder.predictions.iterdir())


def test_two_processes_do_not_write_one_folder(folder):
    script = (
        "import sys; from pathlib import Path; from ovvol_bench.runs.store import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).claimed(): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(folder.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(SettingError, match=rf"another process \(pid {holder.pid}\)"), folder.claimed():
            pass
        holder.kill()
    with folder.claimed():  # nothing is left of a holder that was killed
        pass


def test_json_has_null_for_nan_and_no_half_file(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, {"ap": float("nan"), "list": (1.5, float("-inf"))})
    assert read_json_object(path) == {"ap": None, "list": [1.5, None]}
    with pytest.raises(TypeError):
        write_json(path, {"ap": object()})
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]
    assert read_json_object(path)["list"] == [1.5, None]


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_malformed_json_is_named(tmp_path, content):
    path = tmp_path / "run.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"run\.json"):
        read_json_object(path)


def test_an_output_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "taken").touch()
    with pytest.raises(SettingError, match=r"can't write to the output folder .*--output"):
        ensure_writable(tmp_path / "taken" / "runs")


def test_a_result_with_names_that_are_no_utf8_keeps_its_digest(tmp_path):
    folder = RunFolder(tmp_path)
    written = folder.write_result({"caf\udce9": "x\udcff", "half": "\ud800", "status": "done"})
    read = read_json_object(folder.result_file)
    assert read == written and sealed(read) == read
    assert read["caf\\xe9"] == "x\\xff"
