"""Networks, runs and training steps on a pretended device, see ``device/pretended.py``."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).with_name("device")


@pytest.mark.parametrize("name", ["components", "run", "training"])
def test_it_works_on_a_device_that_is_not_the_cpu(name):
    # In a process of its own: once there is a device, PyTorch's autograd refuses to work in forked processes.
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", FOLDER / f"{name}.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=FOLDER.parents[1])
    assert done.returncode == 0, done.stdout[-5000:]
