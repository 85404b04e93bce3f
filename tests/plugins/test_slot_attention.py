"""Slot attention: masks, decoder, loss, schedule and checkpoints."""

import pytest
import torch

from ovvol_bench import Features, SettingError, WeightsError
from ovvol_bench.registry import load_registry
from ovvol_bench.weights import save_state
from ovvol_plugins.slot_attention import model as module
from ovvol_plugins.slot_attention.model import SlotAttentionGrouper
from ovvol_plugins.slot_attention.recipe import reconstruction_loss

SMALL = {
    "num_slots": 3,
    "slot_dim": 8,
    "feature_dim": 10,
    "frames": 2,
    "decoder_dim": 16,
    "decoder_layers": 2,
    "position_grid": 4,
}


def small_grouper(**settings):
    torch.manual_seed(0)
    return SlotAttentionGrouper(**{**SMALL, **settings}).eval()


def some_grid(batch=2, steps=2, channels=10):
    return torch.randn(batch, steps, 3, 5, channels, generator=torch.Generator().manual_seed(1))


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


class TestGrouping:
    def test_masks_share_every_patch_among_slots(self):
        masks = small_grouper().group(Features(some_grid()), seeded(1, 2)).masks
        assert masks.shape == (2, 3, 2, 3, 5)
        assert torch.allclose(masks.sum(1), torch.ones(()))

    def test_draws_belong_to_clips_and_not_to_batches(self):
        grouper, grid = small_grouper(), some_grid()
        both = grouper.group(Features(grid), seeded(1, 2)).masks
        alone = grouper.group(Features(grid[1:]), seeded(2)).masks
        other = grouper.group(Features(grid[1:]), seeded(3)).masks
        assert torch.allclose(both[1:], alone, atol=1e-5)
        assert not torch.allclose(other, alone, atol=1e-3)

    def test_global_random_state_is_left_alone(self):
        grouper = small_grouper()
        state = torch.get_rng_state()
        grouper.group(Features(some_grid()), seeded(1, 2))
        assert torch.equal(torch.get_rng_state(), state)

    def test_inference_in_parts_equals_the_training_decoder(self, monkeypatch):
        grouper, grid = small_grouper(), some_grid()
        whole = grouper.group(Features(grid), seeded(1, 2)).masks
        monkeypatch.setattr(module, "_DECODED_ON_CPU", 1)
        parts = grouper.group(Features(grid), seeded(1, 2)).masks
        trained = grouper.reconstruct(grid, grouper.noise(seeded(1, 2))).masks
        assert torch.allclose(parts, whole, atol=1e-6)
        assert torch.allclose(trained, whole, atol=1e-6)

    @torch.no_grad()
    def test_prepared_it_answers_alike(self):
        plain, ready, grid = small_grouper(), small_grouper(), some_grid()
        ready.prepare(torch.bfloat16)
        full, found = (each.group(Features(grid), seeded(1, 2)).masks for each in (plain, ready))
        assert (found - full).abs().max() < 0.02

    def test_decoder_equals_one_mlp_pass_a_slot_and_patch(self):
        grouper, slots = small_grouper(), torch.randn(2, 3, 8)
        decoded = grouper.decoder(slots, (4, 4))
        positions = grouper.decoder.pos_embed.view(1, 1, 2, 4, 4, 8)
        plain = grouper.decoder.decoder(slots[:, :, None, None, None] + positions)
        masks = plain[..., -1:].softmax(dim=1)
        assert torch.allclose(decoded.masks, masks[..., 0], atol=1e-5)
        assert torch.allclose(decoded.features, (masks * plain[..., :-1]).sum(1), atol=1e-5)

    def test_mixed_precision_stays_near(self):
        grouper, grid = small_grouper(), some_grid()
        full = grouper.group(Features(grid), seeded(1, 2)).masks
        with torch.autocast("cpu", torch.bfloat16):
            mixed = grouper.group(Features(grid.bfloat16()), seeded(1, 2)).masks
            slots, _ = grouper.slots(grid, grouper.noise(seeded(1, 2)))
        assert mixed.dtype == slots.dtype == torch.float32
        assert torch.allclose(mixed, full, atol=0.02)

    def test_runs_in_inference_mode_and_trains_after(self):
        grouper, grid = small_grouper(), some_grid()
        with torch.inference_mode():
            grouper.group(Features(grid), seeded(1, 2))
        reconstruction_loss(grouper, grid, grouper.noise(seeded(1, 2)))[0].backward()
        assert all(value.grad is not None for value in grouper.parameters())

    @pytest.mark.parametrize(
        ("grid", "words"),
        [({"steps": 4}, r"4 time steps.*grouper\.frames=2"), ({"channels": 9}, r"9 chan.*feature_dim=10")],
    )
    def test_unfit_features_are_refused(self, grid, words):
        with pytest.raises(SettingError, match=words):
            small_grouper().group(Features(some_grid(**grid)), seeded(1, 2))

    def test_numbers_below_one_are_refused(self):
        with pytest.raises(SettingError, match="'num_slots' can't be 0"):
            load_registry().build("grouper", "slot_attention", {"num_slots": 0})

    @pytest.mark.gpu
    def test_same_on_a_gpu(self):
        grouper, grid = small_grouper(), some_grid()
        want = grouper.group(Features(grid), seeded(1, 2)).masks
        found = grouper.cuda().group(Features(grid.cuda()), seeded(1, 2)).masks
        assert torch.allclose(found.cpu(), want, atol=1e-3)


