"""The waiting of OpenMP's threads."""

import os
import subprocess
import sys

import pytest

from ovvol_bench.tuning import spin_briefly


@pytest.mark.parametrize("said", [{"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "ACTIVE"}])
def test_what_the_user_says_of_waiting_stays(said):
    environment = dict(said)
    spin_briefly(environment)
    assert environment == said


def test_the_command_line_sets_it_before_torch_is_loaded():
    code = (
        "import os, sys\nfrom ovvol_bench.cli import main\n"
        "main(['show', 'grouper', 'grid'], standalone_mode=False)\n"
        "assert 'torch' not in sys.modules\nassert os.environ['GOMP_SPINCOUNT']"
    )
    free = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    subprocess.run([sys.executable, "-c", code], check=True, env=free, capture_output=True)
