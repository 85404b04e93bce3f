"""``ovvol-bench plugins``."""

import json
import re

import pytest
from click.testing import CliRunner

from ovvol_bench.cli import main
from ovvol_bench.registry import host
from ovvol_bench.registry.discovery import Source

PLUGIN = """
from ovvol_bench import Entry, hookimpl

@hookimpl
def ovvol_groupers():
    yield Entry("kmeans", lambda: 0, "k-means over features")

@hookimpl
def ovvol_run_finished(result): ...
"""


def fail():
    raise ImportError("libsomething.so is missing")


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """Runs the command with one broken package and some files."""
    stranger = Source("stranger 2.0 (stranger)", "2.0", fail, str)
    monkeypatch.setattr(host, "installed", lambda only: [stranger])

    def run(*texts: str, style: str = "text") -> str:
        arguments = []
        for position, text in enumerate(texts):
            path = tmp_path / f"file{position}.py"
            path.write_text(text)
            arguments += ["--plugin", str(path)]
        result = CliRunner().invoke(main, ["plugins", *arguments, "--format", style])
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


def test_json_tells_everything(plugins, tmp_path):
    found = json.loads(plugins(PLUGIN, style="json"))
    kmeans, event = [row for row in found["components"] if row["kind"] != "preset"]
    assert kmeans.pop("version").startswith("sha256:")
    origin = f"file {tmp_path / 'file0.py'}"
    assert kmeans == {
        "kind": "grouper",
        "name": "kmeans",
        "origin": origin,
        "summary": "k-means over features",
    }
    assert (event["kind"], event["name"], event["origin"]) == ("event", "ovvol_run_finished", origin)
    assert [item["origin"] for item in found["broken"]] == ["stranger 2.0 (stranger)"]
    assert "libsomething.so is missing" in found["broken"][0]["reason"]
    assert found["conflicts"] == []


def test_text_lists_components_then_broken_ones_with_the_reason(plugins):
    lines = plugins(PLUGIN).splitlines()
    assert lines[0].split() == ["kind", "name", "origin", "version", "summary"]
    assert re.match(r"grouper +kmeans .* k-means over features$", lines[2])
    assert "Broken, and not used:" in lines
    assert "plugin stranger 2.0 (stranger) is broken: ImportError: libsomething.so is missing" in lines[-1]


def test_a_name_taken_twice_names_both_origins(plugins, tmp_path):
    text = plugins(PLUGIN, PLUGIN)
    both = f"file {tmp_path / 'file0.py'} and by file {tmp_path / 'file1.py'}"
    assert f"grouper 'kmeans' is registered by {both}" in text


def test_one_kind_alone_is_listed():
    from ovvol_bench.runs.selection import preset_names

    listed = CliRunner().invoke(main, ["plugins", "--kind", "preset", "--format", "json"])
    found = json.loads(listed.stdout)["components"]
    assert [(row["kind"], row["name"]) for row in found] == [("preset", name) for name in preset_names()]
