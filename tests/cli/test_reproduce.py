"""``ovvol-bench reproduce`` and ``ovvol-bench results``, with tiny components."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ovvol_bench.cli import main
from ovvol_bench.files import sealed

RUNS = Path(__file__).parents[1] / "runs"
PLUGIN = ("--plugin", str(RUNS / "tiny_plugin.py"))


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A folder with two runs."""
    root = tmp_path_factory.mktemp("runs")
    command = ["run", "--preset", str(RUNS / "tiny.yaml"), *PLUGIN, "--seeds", "0,1", "--output", str(root)]
    done = CliRunner().invoke(main, [*command, "--limit", "4"], env={"OVVOL_PLUGINS": "metrics"})
    assert done.exit_code == 0, done.output
    return root


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    monkeypatch.setenv("OVVOL_PLUGINS", "metrics")
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, [str(each) for each in arguments])


@pytest.fixture
def results(ran, invoke):
    done = invoke("results", "add", ran)
    assert done.exit_code == 0, done.output
    return sorted(Path("results").resolve().rglob("*.json"))


def edit(path, change):
    """Change a result as somebody would who knows about digests."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(sealed(document)))


def test_the_same_numbers_come_again(results, invoke):
    done = invoke("reproduce", results[0], *PLUGIN, "--output", "again")
    assert done.exit_code == 0, done.output
    values = json.loads(results[0].read_text())["metrics"]
    equal = f"{len(values)} of {len(values)} numbers are equal within 1e-06 (0.0001 points of a percentage)"
    assert f"{equal}: again/squares/" in done.output
    lines = {line.split("  ")[0]: line.split()[-3:] for line in done.output.splitlines()}
    share = f"{100 * values['detrate@vid-reference']['value']:.4f}"
    assert lines["detrate@vid-reference %"] == [share, share, "0.0e+00"]


def test_a_number_that_differs_gives_exit_code_1_and_says_what_changed(results, invoke):
    def change(document):
        document["metrics"]["detrate@vid-reference"]["value"] += 0.01
        document["machine"]["torch"] = "1.0"

    edit(results[0], change)
    done = invoke("reproduce", results[0], *PLUGIN)
    assert done.exit_code == 1
    assert "1.0e+00" in done.output  # a point
    assert "torch: 1.0, now" in done.output
    assert invoke("reproduce", results[0], *PLUGIN, "--tolerance", "0.1").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "grouper.num_slots=3"], "-o grouper.num_slots: would be another run"),
        (["-o", "naming.merge=none"], "-o naming.merge: would be another run"),
    ],
)
def test_nothing_but_places_can_be_set(results, invoke, arguments, message):
    done = invoke("reproduce", results[0], *PLUGIN, *arguments)
    assert done.exit_code == 2
    assert message in done.output


def test_a_failed_run_cannot_come_again(results, invoke):
    edit(results[0], lambda document: document.update(status="failed", error="gone"))
    done = invoke("reproduce", results[0], *PLUGIN)
    assert done.exit_code == 2
    assert "expected a finished run" in done.output


def test_results_lie_where_their_content_says(results, invoke):
    assert [path.parent.name for path in results] == ["tiny+randomcut+colours"] * 2
    assert results[0].parents[1].name == "squares"
    assert all(path.stem == json.loads(path.read_text())["id"] for path in results)
    done = invoke("results", "check")
    assert (done.exit_code, done.output) == (0, "results is in order\n")


def test_what_is_not_in_order_is_listed(results, invoke):
    results[0].write_text(results[0].read_text().replace('"seed": ', '"seed": 1'))
    elsewhere = results[1].with_name("copy.json")
    results[1].rename(elsewhere)
    done = invoke("results", "check")
    assert done.exit_code == 1
    assert f"{results[0].relative_to(Path.cwd())}: field 'digest' differs from the content" in done.output
    assert "copy.json: expected at results/squares/tiny+randomcut+colours/" in done.output


def test_a_readme_of_other_results_is_out_of_date(results, invoke):
    Path("results/README.md").write_text("old")
    done = invoke("results", "check")
    assert done.exit_code == 1
    assert "README.md is out of date. Run: ovvol-bench table results --readme" in done.output


def test_a_result_without_digest_is_told_apart(results, invoke):
    document = json.loads(results[0].read_text())
    del document["digest"]
    results[0].write_text(json.dumps(document))
    assert "field 'digest' is missing" in invoke("results", "check").output


def test_a_missing_folder_is_an_error(invoke):
    done = invoke("results", "check", "nowhere")
    assert done.exit_code == 2
    assert "nowhere: no such folder" in done.output


def test_an_edited_result_is_refused_by_tables(results, invoke):
    results[0].write_text(results[0].read_text().replace('"precision": "float32"', '"precision": "bfloat16"'))
    done = invoke("table", "results")
    assert done.exit_code == 2
    assert "Results are never edited" in done.output


def test_pictures_change_nothing_of_what_can_be_reproduced(ran, results, invoke, tmp_path):
    run = next(ran.rglob("result.json")).parent
    before = (run / "result.json").read_bytes()
    try:
        done = invoke("eval", run, *PLUGIN, "--pictures", tmp_path / "pictures")
        assert done.exit_code == 0, done.output
        done = invoke("reproduce", run / "result.json", *PLUGIN, "--output", "again")
    finally:
        (run / "result.json").write_bytes(before)
    assert done.exit_code == 0, done.output
