"""PACL: towers, patch embeddings, text, loss and checkpoints."""

import pytest
import torch
from small_clip import SMALL, openai_state, small_towers

from ovvol_bench import SettingError, WeightsError
from ovvol_bench.components import CLIP_MEAN, IMAGENET_MEAN
from ovvol_bench.nn.clip.files import stored_numbers
from ovvol_bench.nn.clip.text import tokenize
from ovvol_bench.registry import load_registry
from ovvol_bench.weights import read_state, save_state
from ovvol_plugins.pacl.checkpoint import save_labeler
from ovvol_plugins.pacl.contrast import pool_patches, similarities
from ovvol_plugins.pacl.model import PaclLabeler, build_pacl


def small_labeler(seed=0, **numbers):
    torch.manual_seed(seed)
    return PaclLabeler(small_towers(**numbers)).eval()


def some_images(batch=3, height=12, width=12):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def alignment_loss(labeler, images):
    """PACL's loss on whole pictures, from their tokens on."""
    with torch.no_grad():
        tokens = labeler.trunk(images)
        image = labeler.tower_output(tokens)[:, 0].float()
    _, pooled = pool_patches(labeler.head(tokens).unflatten(1, labeler.grid(images)), image)
    return torch.nn.functional.cross_entropy(*similarities(pooled, image))


def reference_state(labeler):
    """The labeler's weights as the reference's program saves them: no text tower."""
    state = {k: v for k, v in labeler.state_dict().items() if not k.startswith("text.")}
    return {"state_dict": {f"module.{name}": value for name, value in state.items()}, "epoch": 7}


class TestPatches:
    def test_grid_of_embeddings_at_other_sizes(self):
        video = some_images(6, 8, 20).unflatten(0, (2, 3))
        assert small_labeler().embed_patches(video).shape == (2, 3, 2, 5, 6)

    @torch.no_grad()
    def test_prepared_it_answers_alike(self):
        plain, ready, video = small_labeler(), small_labeler(), some_images()[None]
        ready.prepare(torch.bfloat16)
        full, found = plain.embed_patches(video), ready.embed_patches(video)
        assert (found - full).abs().max() < 0.03 * full.abs().max()

    def test_a_frame_does_not_depend_on_the_others(self):
        labeler, video = small_labeler(), some_images()[None]
        alone = labeler.embed_patches(video[:, 1:2])
        assert torch.allclose(labeler.embed_patches(video)[:, 1:2], alone, atol=1e-5)

    @torch.no_grad()
    def test_the_frozen_tower_is_open_clips(self):
        labeler, images = small_labeler(), some_images()
        own = labeler.tower_output(labeler.trunk(images))
        assert torch.allclose(own[:, 0], labeler.model(images), atol=1e-5)
        before_last = labeler.model.forward_intermediates(images, indices=[0], output_fmt="NLC")
        assert torch.allclose(labeler.trunk(images)[:, 1:], before_last["image_intermediates"][0], atol=1e-5)

    def test_mixed_precision_stays_near(self):
        labeler, video = small_labeler(), some_images()[None]
        full = labeler.embed_patches(video)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = labeler.embed_patches(video)
        assert (mixed - full).abs().max() < 0.05 * full.abs().max()

    def test_partial_patches_are_refused(self):
        with pytest.raises(SettingError, match=r"10 x 12 pixels.*patch_size=4"):
            small_labeler().embed_patches(some_images(height=10)[None])

    def test_pixel_statistics_are_a_setting(self):
        assert small_labeler().mean == CLIP_MEAN
        assert PaclLabeler(small_towers(), "imagenet").mean == IMAGENET_MEAN

    @pytest.mark.gpu
    def test_same_on_a_gpu(self):
        labeler, video = small_labeler(), some_images()[None]
        want, text = labeler.embed_patches(video), labeler.embed_text(["a dog"])
        labeler.cuda()
        assert torch.allclose(labeler.embed_patches(video.cuda()).cpu(), want, atol=1e-3)
        assert torch.allclose(labeler.embed_text(["a dog"]).cpu(), text, atol=1e-3)


class TestText:
    def test_rows_have_unit_length_and_keep_the_order(self):
        labeler = small_labeler()
        rows = labeler.embed_text(["a photo of a dog", "a photo of a red panda"])
        assert rows.shape == (2, 6)
        assert torch.allclose(rows.norm(dim=1), torch.ones(2))
        assert torch.allclose(rows[1:], labeler.embed_text(["a photo of a red panda"]), atol=1e-6)


class TestTraining:
    def test_only_the_head_learns_and_the_loss_falls(self):
        labeler, images = small_labeler().train(), some_images(8)
        frozen = {name: value.clone() for name, value in labeler.model.state_dict().items()}
        optimizer = torch.optim.Adam([p for p in labeler.parameters() if p.requires_grad], lr=1e-2)
        losses = []
        for _ in range(30):
            optimizer.zero_grad()
            losses.append(alignment_loss(labeler, images))
            losses[-1].backward()
            optimizer.step()
        assert losses[-1] < losses[0] - 0.05
        assert all(torch.equal(frozen[name], value) for name, value in labeler.model.state_dict().items())

    def test_loss_is_float32_under_mixed_precision(self):
        labeler, images = small_labeler(), some_images()
        with torch.autocast("cpu", torch.bfloat16):
            loss = alignment_loss(labeler, images)
        assert loss.dtype == torch.float32
        assert torch.allclose(loss, alignment_loss(labeler, images), atol=0.05)


