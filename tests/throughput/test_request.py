from dataclasses import replace

import pytest

from ovvol_bench.errors import SettingError
from ovvol_bench.registry import load_registry
from ovvol_bench.runs.selection import Choice, load_preset, select
from ovvol_bench.throughput.request import (
    at_fidelity,
    configurations,
    with_frames,
    with_random_weights,
)


def test_every_combination_size_and_batch_is_a_configuration(request_for):
    asked = request_for(
        {"encoder": ["tiny", "deep"]}, sizes=((32, 48), (48, 48)), batch_sizes=(4, 1), fidelities=("fast",)
    )
    found = [(each.size, each.encoder.name, each.batch_size) for each in configurations(asked)]
    assert len(set(found)) == len(found) == 8
    assert [batch for *_, batch in found[:2]] == [1, 4]


def test_the_method_is_a_combination_or_their_number(request_for):
    assert request_for().method == "tiny+randomcut+colours"
    assert (
        request_for({"encoder": ["tiny", "deep"], "labeler": ["colours", "slots"]}).method == "4-combinations"
    )


def test_beside_fast_the_reference_is_measured_at_the_smallest_batch_alone(request_for):
    both = request_for(batch_sizes=(4, 1), fidelities=("reference", "fast"))
    alone = request_for(batch_sizes=(4, 1), fidelities=("reference",))
    assert [(each.fidelity, each.batch_size) for each in configurations(both)] == [
        ("reference", 1),
        ("fast", 1),
        ("fast", 4),
    ]
    assert [each.batch_size for each in configurations(alone)] == [1, 4]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sizes": ()}, "--sizes names nothing"),
        ({"sizes": ((0, 48),)}, "--sizes must be at least 1, got 0"),
        ({"sizes": ((32, 48), (32, 48))}, "--sizes names a value twice"),
        ({"batch_sizes": (0,)}, "--batch-sizes must be at least 1, got 0"),
        ({"batch_sizes": (2, 2)}, "--batch-sizes names a value twice"),
        ({"repeats": 0}, "--repeats must be at least 1, got 0"),
        ({"warmup": -1}, "--warmup must be at least 0, got -1"),
        ({"workers": 0}, "--workers must be at least 1, got 0"),
        ({"threads": -2}, "--threads must be at least 1, got -2"),
    ],
)
def test_numbers_out_of_range_are_refused(request_for, fields, message):
    with pytest.raises(SettingError, match=message):
        request_for(**fields)


def test_frames_are_those_of_one_dataset(request_for):
    asked = request_for()
    two = replace(asked.selection, datasets=(Choice("squares"), Choice("shapes")))
    with pytest.raises(SettingError, match="frames of one dataset, got squares, shapes"):
        replace(asked, selection=two)


def test_reference_takes_no_bfloat16(request_for):
    half = replace(request_for().selection, precision="bfloat16")
    assert at_fidelity(half, "fast").precision == "bfloat16"
    assert at_fidelity(half, "reference").precision == "auto"


@pytest.fixture(scope="module")
def every():
    return load_registry()


class TestPresets:
    def chosen(self, registry, preset, settings=None):
        return select(load_preset(preset), registry, {}, settings or {}, fidelity="fast")

    def test_a_dataset_that_is_not_set_up_lends_from_shapes(self, every):
        bare = self.chosen(every, "paper")
        assert with_frames(bare, every).datasets == (Choice("shapes", {"split": "test", "videos": 50}),)
        given = self.chosen(every, "paper", {"dataset": {"path": "ILSVRC2015"}})
        assert with_frames(given, every) is given

    def test_random_weights_read_no_file(self, every):
        drawn = with_random_weights(self.chosen(every, "paper"), every)
        assert drawn.encoders[0].options["weights"] is None
        assert drawn.labelers[0].options["weights"] is drawn.labelers[0].options["pretrained"] is None
        assert drawn.labelers[0].options["model"] == "ViT-B-16-quickgelu"

    def test_a_flag_for_weights_becomes_false(self, every):
        chosen = select(load_preset("paper"), every, {"encoder": ["dino"]}, {}, fidelity="fast")
        assert with_random_weights(chosen, every).encoders[0].options["pretrained"] is False
