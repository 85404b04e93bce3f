"""Reading of reference vectors; a folder may lack cases, and a case what isn't its input or output."""

import json

import pytest
import torch
from safetensors.torch import load_file

TOLERANCE = {"abs": 1e-4, "rel": 1e-4, "cpu_float32_abs": 2e-5}
"""Of cases that say nothing else."""


def load_case(folder, name):
    """What a case says beside its tensors; the test is skipped where the folder has no such case."""
    file = folder / f"{name}.json"
    if not file.is_file():
        pytest.skip(f"{folder} has no {file.name}")
    case = json.loads(file.read_text())
    return case | {"tolerance": TOLERANCE | case.get("tolerance", {})}


def load_tensors(folder, case, part="tensors"):
    return load_file(folder / case.get("files", {}).get(part, f"{case['case']}.safetensors"))


def assert_near(found, want, tolerance, limit=None):
    """Nothing to compare where ``want`` is None: the case leaves it out."""
    if want is None:
        return
    limit = limit or min(tolerance["abs"], tolerance["cpu_float32_abs"])
    want = torch.as_tensor(want)
    torch.testing.assert_close(found.float(), want.float(), atol=limit, rtol=tolerance["rel"])


def assert_gradients(module, case, tensors):
    """Each gradient to 1e-3 of its largest entry."""
    parameters = dict(module.named_parameters())
    wanted = {key.removeprefix("grad."): want for key, want in tensors.items() if key.startswith("grad.")}
    assert wanted.keys() >= set(case.get("gradients", ()))
    for name, want in wanted.items():
        assert (parameters[name].grad - want).abs().max() <= 1e-3 * want.abs().max(), name
