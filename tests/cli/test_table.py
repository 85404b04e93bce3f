"""`ovvol-bench table` and `compare` on files."""

import json
import os
import pty
import subprocess
import sys
import termios
from dataclasses import replace

import pytest
from click.testing import CliRunner

from ovvol_bench.cli import main
from ovvol_bench.runs.spec import PartSpec, RunSpec
from ovvol_bench.runs.store import Coverage, Outcome, Truth, build_result

SPEC = RunSpec(
    encoder=PartSpec("videomae"),
    grouper=PartSpec("slot_attention"),
    labeler=PartSpec("pacl"),
    dataset=PartSpec("shapes", {"split": "test"}, digest="f00d" * 16),
    vocabulary="v",
    naming={},
    metrics=(),
)


def write_result(folder, spec, ap50):
    scores = {"ap50@vid-reference": {"value": ap50, "count": 9, "higher_is_better": True}}
    result = build_result(spec, Truth(4, 32, 40, "shapes"), Outcome(Coverage(4, 32), scores))
    path = folder / "shapes" / spec.title / f"{spec.id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result))
    return path


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kmeans = replace(SPEC, grouper=PartSpec("kmeans"))
    return [write_result(tmp_path / "results", spec, value) for spec, value in ((SPEC, 0.25), (kmeans, 0.5))]


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_table_reads_results_and_runs_by_default(files):
    lines = invoke("table").output.splitlines()
    assert lines[0] == "shapes test · 4 clips · vid-reference · data f00df00d"
    assert [line.split()[1] for line in lines[4:6]] == ["kmeans", "slot_attention"]


def test_columns_order_and_format_can_be_chosen(files):
    result = invoke("table", *files, "--columns", "grouper, ap50", "--sort-by", "grouper", "--format", "json")
    assert [(record["grouper"], record["ap50@vid-reference"]) for record in json.loads(result.stdout)] == [
        ("kmeans", 0.5),
        ("slot_attention", 0.25),
    ]


def at_a_terminal(width, *arguments):
    """What a command prints to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, width))
    command = [sys.executable, "-c", "from ovvol_bench.cli import main; main()", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=theirs, env=environment) as process:
        os.close(theirs)
        printed = b""
        while part := read(ours):
            printed += part
    os.close(ours)
    assert process.returncode == 0
    return printed.decode().replace("\r\n", "\n")


def read(terminal):
    """The next bytes, none at the end, which Linux reports as an error."""
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""


def test_tables_fit_the_terminal_and_pipes_have_no_limit(files):
    columns = ("table", *files, "--columns", "encoder,grouper,labeler,ap50,clips_per_s,coverage,date,id")
    printed = at_a_terminal(70, *columns)
    table = printed.split("\n\n")[1].split("\n")
    assert max(map(len, table)) <= 70
    assert "left out to fit the terminal: clips_per_s, date. To see every column" in printed
    piped = invoke(*columns).output
    assert max(map(len, piped.splitlines())) > 70
    assert "left out" not in piped


def test_long_summaries_are_broken_at_a_terminal(files):
    table, left_out = at_a_terminal(80, "plugins", "--kind", "metric").split("\n\n")
    assert max(map(len, table.split("\n"))) <= 80
    assert "COCO's average precision and recall of boxes or masks" in table
    assert left_out.startswith("left out to fit the terminal: origin, version.")


def test_passed_over_files_are_counted_on_stderr_alone(files, tmp_path):
    (tmp_path / "results" / "notes.json").write_text("{}")
    result = invoke("table", "--format", "json")
    assert json.loads(result.stdout)
    assert "1 JSON files that hold no result were passed over" in result.stderr


def test_no_results_is_an_error_that_says_where_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke("table")
    assert result.exit_code == 2
    assert "no results in results/ and runs/" in result.stderr
    assert "ovvol-bench run" in result.stderr


def test_the_readme_is_written_and_checked(files, tmp_path):
    readme = ("table", "results", "--readme", "results/README.md")
    stale = invoke(*readme, "--check")
    assert stale.exit_code == 1
    assert "out of date" in stale.stderr
    assert invoke(*readme).exit_code == 0
    assert invoke(*readme, "--check").exit_code == 0
    write_result(tmp_path / "results", replace(SPEC, seeds=(1,)), 0.75)
    assert invoke(*readme, "--check").exit_code == 1


def test_what_has_an_equals_sign_is_a_filter_unless_it_is_a_file(files, tmp_path):
    def groupers(*arguments):
        table = invoke("table", *arguments, "--format", "json")
        return [record["grouper"] for record in json.loads(table.stdout)]

    assert groupers("results", "grouper=kmeans") == groupers("grouper=kmeans") == ["kmeans"]
    files[0].rename(tmp_path / "grouper=kmeans")
    assert groupers("grouper=kmeans") == ["slot_attention"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["gruper=kmeans"], "unknown filter 'gruper'. Did you mean 'grouper'?"),
        (["seed=7"], "an empty table: none of 2 results has seed=7"),
        (["nowhere.json"], "nowhere.json: no such file or folder"),
        (["results", "seed=0", "--readme", "results/README.md"], "drop the filter seed=0"),
        (["results", "--references", "nowhere"], "--references nowhere: no such folder"),
    ],
)
def test_wrong_filters_and_paths_are_one_message(files, arguments, expected):
    refused = invoke("table", *arguments)
    assert refused.exit_code == 2
    assert expected in refused.stderr
    assert not refused.stdout


def test_contradicting_readme_options_are_refused(files):
    assert "--check needs --readme" in invoke("table", "--check").stderr
    elsewhere = invoke("table", "results", "--readme", "docs/README.md")
    assert elsewhere.exit_code == 2
    assert "in the folder of the results" in elsewhere.stderr


def test_compare_ranks_and_subtracts(files):
    lines = invoke("compare", *files, "--columns", "grouper,ap50").output.splitlines()
    assert [line.split()[1:3] for line in lines[4:6]] == [["kmeans", "50.0"], ["slot_attention", "25.0"]]
    assert next(line for line in lines if line.startswith("kmeans −")).split()[-4] == "+25.0"


def test_compare_refuses_other_data(files, tmp_path):
    other = replace(SPEC, dataset=PartSpec("shapes", {"split": "test"}, digest="beef" * 16))
    result = invoke("compare", files[0], write_result(tmp_path, other, 0.5))
    assert result.exit_code == 2
    assert "differ in fingerprint" in result.stderr


def test_a_closed_standard_output_is_no_traceback():
    script = f"{sys.executable} -m ovvol_bench plugins >&-"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
