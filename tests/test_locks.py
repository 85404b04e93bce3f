"""Holding a folder, on file systems with and without locks."""

import errno
import fcntl
import os
import socket
import subprocess
import sys
import time

import pytest

from ovvol_bench.errors import SettingError
from ovvol_bench.files import SILENCE
from ovvol_bench.locks import claimed


def _dead_process() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


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
