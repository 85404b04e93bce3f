"""Writing files and holding folders, on file systems that are full, read-only or without locks."""

import errno
import fcntl
import os
import socket
import subprocess
import sys
import time

import pytest

from ovvol_bench.errors import OutputError, SettingError
from ovvol_bench.files import SILENCE, claimed, is_leftover, remove_leftovers, replacing, write_text, writing


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


@pytest.fixture
def no_flock(monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_a_folder_is_held_where_the_file_system_has_no_locks(tmp_path, no_flock):
    lock = tmp_path / "run" / "lock"
    refused = pytest.raises(SettingError, match=rf"pid {os.getpid()} on .*choose another")
    with claimed(lock, "choose another"), refused, claimed(lock, "choose another"):
        pass
    with claimed(lock, "choose another"):
        pass
    assert [each.name for each in lock.parent.iterdir()] == ["lock"]


@pytest.mark.parametrize("host", [None, "another-machine"])
def test_a_holder_that_is_gone_is_not_waited_for(tmp_path, no_flock, host):
    held = tmp_path / "lock.held"
    held.write_text(f"{_dead_process()} on {host or socket.gethostname()}")
    silent = time.time() - 2 * SILENCE
    os.utime(held, (silent, silent))
    with claimed(tmp_path / "lock", "choose another"):
        assert str(os.getpid()) in held.read_text()


def test_a_holder_on_another_machine_that_shows_life_is_waited_for(tmp_path, no_flock):
    (tmp_path / "lock.held").write_text("4 on another-machine")
    refused = pytest.raises(SettingError, match="pid 4 on another-machine")
    with refused, claimed(tmp_path / "lock", "choose another"):
        pass
