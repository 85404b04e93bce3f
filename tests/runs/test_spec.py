"""Specs of runs and the identity that follows from them."""

from dataclasses import replace

import pytest

from ovvol_bench.errors import DataError
from ovvol_bench.files import canonical_digest
from ovvol_bench.runs.spec import PartSpec, RunSpec


def some_spec(**changes):
    part = PartSpec(
        "tiny",
        {"dim": 4, "weights": "/here/tiny.pth"},
        "tiny 1.0 (tiny.plugin)",
        "1.0",
        "ab12",
        located=("weights",),
    )
    data = PartSpec(
        "squares",
        {"path": "/data", "split": "val"},
        "tiny 1.0 (tiny.plugin)",
        "1.0",
        "cd34",
        located=("path",),
    )
    spec = RunSpec(
        encoder=part,
        grouper=replace(part, name="cut"),
        labeler=replace(part, name="colours"),
        dataset=data,
        vocabulary="ef56",
        naming={"temperature": 100.0, "templates": ["a %s"]},
        metrics=(PartSpec("corloc", {"box": "any"}),),
        core="0.1.0",
    )
    return replace(spec, **changes)


def changed_part(**changes):
    return replace(some_spec().encoder, **changes)


def test_spec_survives_json():
    spec = some_spec(seeds=(0, 1), consensus=(3, 10), limit=5)
    again = RunSpec.from_json(spec.to_json())
    assert again.to_json() == spec.to_json()
    assert again.id == spec.id
    assert (again.seeds, again.consensus) == ((0, 1), (3, 10))


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder": changed_part(name="other")},
        {"encoder": changed_part(options={"dim": 5})},
        {"encoder": changed_part(code="ab")},
        {"core_code": "ab"},
        {"encoder": changed_part(digest="ff")},
        {"encoder": changed_part(version="1.1")},
        {"dataset": replace(some_spec().dataset, digest="ff")},
        {"vocabulary": "ff"},
        {"naming": {"temperature": 10.0}},
        {"seeds": (1,)},
        {"seeds": (0, 1), "consensus": (2, 4)},
        {"precision": "bfloat16"},
        {"fidelity": "reference"},
        {"limit": 10},
        {"core": "0.2.0"},
    ],
)
def test_what_predictions_depend_on_changes_the_identity(changes):
    assert some_spec(**changes).id != some_spec().id


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder": changed_part(options={"dim": 4, "weights": "/elsewhere/tiny.safetensors"})},
        {"dataset": replace(some_spec().dataset, options={"split": "val", "path": "/mnt/data"})},
        {"metrics": ()},
    ],
)
def test_places_and_metrics_leave_the_identity_alone(changes):
    assert some_spec(**changes).id == some_spec().id


def test_place_of_a_plugin_file_leaves_the_identity_alone():
    here, there = (changed_part(plugin=f"file {path}/my.py") for path in ("/here", "/there"))
    assert some_spec(encoder=here).id == some_spec(encoder=there).id != some_spec().id


def test_digest_ignores_key_order():
    assert canonical_digest({"a": 1, "b": [1.5, None]}) == canonical_digest({"b": [1.5, None], "a": 1})


@pytest.mark.parametrize("damage", [{"seeds": None}, {"colour": "red"}, {"encoder": {"colour": "red"}}])
def test_malformed_spec_is_a_data_error(damage):
    data = {**some_spec().to_json(), **damage}
    with pytest.raises(DataError, match="Run it again"):
        RunSpec.from_json(data)
