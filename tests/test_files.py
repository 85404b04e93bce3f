"""Writing files where they can't be written, names from data, and damaged or hostile JSON and YAML."""

import ast
import errno
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ovvol_bench.data.shapes.storage import write_split
from ovvol_bench.errors import DataError, OutputError, OvvolError
from ovvol_bench.files import (
    below,
    file_stem,
    is_leftover,
    read_json,
    read_yaml,
    remove_leftovers,
    replacing,
    shown,
    write_text,
    writing,
)
from ovvol_bench.report.overlays import write_video


def test_a_disk_that_fills_while_a_file_is_written_is_one_line_and_the_old_file_stays(tmp_path):
    path = tmp_path / "result.json"
    path.write_text("old")
    message = r"can't write .*result\.json: No space left on device\. Free"
    with pytest.raises(OutputError, match=message), replacing(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["result.json"]


def test_a_file_where_a_folder_belongs_is_one_line(tmp_path):
    (tmp_path / "taken").touch()
    with pytest.raises(OutputError, match=r"can't write .*taken/x/y\.json: "):
        write_text(tmp_path / "taken" / "x" / "y.json", "")


def test_an_input_that_is_missing_is_not_blamed_on_the_output(tmp_path):
    with pytest.raises(FileNotFoundError), writing(tmp_path / "out" / "result.json"):
        (tmp_path / "in" / "frame.jpg").read_bytes()


def test_an_input_beside_the_output_is_not_blamed_on_it_either(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError), replacing(Path("result.json")):
        Path("frame.jpg").read_bytes()


def test_folders_of_others_that_look_alike_are_left_alone(tmp_path):
    for name in (".unfinished-mine", ".unfinished-a-b-c", ".unfinished-"):
        (tmp_path / name).mkdir()
    write_text(tmp_path / "x", "")
    assert len(list(tmp_path.iterdir())) == 4


def _dead_process() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


@pytest.fixture(autouse=True)
def each_folder_anew():
    remove_leftovers.cache_clear()


def test_what_a_killed_process_left_is_removed_and_what_a_live_one_writes_is_not(tmp_path):
    host = socket.gethostname()
    gone = tmp_path / f".unfinished-{host}-{_dead_process()}-x"
    alive = tmp_path / f".unfinished-{host}-{os.getpid()}-y"
    for folder in (gone, alive):
        folder.mkdir()
        (folder / "result.json").touch()
        assert is_leftover(folder / "result.json")
    write_text(tmp_path / "other.json", "{}")
    assert not gone.exists() and alive.exists()


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a/../../x", "", ".", "a//b", "a\0b", "a\nb", "L" * 300, "a\u202eb"]
)
def test_a_name_from_data_leads_nowhere_else(tmp_path, name):
    with pytest.raises(OutputError, match="no name of a file"):
        below(tmp_path, name)


def test_a_name_from_data_may_have_folders(tmp_path):
    assert below(tmp_path, "train/video 1", "漢.txt") == tmp_path / "train" / "video 1" / "漢.txt"
    assert "/" not in file_stem("../../x") and len(file_stem("漢" * 200).encode()) < 200
    assert file_stem("a" * 300 + "b") != file_stem("a" * 300 + "c")