class TestTraining:
    def test_training_lowers_the_loss(self):
        grouper, grid = small_grouper().train(), some_grid()
        noise = grouper.noise(seeded(1, 2))
        optimizer = torch.optim.Adam(grouper.parameters(), lr=3e-3)
        losses = []
        for _ in range(30):
            optimizer.zero_grad()
            loss, numbers = reconstruction_loss(grouper, grid, noise)
            loss.backward()
            optimizer.step()
            losses.append(loss)
        assert losses[-1] < 0.95 * losses[0]
        assert numbers["slots_used"] >= 1


class TestCheckpoints:
    def test_saved_by_the_project_and_built_by_name(self, tmp_path):
        source = small_grouper()
        save_state(source, tmp_path / "w.safetensors")
        settings = {"weights": str(tmp_path / "w.safetensors"), **SMALL}
        loaded = load_registry().build("grouper", "slot_attention", settings).eval()
        found, want = (m.group(Features(some_grid()), seeded(1, 2)).masks for m in (loaded, source))
        assert torch.equal(found, want)

    def test_the_frozen_encoder_in_a_file_is_left_out(self, tmp_path):
        source = small_grouper(num_slots=2)
        state = {**source.state_dict(), "model.head.bias": torch.ones(3), "model.norm.bias": torch.ones(3)}
        torch.save({"model": state}, tmp_path / "w.pth")
        loaded = small_grouper()
        loaded.load_weights(tmp_path / "w.pth")
        assert torch.equal(loaded.conditioning.slots_mu, source.conditioning.slots_mu)

    def test_old_position_tables_are_split_by_time_step(self, tmp_path):
        source = small_grouper()
        state = source.state_dict()
        state["decoder.pos_embed"] = state["decoder.pos_embed"].reshape(1, 32, 8)
        torch.save(state, tmp_path / "w.pth")
        loaded = SlotAttentionGrouper(**SMALL)
        loaded.load_weights(tmp_path / "w.pth")
        assert torch.equal(loaded.decoder.pos_embed, source.decoder.pos_embed)

    def test_another_number_of_frames_is_an_error(self, tmp_path):
        save_state(small_grouper(frames=3), tmp_path / "w.safetensors")
        with pytest.raises(WeightsError, match=r"pos_embed: \(3, 16, 8\) in the file, \(2, 16, 8\)"):
            small_grouper().load_weights(tmp_path / "w.safetensors")

    def test_another_model_is_an_error(self, tmp_path):
        torch.save({"model": {"layer.weight": torch.ones(1)}}, tmp_path / "w.pth")
        with pytest.raises(WeightsError, match=r"w\.pth: weights do not fit SlotAttentionGrouper"):
            small_grouper().load_weights(tmp_path / "w.pth")
