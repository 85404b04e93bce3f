"""``ovvol-bench bench`` from the command line, with tiny components."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from throughput_results import row, throughput

from ovvol_bench.cli import main
from ovvol_bench.files import write_json
from ovvol_bench.throughput import session
from ovvol_bench.throughput.record import load_throughput

RUNS = Path(__file__).parents[1] / "runs"


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    monkeypatch.setenv("OVVOL_PLUGINS", "metrics")
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        preset = ("--preset", str(RUNS / "tiny.yaml"), "--plugin", str(RUNS / "tiny_plugin.py"))
        return CliRunner().invoke(main, ["bench", *(() if "--show" in arguments else preset), *arguments])

    return call


def test_measures_writes_and_prints_all(invoke, tmp_path):
    options = ("--sizes", "32x48", "--batch-sizes", "2", "--repeats", "2", "--limit", "2", "--device", "cpu")
    done = invoke(*options, "--grouper", "randomcut,brokencut", "--fidelity", "both", "--threads", "1")
    assert done.exit_code == 1, done.output
    for expected in ("clips/s", "Milliseconds a clip", "Parameters", "Fast against reference", "fell over"):
        assert expected in done.output
    (path,) = (tmp_path / "results/throughput").iterdir()
    (found,) = load_throughput([path])
    assert [(each.fidelity, each.batch_size) for each in found.rows] == [
        ("reference", 2),
        ("fast", 2),
    ]
    assert len(found.failures) == 2
    assert found.machine.threads == 1
    for each in found.rows:
        whole, flops = each.seconds["whole"].median, each.flops
        assert each.share_of_peak["whole"] == pytest.approx(flops["whole"] / whole / each.matrix_peak)
        assert flops["whole"] == sum(flops[stage] for stage in ("encode", "group", "label"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sizes", "224"), "'224' is no list of sizes; expected HEIGHTxWIDTH"),
        (("--sizes", "32x0"), "--sizes must be at least 1, got 0"),
        (("--batch-sizes", "1,x"), "'1,x' is no list of batch sizes"),
        (("--batch-sizes", "0"), "--batch-sizes must be at least 1, got 0"),
        (("--encoder", "tyni"), "unknown encoder 'tyni'"),
        (("--sizes", "32x48", "-o", "encoder.dims=3"), "has a setting 'dims'"),
        (("--repeats", "0"), "--repeats must be at least 1"),
        (("--fidelity", "reference", "--precision", "bfloat16"), "reference is float32 by definition"),
        (("--picture", "a.png", "--results", "nowhere"), "nowhere: no such file or folder"),
        (("--random-weights", "-o", "encoder.weights=x"), "--random-weights draws all weights"),
    ],
)
def test_mistakes_end_with_one_message(invoke, arguments, message):
    done = invoke(*arguments)
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output


def test_if_nothing_can_be_measured_the_reason_is_the_message(invoke, tmp_path):
    done = invoke("--sizes", "32x48", "--batch-sizes", "1", "--grouper", "needy", "--device", "cpu")
    assert done.exit_code == 2
    assert "grouper 'needy' needs keys from the encoder" in done.output
    assert list((tmp_path / "results/throughput").iterdir()) == []


def test_stored_files_are_printed_again(invoke, tmp_path):
    write_json(tmp_path / "kept/one.json", throughput([row(2.0)]))
    done = invoke("--show", "kept")
    assert done.exit_code == 0, done.output
    assert "Speed · Xeon, 2 cores, torch 2.15, 2 threads" in done.output
    (found,) = json.loads(invoke("--show", "kept/one.json", "--format", "json").stdout)
    assert found == throughput([row(2.0)])


def test_showing_takes_no_options_of_measuring(invoke):
    done = invoke("--show", "kept", "--sizes", "32x48")
    assert done.exit_code == 2
    assert "--show measures nothing; drop --sizes" in done.output


def test_what_was_measured_before_an_interrupt_is_kept(invoke, tmp_path, monkeypatch):
    rows = iter([throughput([row(2.0)])])

    def cut_off(request, registry, progress):
        yield from rows
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "bench", cut_off)
    done = invoke("--output", "kept.json", "--sizes", "32x48")
    assert done.exit_code == 130
    assert len(load_throughput([tmp_path / "kept.json"])) == 1
