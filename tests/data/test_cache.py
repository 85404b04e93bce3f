from __future__ import annotations

import os
from pathlib import Path

from ovvol_bench.data.cache import content_digest


def digest(files: list[Path]) -> str:
    return content_digest(len(files), lambda index: str(files[index]))


def test_sizes_and_samples_count_times_do_not(tmp_path):
    files = [tmp_path / f"{i}.bin" for i in range(3)]
    for file in files:
        file.write_bytes(bytes(10_000))
    before = digest(files)
    os.utime(files[1], (0, 0))
    assert digest(files) == before
    files[1].write_bytes(bytes(9_999) + b"x")
    assert len({before, digest(files), digest(files[:2])}) == 3
    files[1].write_bytes(bytes(10_001))
    assert digest(files) != before


def test_files_may_be_missing_but_not_unnoticed(tmp_path):
    files = [tmp_path / "a", tmp_path / "b"]
    assert digest(files) == digest([]) == ""
    files[0].touch()
    some = digest(files)
    files[1].touch()
    assert "" != some != digest(files)


def test_a_pipe_is_passed_over(tmp_path):
    os.mkfifo(tmp_path / "a")
    assert digest([tmp_path / "a"])
