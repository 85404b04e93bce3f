"""Every case of the reference set, through the public API, at the stated tolerance.

The folder is ``tests/golden`` or what OVVOL_GOLDEN names, so that other vectors in the same format can be
checked. The checks themselves are in ``golden_checks``, one module a case.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

CHECKS = sorted(file.stem for file in (Path(__file__).parent / "golden_checks").glob("*.py"))
CASES = {
    "videomae": ["videomae"],
    "videomae_pretrain": ["videomae_pretrain"],
    "slot_attention": ["slot_attention"],
    "pacl": ["pacl"],
    "text_prompts": ["text_prompts", "tokens"],
    "post_processing": ["post_processing"],
    "spectral": ["spectral"],
    "metrics": ["metrics"],
    "schedule_resize_sampling": ["schedule", "data"],
}

for check in CHECKS:
    module = import_module(f"golden_checks.{check}")
    globals().update({name: test for name, test in vars(module).items() if name.startswith("test_golden")})


def test_every_case_of_the_folder_has_its_checks(golden):
    assert {file.stem for file in golden.glob("*.json")} <= CASES.keys()
    assert sorted(check for checks in CASES.values() for check in checks) == CHECKS
