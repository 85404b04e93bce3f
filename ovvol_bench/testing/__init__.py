"""The contract's checks, for plugin authors: from Python, pytest, or as ``ovvol-bench check KIND NAME``.

def test_my_grouper_keeps_the_contract():
    check_grouper(MyGrouper(num_slots=4)).raise_if_broken()
"""

from ovvol_bench.testing.datasets import check_dataset
from ovvol_bench.testing.encoders import check_encoder
from ovvol_bench.testing.findings import Finding, Report
from ovvol_bench.testing.groupers import check_grouper
from ovvol_bench.testing.labelers import check_labeler
from ovvol_bench.testing.metrics import check_metric

__all__ = [
    "Finding",
    "Report",
    "check_dataset",
    "check_encoder",
    "check_grouper",
    "check_labeler",
    "check_metric",
]
