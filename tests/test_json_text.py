from __future__ import annotations

import json
import os

import pytest

from ovvol_bench.errors import DataError
from ovvol_bench.json_text import read_json, shown

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (DEEP.encode(), "nested too deeply"),
        (b'{"a": 1, "a": 2}', 'key "a" is there twice'),
        (b'{"a": "\\ud800"}', "lone surrogate"),
        (b'{"a\\u0000": 1}', "NUL"),
        (b'["\xed\xa0\x80"]', "can't decode"),
        (b"9" * 5000, "limit"),
        ('{"a": 1}'.encode("utf-16"), "can't decode"),
        (b"[1, 2", "Was it cut off"),
        (b"", "Was it cut off"),
    ],
)
def test_damaged_and_hostile_files_are_refused_in_one_line(tmp_path, text, reason):
    path = tmp_path / "file.json"
    path.write_bytes(text)
    with pytest.raises(DataError, match=reason) as raised:
        read_json(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < 600


@pytest.mark.parametrize("number", ["1e400", "-1e999", "NaN", "Infinity"])
def test_own_files_hold_finite_numbers_only(tmp_path, number):
    path = tmp_path / "file.json"
    path.write_text(f'{{"a": {number}}}')
    with pytest.raises(DataError, match=f"{number} is no finite number"):
        read_json(path, strict=True)


def test_a_byte_order_mark_is_left_out(tmp_path):
    path = tmp_path / "file.json"
    path.write_text('{"name": "Zoë \\ud83d\\ude00"}', encoding="utf-8-sig")
    assert read_json(path) == {"name": "Zoë \U0001f600"}
    with pytest.raises(DataError, match="BOM"):
        read_json(path, strict=True)


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "", "missing"):
        with pytest.raises(DataError, match="can't be read"):
            read_json(tmp_path / name)


def test_values_in_messages_are_cut_and_never_too_deep():
    assert shown("a" * 1000) == '"' + "a" * 56 + "..."
    deep: list = []
    for _ in range(5000):
        deep = [deep]
    assert shown(deep) == "a deeply nested list"
    assert shown({"id": 1}) == json.dumps({"id": 1})
