"""Components that break a promise are found out, by that promise."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from ovvol_bench import Encoder, Features, Grouper, Labeler, Metric, MetricValue, SlotMasks
from ovvol_bench.cli import main
from ovvol_bench.data.shapes.dataset import Shapes
from ovvol_bench.errors import ContractError
from ovvol_bench.testing import check_dataset, check_encoder, check_grouper, check_labeler, check_metric


class Colours(Encoder):
    """Sound: the mean colour of every patch."""

    patch_size, tubelet_size, dim = 8, 1, 3

    def encode(self, video):
        pooled = torch.nn.functional.avg_pool2d(video.flatten(0, 1), self.patch_size)
        return Features(self.change(pooled.unflatten(0, video.shape[:2]).movedim(2, -1), video))

    def change(self, grid, video):
        return grid


class Halves(Grouper):
    """Sound: the first channel's sign."""

    def group(self, features, draws):
        return SlotMasks(self.change((features.grid[..., 0] > 0).float(), features.grid, draws))

    def change(self, one, grid, draws):
        return torch.stack([one, 1 - one], dim=1)


class Words(Labeler):
    """Sound: colours, and the number of letters."""

    patch_size, dim = 8, 3

    def embed_patches(self, video):
        return Colours().encode(video).grid

    def embed_text(self, prompts):
        return torch.nn.functional.normalize(torch.tensor([[len(text), 1.0, 2.0] for text in prompts]), dim=1)


class Clips(Metric):
    """Sound: the mean number of segments."""

    protocol = "none"

    def __init__(self):
        self.seen = {}

    def update(self, localization, clip):
        self.seen[clip.id] = len(localization)

    def compute(self):
        mean = sum(self.seen.values()) / len(self.seen) if self.seen else math.nan
        return {"segments": MetricValue(mean, len(self.seen), {})}


def broken(report):
    return {finding.promise: finding.reason for finding in report.broken}


def test_sound_components_hold():
    reports = (check_encoder(Colours()), check_grouper(Halves()), check_labeler(Words()), check_metric(Clips))
    for report in (*reports, check_dataset(Shapes("val", videos=1))):
        assert broken(report) == {}
        report.raise_if_broken()


def writes(grid, video):
    video.zero_()
    return grid


ENCODERS = {
    "Gives features of every patch of every step": lambda grid, video: grid[:, :, 1:],
    "Takes a single clip": lambda grid, video: grid[: len(grid) - (len(grid) == 1)],
    "Takes grids of patches of any size": lambda grid, video: (
        grid if grid.shape[2] == 4 else grid.mT.flatten(3)
    ),
    "Answers the same when asked again": lambda grid, video: grid + torch.rand(1),
    "Answers for a clip alike in any batch": lambda grid, video: grid - grid.mean(0),
    "Leaves its input as it was, and the global random state": writes,
    "Keeps a clip that is no number to itself": lambda grid, video: grid + grid.sum(0) - grid.sum(0).detach(),
}


@pytest.mark.parametrize("promise", ENCODERS)
def test_an_encoder_that_breaks_a_promise(promise):
    encoder = type(
        "Broken", (Colours,), {"change": lambda self, grid, video: ENCODERS[promise](grid, video)}
    )()
    assert promise in broken(check_encoder(encoder))


def test_an_encoder_must_declare_what_it_is():
    encoder = type("Nameless", (Colours,), {"std": (0, 1, 1)})()
    assert (
        "std is (0, 1, 1)"
        in broken(check_encoder(encoder))["Declares patch_size, tubelet_size, dim, mean and std"]
    )


def test_declared_maps_are_looked_at():
    class Mapped(Colours):
        maps = frozenset({"keys", "attention"})

        def encode(self, video):
            grid = super().encode(video).grid
            return Features(grid, {"keys": grid[:, :1], "attention": grid.movedim(-1, 2)})

    reason = broken(check_encoder(Mapped()))["Gives the maps that it declares on the grid of the features"]
    assert reason.startswith("map 'keys' has shape")


def both(one):
    return torch.stack([one, 1 - one], dim=1)


def drawn(one, grid, draws):
    return both((torch.rand(one.shape, generator=draws[0]) > 0.5).float())


def overwriting(one, grid, draws):
    grid += 1
    return both(one)


GROUPERS = {
    "Gives masks that sum to 1 over the slots": lambda one, grid, draws: 2 * both(one),
    "Answers the same when asked again": lambda one, grid, draws: both(torch.rand_like(one).round()),
    "Answers for a clip alike in any batch": drawn,
    "Answers alike in any order of the clips": drawn,
    "Leaves its input as it was, and the global random state": overwriting,
    "Takes grids of patches of any size": lambda one, grid, draws: both(one.unflatten(3, (3, 2)).flatten(3)),
}


@pytest.mark.parametrize("promise", GROUPERS)
def test_a_grouper_that_breaks_a_promise(promise):
    change = GROUPERS[promise]
    grouper = type("Broken", (Halves,), {"change": lambda self, *given: change(*given)})()
    assert promise in broken(check_grouper(grouper))


def test_drawing_from_the_global_state_is_found():
    grouper = type(
        "Global", (Halves,), {"change": lambda self, one, *_: both(torch.rand_like(one).round())}
    )()
    reason = broken(check_grouper(grouper))["Leaves its input as it was, and the global random state"]
    assert "expected its generators to be the only source" in reason


