"""The contract's checks, for plugin authors: from Python, pytest, or as ``ovvol-bench check KIND NAME``.

def test_my_grouper_keeps_the_contract():
    check_grouper(MyGrouper(num_slots=4)).raise_if_broken()
"""

from ovvol_bench.testing.datasets import check_dataset
from ovvol_bench.testing.findings import Finding, Report
from ovvol_bench.testing.metrics import check_metric
from ovvol_bench.testing.networks import check_encoder, check_grouper, check_labeler

__all__ = [
    "Finding",
    "Report",
    "check_dataset",
    "check_encoder",
    "check_grouper",
    "check_labeler",
    "check_metric",
]
