"""YAML files: plain values, and one line for all that is none."""

import os

import pytest

from ovvol_bench.errors import DataError
from ovvol_bench.yaml_text import read_yaml


def read(tmp_path, content):
    (tmp_path / "file.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_yaml(tmp_path / "file.yaml")


def test_plain_values_with_a_mark_and_an_alias(tmp_path):
    assert read(tmp_path, "\ufeffa: &x [1, 2.5, no]\nb: *x\n") == {"a": [1, 2.5, False], "b": [1, 2.5, False]}


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("!!python/object/apply:os.mkdir [was_run]", "python/object/apply:os.mkdir"),
        ("a: [", "line"),
        ("b: 1\nc: [{a: 1, b: 2, a: 3}]", "the key 'a' is there twice in one mapping, line 2"),
        (BOMB, "over 1000000 values"),
        ("&a [*a]", "over 1000000 values"),
        ("[" * 5000, "nested too deeply"),
        ("a: 2020-99-99", "month"),
        (b"a: \xff", "utf-8"),
        (b"a: \x00", "not valid YAML"),
    ],
    ids=["tag", "cut off", "twice", "bomb", "itself", "deep", "date", "bytes", "NUL"],
)
def test_what_is_none_is_said_in_one_line(tmp_path, monkeypatch, content, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=words) as error:
        read(tmp_path, content)
    assert str(error.value).startswith(str(tmp_path / "file.yaml"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "was_run").exists()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.yaml: can't be read \(No such file"):
        read_yaml(tmp_path / "none.yaml")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "file.yaml")
    with pytest.raises(DataError, match="Not a regular file"):
        read_yaml(tmp_path / "file.yaml")