WRITES = re.compile(r"replacing|write_|mkdir|make_folder|\.save|imwrite|NamedTemp|open\(\"[wxa]|place_of")
READ_ONLY_OR_OWN_NAMES = {  # joins whose right side is no name from data, or that are only read
    "ovvol_bench/data/cache.py": {"folder / f'{key}.npz'"},
    "ovvol_bench/data/movi.py": {
        "folder / f'{name}{suffix}'",
        "folder / f'{VIDEO}{suffix}'",
        "folder / f'{SEGMENTATIONS}{suffix}'",
        "Path(temporary, folder.name)",
    },
    "ovvol_bench/data/imagenet_vid/check.py": {"root / f'{split}.csv'"},
    "ovvol_bench/data/imagenet_vid/prepare.py": {
        "out / f'{tree.split}.csv'",
        "out / _UNFINISHED / f'{os.getpid()}.part'",
    },
    "ovvol_bench/data/shapes/storage.py": {
        "out / 'Videos' / split / f'{name}.mp4'",
        "folder / f'{file}.part'",
        "folder.with_name(f'.{world.key}-partial')",
    },
    "ovvol_bench/data/imagenet_vid/tree.py": {"tree.lists / f'{tree.split}.txt'"},
    "ovvol_bench/data/video_lists.py": {"root / f'{split}.csv'"},
    "ovvol_bench/files.py": {"root.joinpath(*parts)"},
    "ovvol_bench/locks.py": {"lock.with_name(f'{lock.name}.held')"},
    "ovvol_bench/naming/vocabulary.py": {"_FOLDER / f'{source}.yaml'", "_FOLDER / f'{content}.txt'"},
    "ovvol_bench/report/drawing.py": {"Path(matplotlib.get_data_path(), 'fonts', 'ttf', name)"},
    "ovvol_bench/runs/predictions.py": {
        "self.folder / f'{hashlib.sha256(content).hexdigest()[:16]}{SUFFIX}'",
        "path.with_name(f'{path.name}.broken')",
    },
    "ovvol_bench/runs/selection.py": {"PRESETS / f'{name}.yaml'"},
    "ovvol_bench/scaffold/__init__.py": {"TEMPLATES.joinpath(f'{template}.txt')"},
    "ovvol_bench/throughput/agreement.py": {"Path(folder, fidelity)"},
    "ovvol_bench/training/board.py": {"self._folder / 'pictures' / f'{name}.png'"},
    "ovvol_bench/training/checkpoints.py": {},
    "ovvol_bench/weights.py": {"bundled / f'{weights}.safetensors'"},
    "ovvol_bench/cli/bench.py": {
        "Path('results', FOLDER)",
        "Path('results', FOLDER, default_name(result))",
    },
}


def test_paths_made_of_names_go_through_one_function():
    """Every other path with a name in it is one of those that were looked at."""
    root = Path(__file__).parents[1]
    unknown = []
    for file in sorted((root / "ovvol_bench").rglob("*.py")):
        source = file.read_text()
        if not WRITES.search(source):
            continue
        where = file.relative_to(root).as_posix()
        known = READ_ONLY_OR_OWN_NAMES.get(where, set())
        unknown += [f"{where}: {join}" for join in _joins(ast.parse(source)) if join not in known]
    assert not unknown, "names from data go through files.below; others are listed in this test"


def _joins(tree):
    """Joins of paths with text that is made as the program runs, numbers left out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            if isinstance(node.right, ast.JoinedStr) and not all(map(_is_number, node.right.values)):
                yield ast.unparse(node)
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            most = {"Path": 1, "joinpath": 0, "with_name": 0, "with_stem": 0}.get(called, len(node.args))
            if any(not isinstance(each, ast.Constant) for each in node.args[most:]):
                yield ast.unparse(node)


def _is_number(part):
    """Whether a part of an f-string is fixed, the name of a constant, or printed as a number, as ``:06d``."""
    if isinstance(part, ast.Constant):
        return True
    spec = part.format_spec.values[0].value if part.format_spec else ""
    return spec.endswith("d") or (isinstance(part.value, ast.Name) and part.value.id.isupper())


def test_names_that_are_no_utf8_are_written_out(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    write_text(tmp_path / "a.json", json.dumps({"path": name}, ensure_ascii=False))
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"path": "caf\\udce9"}


def test_opencv_is_not_given_a_path_that_is_no_utf8(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    with pytest.raises(DataError, match="no UTF-8"):
        list(write_split(folder, "val", 1))
    with pytest.raises(OvvolError, match="no UTF-8"):
        write_video(folder / "a.mp4", [np.zeros((4, 4, 3), np.uint8)], 10)


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
def test_damaged_and_hostile_json_files_are_refused_in_one_line(tmp_path, text, reason):
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


def yaml_of(tmp_path, content):
    (tmp_path / "file.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_yaml(tmp_path / "file.yaml")


def test_plain_yaml_values_with_a_mark_and_an_alias(tmp_path):
    assert yaml_of(tmp_path, "\ufeffa: &x [1, 2.5, no]\nb: *x\n") == {
        "a": [1, 2.5, False],
        "b": [1, 2.5, False],
    }


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
def test_what_is_no_yaml_is_said_in_one_line(tmp_path, monkeypatch, content, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=words) as error:
        yaml_of(tmp_path, content)
    assert str(error.value).startswith(str(tmp_path / "file.yaml"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "was_run").exists()


def test_a_missing_yaml_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.yaml: can't be read \(No such file"):
        read_yaml(tmp_path / "none.yaml")


def test_a_yaml_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "file.yaml")
    with pytest.raises(DataError, match="Not a regular file"):
        read_yaml(tmp_path / "file.yaml")