class TestCheckpoints:
    def test_one_file_holds_all(self, tmp_path):
        source, path = small_labeler(), tmp_path / "w.safetensors"
        save_labeler(source, path, {"note": "x"}, half=False)
        loaded = load_registry().build("labeler", "pacl", {"weights": str(path), "model": "custom"})
        video, prompts = some_images()[None], ["a dog", "a cat"]
        assert torch.allclose(loaded.embed_patches(video), source.embed_patches(video), atol=1e-5)
        assert torch.allclose(loaded.embed_text(prompts), source.embed_text(prompts), atol=1e-5)
        assert stored_numbers(path) == {**SMALL, "quick_gelu": True}

    def test_positions_are_resized_to_an_image_size_that_is_set(self, tmp_path, caplog):
        labeler, path = small_labeler(), tmp_path / "pacl.safetensors"
        save_labeler(labeler, path, half=False)
        larger = build_pacl(weights=str(path), model="custom", image_size=20)
        small, large = (part.model.positional_embedding.detach() for part in (labeler, larger))
        assert large.shape == (1 + 5 * 5, small.shape[1])
        assert torch.equal(large[0], small[0])
        assert torch.allclose(large[1:].mean(0), small[1:].mean(0), atol=0.05)
        # At the size that the larger one was made for, both place their patches alike.
        video = some_images(1, 20, 20)[None]
        assert torch.allclose(labeler.embed_patches(video), larger.embed_patches(video), atol=1e-5)
        assert "positions of 3 x 3 patches are resized to 5 x 5, as labeler.image_size=20" in caplog.text
        caplog.clear()
        same = build_pacl(weights=str(path), model="custom", image_size=12)
        assert not caplog.text
        assert torch.equal(same.model.positional_embedding, labeler.model.positional_embedding)

    def test_untrained_rows_of_the_token_table_are_not_stored(self, tmp_path):
        source, path = small_labeler(), tmp_path / "w.safetensors"
        used = tokenize(["a dog"]).unique()
        table = source.text.token_embedding.weight.data
        kept = table[used].clone()
        table.zero_()
        table[used] = kept
        save_labeler(source, path)
        assert path.stat().st_size < 100_000
        state = read_state(path)
        assert state["text.token_embedding.indices"].tolist() == used.tolist()
        assert state["text.token_embedding.indices"].dtype == torch.int32
        loaded = small_labeler(seed=1)
        loaded.load_weights(path)
        assert torch.equal(loaded.text.token_embedding.weight, table.half().float())

    @pytest.mark.parametrize("wrong", [{"heads": 4}, {"text_heads": 1}, {"quick_gelu": False}])
    def test_settings_that_contradict_what_the_file_states_are_an_error(self, tmp_path, wrong):
        save_labeler(small_labeler(), tmp_path / "w.safetensors")
        ((name, value),) = wrong.items()
        with pytest.raises(WeightsError, match=f"made for {name}=.*the model has {value}"):
            build_pacl(weights=str(tmp_path / "w.safetensors"), model="custom", **wrong)

    def test_token_ids_outside_the_table_are_an_error(self, tmp_path):
        save_labeler(small_labeler(), tmp_path / "w.safetensors")
        state = read_state(tmp_path / "w.safetensors")
        state["text.token_embedding.indices"][0] = 49408
        save_state(state, tmp_path / "bad.safetensors")
        with pytest.raises(WeightsError, match=r"bad\.safetensors: text\.token_embedding\.rows.*below 49408"):
            small_labeler().load_weights(tmp_path / "bad.safetensors")

    def test_of_the_reference(self, tmp_path):
        source, loaded = small_labeler(), small_labeler(seed=1)
        torch.save(reference_state(source), tmp_path / "w.pth")
        text = loaded.embed_text(["a dog"])
        loaded.load_weights(tmp_path / "w.pth")
        video = some_images()[None]
        assert torch.equal(loaded.embed_patches(video), source.embed_patches(video))
        assert torch.equal(loaded.embed_text(["a dog"]), text)

    def test_of_the_reference_needs_the_quick_gelu(self, tmp_path):
        torch.save(reference_state(small_labeler()), tmp_path / "w.pth")
        with pytest.raises(WeightsError, match=r"w\.pth.*quick GELU"):
            small_labeler(quick_gelu=False).load_weights(tmp_path / "w.pth")

    def test_of_the_reference_needs_a_text_tower_from_elsewhere(self, tmp_path):
        torch.save(reference_state(small_labeler()), tmp_path / "w.pth")
        with pytest.raises(WeightsError, match=r"no text tower.*labeler\.pretrained"):
            build_pacl(weights=str(tmp_path / "w.pth"), model="custom", pretrained=None, **SMALL)

    def test_another_model_is_an_error(self, tmp_path):
        torch.save({"state_dict": {"module.fc.weight": torch.ones(1)}}, tmp_path / "w.pth")
        with pytest.raises(WeightsError, match=r"w\.pth: not a PACL checkpoint.*fc\.weight"):
            small_labeler().load_weights(tmp_path / "w.pth")

    def test_a_missing_part_is_an_error(self, tmp_path):
        state = reference_state(small_labeler())
        del state["state_dict"]["module.vision_emb.res.bias"]
        torch.save(state, tmp_path / "w.pth")
        with pytest.raises(WeightsError, match=r"1 missing from the file \(vision_emb\.res\.bias\)"):
            small_labeler().load_weights(tmp_path / "w.pth")

    def test_the_reference_with_towers_from_a_file(self, tmp_path):
        source = small_labeler()
        torch.save(reference_state(source), tmp_path / "w.pth")
        torch.save(openai_state(small_towers()), tmp_path / "clip.pt")
        labeler = build_pacl(
            weights=str(tmp_path / "w.pth"), model="custom", pretrained=str(tmp_path / "clip.pt"), **SMALL
        )
        video = some_images()[None]
        assert torch.equal(labeler.eval().embed_patches(video), source.embed_patches(video))
