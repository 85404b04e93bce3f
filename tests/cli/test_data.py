from __future__ import annotations

import pytest
from click.testing import CliRunner

from ovvol_bench.cli import main


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    out = tmp_path_factory.mktemp("shapes")
    result = CliRunner().invoke(main, ["data", "make", "shapes", str(out), "--split", "val", "--videos", "2"])
    assert result.exit_code == 0, result.output
    assert "2 videos of split val are in" in result.output
    return out


def test_made_shapes_are_a_tree_that_inspect_reads(shapes, tmp_path):
    words = tmp_path / "words.yaml"
    words.write_text("classes: [{name: thing, code: none}]\n")
    arguments = [
        "data",
        "inspect",
        str(shapes),
        "--vocabulary",
        str(words),
        "--cache",
        str(tmp_path / "cache"),
    ]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    lines = dict(line.rsplit(maxsplit=1) for line in result.output.splitlines() if "  " in line)
    counts = {name.strip(): value for name, value in lines.items()}
    assert (counts["videos"], counts["frames"], counts["objects"]) == ("2", "48", "0")
    assert int(counts["left out: objects of classes outside the vocabulary"]) > 24
    assert "val.txt (images)" in result.output


def test_a_folder_that_is_no_tree_is_one_message_and_exit_code_2(tmp_path):
    result = CliRunner().invoke(main, ["data", "inspect", str(tmp_path)])
    assert result.exit_code == 2
    assert "is no ImageNet-VID tree with a split 'val'" in result.output