LABELERS = {
    "Gives a row of unit length for every sentence": lambda text: 2 * text,
    "Embeds a sentence alike beside any others": lambda text: torch.nn.functional.normalize(
        text - text.mean(0) + 1
    ),
}


@pytest.mark.parametrize("promise", LABELERS)
def test_a_labeler_that_breaks_a_promise(promise):
    def embed_text(self, prompts):
        return LABELERS[promise](Words.embed_text(self, prompts))

    assert promise in broken(check_labeler(type("Broken", (Words,), {"embed_text": embed_text})()))


def outside(dataset, index):
    info = Shapes.info(dataset, index)
    return replace(info, truth=tuple(replace(each, boxes=each.boxes + 100) for each in info.truth))


DATASETS = {
    "Gives boxes inside the frame, classes of its vocabulary, and tracks that are one object each": {
        "info": outside
    },
    "Gives every clip an id of its own, and no frame twice": {
        "info": lambda self, index: Shapes.info(self, 0)
    },
    "Gives frames as float32 RGB in [0, 1], one for each index": {
        "clip": lambda self, index: replace(
            Shapes.clip(self, index), frames=Shapes.clip(self, index).frames * 255
        )
    },
    "Gives the same clip when asked again, and another one to change": {
        "clip": lambda self, index: replace(
            Shapes.clip(self, index), frames=np.random.default_rng().random((8, 96, 128, 3), np.float32)
        )
    },
    "Has a fingerprint that doesn't change": {"fingerprint": lambda self: ""},
    "Says of a clip without pixels what it says with them": {
        "clip": lambda self, index: replace(Shapes.clip(self, index), info=Shapes.info(self, 0))
    },
}


@pytest.mark.parametrize("promise", DATASETS)
def test_a_dataset_that_breaks_a_promise(promise):
    assert promise in broken(check_dataset(type("Broken", (Shapes,), DATASETS[promise])("val", videos=1)))


class Forgetful(Clips):
    def __getstate__(self):
        return {"seen": {}}


class Last(Clips):
    def update(self, localization, clip):
        self.seen = {clip.id: int(clip.id[-1])}


class Overwriting(Clips):
    def update(self, localization, clip):
        super().update(localization, clip)
        localization.boxes[:] = 0


class Zero(Clips):
    def compute(self):
        return {"segments": MetricValue(1.0, len(self.seen), {})}


METRICS = {
    "Keeps its state when it is saved and loaded": Forgetful,
    "Gives the same numbers in any order of the clips": Last,
    "Writes to neither of its arguments": Overwriting,
    "Is undefined without clips, or a count of none": Zero,
}


@pytest.mark.parametrize("promise", METRICS)
def test_a_metric_that_breaks_a_promise(promise):
    assert promise in broken(check_metric(METRICS[promise]))


def test_all_broken_promises_are_named_at_once():
    class Wrong(Halves):
        def group(self, features, draws):
            raise RuntimeError("no")

    with pytest.raises(ContractError, match="grouper 'mine' breaks its contract:") as error:
        check_grouper(Wrong(), "mine").raise_if_broken()
    assert str(error.value).count("RuntimeError: no") > 3


PLUGIN = """
from ovvol_bench import Entry, Grouper, SlotMasks, hookimpl

class Twice(Grouper):
    def __init__(self, *, scale: int = 2):
        super().__init__()

    def group(self, features, draws):
        return SlotMasks(features.grid[:, None, ..., 0] * 0 + 2)

@hookimpl
def ovvol_groupers():
    yield Entry("twice", Twice, "masks that sum to 2")
"""


def test_the_command_lists_promises_and_fails_on_broken_ones(tmp_path):
    file = tmp_path / "twice.py"
    file.write_text(PLUGIN)
    done = CliRunner().invoke(main, ["check", "grouper", "twice", "--plugin", str(file)])
    assert done.exit_code == 1, done.output
    assert "Gives masks that sum to 1 over the slots" in done.output
    assert "broken" in done.output
    done = CliRunner().invoke(main, ["check", "grouper", "grid", "-o", "grouper.rows=3", "--format", "json"])
    assert done.exit_code == 0
    assert '"status": "held"' in done.output


def test_the_command_refuses_settings_of_others():
    done = CliRunner().invoke(main, ["check", "grouper", "grid", "-o", "encoder.dim=3"])
    assert done.exit_code == 2
    assert "only settings of the grouper count here" in done.output


@pytest.mark.parametrize("kind", ["encoder", "grouper", "labeler", "dataset", "metric"])
def test_what_is_no_component_is_one_line(tmp_path, kind):
    plugin = tmp_path / "odd.py"
    plugin.write_text(
        "from ovvol_bench import Entry, hookimpl\nclass Bad: ...\n"
        f"@hookimpl\ndef ovvol_{kind}s():\n    yield Entry('bad', Bad, '')\n"
    )
    result = CliRunner().invoke(main, ["check", kind, "bad", "--plugin", str(plugin)])
    assert result.exit_code == 2
    assert f"{kind} 'bad': its factory gave Bad; expected an instance of " in result.stderr
