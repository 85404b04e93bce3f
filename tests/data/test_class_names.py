from __future__ import annotations

import json
from pathlib import Path

import pytest

from ovvol_bench.data.class_names import read_class_names
from ovvol_bench.errors import DataError

EXPECTED = {"n01440764": ("tench",), "n01443537": ("goldfish", "Carassius auratus")}


def names_in(path: Path, text: str):
    path.write_text(text)
    return read_class_names(path)


@pytest.mark.parametrize("suffix", ["txt", "json"])
def test_a_byte_order_mark_is_no_part_of_a_code(tmp_path, suffix):
    text = {"txt": "\ufeffn01440764 tench\r\n", "json": '\ufeff{"n01440764": "tench"}'}[suffix]
    (tmp_path / f"names.{suffix}").write_text(text, encoding="utf-8")
    assert read_class_names(tmp_path / f"names.{suffix}") == {"n01440764": ("tench",)}


def test_json_nested_beyond_reason_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"names\.json: can't be read as JSON"):
        names_in(tmp_path / "names.json", "[" * 100_000)


def test_lines_of_code_and_names(tmp_path):
    text = "n01440764 tench\n\nn01443537\tgoldfish, Carassius auratus,\n"
    assert names_in(tmp_path / "names.txt", text) == EXPECTED


@pytest.mark.parametrize(
    "content",
    [
        {"n01440764": "tench", "n01443537": ["goldfish", "Carassius auratus"]},
        {"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish", "Carassius auratus"]},
    ],
)
def test_json_by_code_or_by_number(tmp_path, content):
    assert names_in(tmp_path / "names.json", json.dumps(content)) == EXPECTED


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("names.txt", "", r"names\.txt is empty: expected a line a class"),
        ("names.txt", "a cat\nb\n", r"names\.txt, line 2: 'b' has no name"),
        ("names.txt", "a cat\na dog\n", r"line 2: 'a' has names already"),
        ("names.json", "{", r"names\.json: can't be read as JSON"),
        ("names.json", '{"a": "cat", "a": "dog"}', r'the key "a" is there twice'),
        ("names.json", "[1]", r"names\.json: expected an object"),
        ("names.json", '{"a": 1}', r"names\.json, 'a': expected a name or a list of names"),
        ("names.json", '{"a": []}', r"names\.json: 'a' has no name"),
        ("names.json", '{"a": "c\\u001bt"}', r"names\.json: 'c\\x1bt' holds control characters"),
        ("names.txt", "a cat\nb d\0g\n", r"names\.txt, line 2: 'd\\x00g' holds control characters"),
    ],
)
def test_mistakes_are_named(tmp_path, name, text, message):
    with pytest.raises(DataError, match=message):
        names_in(tmp_path / name, text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.txt can't be read .*Set dataset\.names"):
        read_class_names(tmp_path / "nowhere.txt")
