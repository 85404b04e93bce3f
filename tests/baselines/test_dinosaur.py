"""Slot attention frame by frame, against the same network given one frame at a time."""

import pytest
import torch
from patch_scenes import build, draws

from ovvol_bench import Features, SettingError, WeightsError
from ovvol_bench.registry import load_registry
from ovvol_bench.weights import save_state
from ovvol_plugins.slot_attention.model import SlotAttentionGrouper
from ovvol_plugins.slot_attention.recipe import reconstruction_loss

SMALL = {
    "num_slots": 4,
    "slot_dim": 16,
    "feature_dim": 6,
    "decoder_dim": 24,
    "decoder_layers": 2,
    "position_grid": 4,
    "frames": 3,
}


def small(**options):
    torch.manual_seed(0)
    return build("dinosaur", **{**SMALL, **options})


def grid(batch=2, steps=3):
    return torch.randn(batch, steps, 4, 5, 6, generator=torch.Generator().manual_seed(1))


def frame_of(grouper, frame, noise):
    """(K, h, w) masks of one frame (h, w, D), by the parent's own code."""
    return SlotAttentionGrouper.masks(grouper, frame[None, None], noise[None])[0, :, 0]


@pytest.mark.parametrize("masks", ["decoder", "attention"])
def test_frames_are_grouped_alone_and_slots_only_renumbered(masks):
    grouper, given = small(masks=masks), grid()
    noise = grouper.noise(draws(1, 2))
    found = grouper.group(Features(given), draws(1, 2)).masks
    assert found.shape == (2, 4, 3, 4, 5)
    for clip in range(2):
        for step in range(3):
            alone = frame_of(grouper, given[clip, step], noise[clip])
            distances = (found[clip, :, step, None] - alone[None]).abs().amax((2, 3))
            assert (distances < 1e-5).sum(0).tolist() == [1] * 4
            assert (distances < 1e-5).sum(1).tolist() == [1] * 4


def test_the_first_frame_keeps_its_numbers():
    grouper, given = small(), grid(batch=1)
    alone = frame_of(grouper, given[0, 0], grouper.noise(draws(1))[0])
    assert torch.allclose(grouper.group(Features(given), draws(1)).masks[0, :, 0], alone, atol=1e-5)


def test_slots_keep_their_number_over_frames(monkeypatch):
    """Slots that come out in another order in every frame, as their draws would have it, are put in one."""
    grouper = small(masks="attention")
    order = torch.tensor([[0, 1, 2, 3], [2, 0, 3, 1], [3, 2, 1, 0]])
    slots = torch.eye(4, 16)[order]
    attention = torch.eye(4)[order].repeat(1, 1, 5)
    monkeypatch.setattr(grouper, "slots", lambda frames, noise: (slots, attention))
    masks = grouper.masks(grid(batch=1), torch.zeros(1, 4, 16))
    assert torch.equal(masks[0, :, 0], masks[0, :, 1])
    assert torch.equal(masks[0, :, 0], masks[0, :, 2])


def test_a_clip_of_another_length_is_grouped_too():
    assert small().group(Features(grid(steps=5)), draws(1, 2)).masks.shape == (2, 4, 5, 4, 5)


def test_a_clip_does_not_depend_on_its_batch():
    grouper, given = small(), grid()
    both = grouper.group(Features(given), draws(1, 2)).masks
    assert torch.allclose(both[1:], grouper.group(Features(given[1:]), draws(2)).masks, atol=1e-5)


class TestTraining:
    def test_decoding_some_frames_is_that_part_of_all(self):
        grouper, given = small(), grid()
        noise, steps = grouper.noise(draws(1, 2)), torch.tensor([0, 2])
        every, some = grouper.reconstruct(given, noise), grouper.reconstruct(given, noise, steps)
        assert every.features.shape == given.shape
        assert torch.allclose(every.features[:, steps], some.features, atol=1e-5)
        assert torch.allclose(every.masks[:, :, steps], some.masks, atol=1e-5)
        assert torch.allclose(every.masks.sum(1), torch.ones(2, 3, 4, 5))

    def test_the_loss_reaches_every_weight(self):
        grouper = small()
        loss, numbers = reconstruction_loss(grouper, grid(), grouper.noise(draws(1, 2)))
        loss.backward()
        assert all(weight.grad is not None for weight in grouper.parameters())
        assert 1 <= numbers["slots_used"] <= 4

    def test_its_recipe_has_the_numbers_of_the_paper(self):
        recipe = load_registry().recipe("grouper", "dinosaur")
        given = {name: setting.default for name, setting in recipe.settings.items()}
        wanted = {"batch_size": 64, "learning_rate": 4e-4, "warmup_steps": 10_000, "decay_steps": 100_000}
        assert wanted.items() <= given.items()


def test_weights_are_read_and_others_refused(tmp_path):
    source = small()
    save_state(source, tmp_path / "dinosaur.safetensors")
    torch.manual_seed(9)
    loaded = build("dinosaur", **SMALL, weights=str(tmp_path / "dinosaur.safetensors"))
    given = Features(grid())
    assert torch.equal(loaded.group(given, draws(1, 2)).masks, source.group(given, draws(1, 2)).masks)
    with pytest.raises(WeightsError, match="of another shape"):
        build("dinosaur", **{**SMALL, "slot_dim": 8}, weights=str(tmp_path / "dinosaur.safetensors"))
    with pytest.raises(WeightsError, match="'nowhere': no such file"):
        build("dinosaur", **SMALL, weights="nowhere")


def test_features_of_another_width_are_refused_by_its_name():
    with pytest.raises(SettingError, match="dinosaur: features of 7 channels"):
        small().group(Features(torch.zeros(1, 3, 4, 5, 7)), draws(0))
