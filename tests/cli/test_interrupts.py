"""Ctrl-C, once and impatiently, and SIGTERM as schedulers send it."""

import signal
import subprocess
import sys
import time

import pytest


@pytest.mark.parametrize("presses", [1, 3])
def test_an_interrupt_ends_a_run_without_a_traceback(tmp_path, presses):
    command = [sys.executable, "-m", "ovvol_bench", "run", "--encoder", "pixels", "--grouper", "grid"]
    command += ["--labeler", "prior", "-o", "dataset.videos=100", "--output", tmp_path / "runs"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 60
    while not any(tmp_path.rglob("run.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    for _ in range(presses):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    _, said = process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGINT)  # the latter where the interpreter is shutting down
    assert "Traceback" not in said


def test_a_preparation_that_is_terminated_leaves_finished_videos_alone(tmp_path):
    made = ["data", "make", "shapes", tmp_path / "tree", "--split", "val", "--videos", "6"]
    subprocess.run([sys.executable, "-m", "ovvol_bench", *made], check=True, capture_output=True)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "ovvol_bench", "data", "prepare", "imagenet-vid", tmp_path / "tree", out]
    command += ["--split", "val", "--short-side", "448", "--workers", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not any(out.rglob("*.part")) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert said.splitlines()[-1] == "ovvol-bench: terminated"
    assert {path.suffix for path in out.rglob("*") if path.is_file()} <= {".mp4", ".json"}
