"""VideoMAE: encoder, masked pre-training, and the checkpoints it reads."""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from ovvol_bench import SettingError, WeightsError
from ovvol_bench.nn.grids import sincos_table
from ovvol_bench.registry import load_registry
from ovvol_bench.weights import save_state
from ovvol_plugins.videomae.model import VideoMAE, build_videomae
from ovvol_plugins.videomae.pretraining import VideoMAEPretraining, pixel_targets, pretraining_loss, tube_mask
from ovvol_plugins.videomae.settings import VideoMAESettings, flat_table

SMALL = {"patch_size": 4, "dim": 24, "depth": 2, "heads": 2, "position_frames": 4, "position_grid": 3}


def small_encoder(**settings):
    torch.manual_seed(0)
    encoder = VideoMAE(VideoMAESettings(**{**SMALL, **settings}))
    for name, value in encoder.named_parameters():
        if name.endswith(("bias", "q_bias", "v_bias")):
            torch.nn.init.normal_(value, std=0.1)
    return encoder.eval()


def some_video(batch=2, frames=4, height=12, width=20):
    return torch.randn(batch, frames, 3, height, width, generator=torch.Generator().manual_seed(1))


def small_pretraining(**settings):
    return VideoMAEPretraining(small_encoder(final_norm=True, **settings), 12, 1, 2)


class TestEncoder:
    @torch.no_grad()
    def test_prepared_it_answers_alike(self):
        encoder, ready, video = small_encoder(), small_encoder(), some_video()
        ready.prepare(torch.bfloat16)
        full, found = encoder.encode(video).grid, ready.encode(video).grid
        assert (found - full).abs().max() < 0.03 * full.abs().max()

    @pytest.mark.parametrize("tubelet", [1, 2])
    @pytest.mark.parametrize("positions", ["sincos3d", "flat"])
    def test_grid_of_features(self, tubelet, positions):
        encoder = small_encoder(tubelet_size=tubelet, positions=positions)
        assert encoder.encode(some_video()).grid.shape == (2, 4 // tubelet, 3, 5, 24)

    def test_a_clip_does_not_depend_on_its_batch(self):
        encoder, video = small_encoder(), some_video()
        assert torch.allclose(encoder.encode(video).grid[1:], encoder.encode(video[1:]).grid, atol=1e-5)

    @pytest.mark.parametrize("tubelet", [1, 2])
    def test_patches_are_embedded_as_by_a_strided_convolution(self, tubelet):
        encoder, video = small_encoder(tubelet_size=tubelet), some_video()
        layer = encoder.patch_embed.proj
        want = F.conv3d(video.transpose(1, 2), layer.weight, layer.bias, stride=layer.stride)
        assert torch.allclose(encoder.patch_embed(video), want.permute(0, 2, 3, 4, 1), atol=1e-5)

    @pytest.mark.parametrize("tubelet", [1, 2])
    def test_some_patches_are_embedded_as_all_are_at_their_share_of_the_cost(self, tubelet):
        encoder, video = small_encoder(tubelet_size=tubelet), some_video()
        hidden = tube_mask(encoder.grid(video), 0.8, torch.Generator().manual_seed(0), len(video))
        with FlopCounterMode(display=False) as whole:
            want = encoder.embed(video).flatten(1, 3)[~hidden].view(len(video), -1, encoder.dim)
        with FlopCounterMode(display=False) as part:
            found = encoder.embed_some(video, ~hidden)
        assert torch.allclose(found, want, atol=1e-5)
        assert part.get_total_flops() * hidden.numel() == whole.get_total_flops() * int((~hidden).sum())

    def test_mixed_precision_stays_near(self):
        encoder, video = small_encoder(), some_video()
        full = encoder.encode(video).grid
        with torch.autocast("cpu", torch.bfloat16):
            mixed = encoder.encode(video).grid
        assert (mixed - full).abs().max() < 0.05 * full.abs().max()

    @pytest.mark.parametrize(
        ("shape", "words"),
        [
            ({"frames": 6}, r"6 frames.*reach to 4.*position_frames"),
            ({"frames": 3}, r"3 frames.*tubelet_size=2"),
            ({"height": 10}, r"10 x 20 pixels.*patch_size=4"),
            ({"width": 22}, r"12 x 22 pixels.*patch_size=4"),
        ],
    )
    def test_unfit_videos_are_refused(self, shape, words):
        with pytest.raises(SettingError, match=words):
            small_encoder(tubelet_size=2).encode(some_video(**shape))

    @pytest.mark.parametrize(
        "settings",
        [{"dim": 25}, {"position_frames": 3, "tubelet_size": 2}, {"depth": 0}, {"patch_size": -1}],
    )
    def test_unfit_settings_are_refused(self, settings):
        with pytest.raises(SettingError, match=r"videomae: \w+="):
            VideoMAESettings(**{**SMALL, **settings})

    @pytest.mark.gpu
    def test_same_on_a_gpu(self):
        encoder, video = small_encoder(), some_video()
        want = encoder.encode(video).grid
        found = encoder.cuda().encode(video.cuda()).grid.cpu()
        assert torch.allclose(found, want, atol=1e-3)


class TestPositions:
    def test_channels_are_time_then_row_then_column(self):
        table = sincos_table(4, 3, 25)
        time, row, column = table.split([9, 8, 8], dim=-1)
        assert torch.equal(time[:, 0, 0], time[:, 2, 1])
        assert torch.equal(row[0, :, 0], row[3, :, 2])
        assert torch.equal(column[0, 0], column[3, 2])
        assert math.isclose(row[0, 2, 0, 3], math.cos(2 / 10000 ** (2 / 8)), rel_tol=1e-6)

    def test_flat_positions_count_tokens(self):
        table = flat_table(2, 3, 8).flatten(0, 2)
        assert math.isclose(table[13, 4], math.sin(13 / 10000 ** (4 / 8)), rel_tol=1e-6)
        assert math.isclose(table[13, 5], math.cos(13 / 10000 ** (4 / 8)), rel_tol=1e-6)

    def test_short_clips_use_the_first_time_steps(self):
        encoder = small_encoder()
        torch.nn.init.zeros_(encoder.patch_embed.proj.weight)
        torch.nn.init.zeros_(encoder.patch_embed.proj.bias)
        embedded = encoder.embed(some_video(frames=2, height=12, width=12))
        assert torch.equal(embedded[0], encoder.positions[:2])


class TestPretraining:
    def test_hidden_pixels_are_not_seen(self):
        model, video = small_pretraining(), some_video()
        mask = tube_mask((4, 3, 5), 0.6, torch.Generator().manual_seed(0), batch=2)
        pixels = mask.view(2, 4, 1, 3, 5).repeat_interleave(4, 3).repeat_interleave(4, 4)
        assert torch.allclose(model(torch.where(pixels, 9.0, video), mask), model(video, mask), atol=1e-5)
        assert not torch.allclose(model(torch.where(pixels, video, 9.0), mask), model(video, mask), atol=1e-2)

    @pytest.mark.parametrize("tubelet", [1, 2])
    def test_a_perfect_prediction_has_no_loss(self, tubelet, monkeypatch):
        model, video = small_pretraining(tubelet_size=tubelet), some_video()
        mask = tube_mask((4 // tubelet, 3, 5), 0.6, torch.Generator().manual_seed(0), batch=2)
        targets = pixel_targets(model, video, mask)
        assert targets.shape == model(video, mask).shape
        monkeypatch.setattr(model, "forward", lambda video, mask, decoded: targets)
        assert pretraining_loss(model, video, mask) == 0

    def test_raw_targets_are_the_pixels(self):
        model = small_pretraining()
        model.norm_targets = False
        pixels = torch.rand(1, 4, 3, 12, 12)
        mean, std = (torch.tensor(value).view(3, 1, 1) for value in (model.encoder.mean, model.encoder.std))
        mask = torch.zeros(1, 36, dtype=torch.bool)
        mask[0, [0, 16]] = True
        found = pixel_targets(model, (pixels - mean) / std, mask)[0].view(2, 4, 4, 3)
        assert torch.allclose(found[0], pixels[0, 0, :, :4, :4].permute(1, 2, 0), atol=1e-6)
        assert torch.allclose(found[1], pixels[0, 1, :, 8:, 4:8].permute(1, 2, 0), atol=1e-6)

    def test_training_lowers_the_loss(self):
        model, video = small_pretraining().train(), some_video()
        mask = tube_mask((4, 3, 5), 0.6, torch.Generator().manual_seed(0), batch=2)
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        losses = []
        for _ in range(20):
            optimizer.zero_grad()
            losses.append(pretraining_loss(model, video, mask))
            losses[-1].backward()
            optimizer.step()
        assert losses[-1] < 0.95 * losses[0]

    def test_masks_differ_by_clip_and_repeat_by_seed(self):
        draw = [tube_mask((2, 6, 6), 0.9, torch.Generator().manual_seed(3), batch=2) for _ in range(2)]
        assert torch.equal(*draw)
        assert draw[0].sum(1).tolist() == [2 * 32, 2 * 32]
        assert not torch.equal(draw[0][0], draw[0][1])

    @pytest.mark.parametrize("ratio", [0.0, 0.01, 1.0])
    def test_a_mask_hides_some_and_not_all(self, ratio):
        with pytest.raises(SettingError, match="mask_ratio"):
            tube_mask((2, 3, 3), ratio, torch.Generator())

    def test_the_decoder_needs_normalised_tokens(self):
        with pytest.raises(SettingError, match="final_norm=True"):
            VideoMAEPretraining(small_encoder())


def as_transformers(state, bias_names):
    """The same weights under the names of the transformers library."""
    names = {
        "patch_embed.proj": "embeddings.patch_embeddings.projection",
        "blocks.": "encoder.layer.",
        "attn.proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.q_bias": f"attention.attention.{bias_names[0]}",
        "attn.v_bias": f"attention.attention.{bias_names[1]}",
    }
    found = {}
    for ours, value in state.items():
        name = ours
        for old, new in names.items():
            name = name.replace(old, new)
        if "attn.qkv" in name:
            prefix = name.replace("attn.qkv.weight", "attention.attention.")
            parts = zip(("query", "key", "value"), value.chunk(3), strict=True)
            found |= {f"{prefix}{part}.weight": rows for part, rows in parts}
            found[f"{prefix}key.bias"] = torch.zeros(len(value) // 3)
        else:
            found[name] = value
    return found


class TestCheckpoints:
    def check(self, path, source, **settings):
        loaded = VideoMAE(VideoMAESettings(**{**SMALL, **settings}))
        loaded.load_weights(path)
        video = some_video()
        assert torch.equal(loaded.eval().encode(video).grid, source.encode(video).grid)

    def test_saved_by_the_project(self, tmp_path):
        source = small_encoder()
        save_state(source, tmp_path / "w.safetensors")
        self.check(tmp_path / "w.safetensors", source)

    def test_of_pre_training_with_and_without_the_final_norm(self, tmp_path):
        model = small_pretraining()
        torch.save({"model": model.state_dict()}, tmp_path / "w.pth")
        self.check(tmp_path / "w.pth", model.encoder, final_norm=True)
        bare = small_encoder()
        bare.load_weights(tmp_path / "w.pth")
        self.check(tmp_path / "w.pth", bare)

    def test_fine_tuned(self, tmp_path):
        source = small_encoder()
        extras = {"head.weight": torch.ones(2, 24), "fc_norm.bias": torch.ones(24)}
        torch.save({"module": {**source.state_dict(), **extras}}, tmp_path / "w.pth")
        self.check(tmp_path / "w.pth", source)

    def test_encoder_inside_a_slot_attention_file(self, tmp_path):
        source = small_encoder()
        state = {f"model.{name}": value for name, value in source.state_dict().items()}
        others = {"conditioning.slots_mu": torch.ones(1), "decoder.pos_embed": torch.ones(1)}
        torch.save({**state, **others, "model.head.bias": torch.ones(2)}, tmp_path / "w.pth")
        self.check(tmp_path / "w.pth", source)

    @pytest.mark.parametrize("prefix", ["videomae.", ""])
    @pytest.mark.parametrize("biases", [("q_bias", "v_bias"), ("query.bias", "value.bias")])
    def test_of_transformers(self, tmp_path, prefix, biases):
        source = small_encoder(positions="flat")
        state = {prefix + k: v for k, v in as_transformers(source.state_dict(), biases).items()}
        decoder = {"decoder.decoder_layers.0.attention.attention.query.weight": torch.ones(2, 2)}
        save_state({**state, **decoder, "classifier.bias": torch.ones(2)}, tmp_path / "w.safetensors")
        self.check(tmp_path / "w.safetensors", source, positions="flat")

    def test_lost_biases_are_an_error(self, tmp_path):
        state = as_transformers(small_encoder().state_dict(), ("q_bias", "v_bias"))
        kept = {name: value for name, value in state.items() if "q_bias" not in name}
        save_state(kept, tmp_path / "w.safetensors")
        with pytest.raises(WeightsError, match=r"2 missing from the file \(blocks\.0\.attn\.q_bias"):
            small_encoder(positions="flat").load_weights(tmp_path / "w.safetensors")

    @pytest.mark.parametrize("prefix", ["backbone.", "model.backbone.", "vision_encoder.", "encoder.model."])
    def test_inside_a_model_of_another_program(self, tmp_path, prefix):
        source = small_encoder()
        save_state({prefix + k: v for k, v in source.state_dict().items()}, tmp_path / "w.safetensors")
        self.check(tmp_path / "w.safetensors", source)

    def test_of_mmaction(self, tmp_path):
        source, state = small_encoder(), {"cls_head.fc_cls.bias": torch.ones(2)}
        for name, value in source.state_dict().items():
            renamed = name.replace("patch_embed.proj.", "patch_embed.projection.")
            renamed = renamed.replace("mlp.fc1.", "mlp.layers.0.0.").replace("mlp.fc2.", "mlp.layers.1.")
            state[f"backbone.{renamed}"] = value
        torch.save({"state_dict": state, "meta": {"epoch": 3}}, tmp_path / "w.pth")
        self.check(tmp_path / "w.pth", source)

    def test_two_encoders_in_one_file_are_refused(self, tmp_path):
        state = small_encoder().state_dict()
        both = {f"{who}.{name}": value.clone() for who in ("student", "ema") for name, value in state.items()}
        save_state(both, tmp_path / "w.safetensors")
        with pytest.raises(WeightsError, match=r"2 encoders \((student|ema)\..*, (student|ema)\."):
            small_encoder().load_weights(tmp_path / "w.safetensors")

    def test_fine_tuned_files_have_no_norm_of_patches(self, tmp_path):
        state = {
            **small_encoder().state_dict(),
            "fc_norm.weight": torch.ones(24),
            "fc_norm.bias": torch.ones(24),
        }
        save_state(state, tmp_path / "w.safetensors")
        with pytest.raises(WeightsError, match=r"fine-tuned for classes.*final_norm=false"):
            small_encoder(final_norm=True).load_weights(tmp_path / "w.safetensors")

    def test_another_layout_is_an_error(self, tmp_path):
        save_state({"backbone.conv.weight": torch.ones(1)}, tmp_path / "w.safetensors")
        with pytest.raises(WeightsError, match=r"w\.safetensors: not a VideoMAE.*backbone\.conv\.weight"):
            small_encoder().load_weights(tmp_path / "w.safetensors")

    def test_another_size_is_an_error(self, tmp_path):
        save_state(small_encoder(), tmp_path / "w.safetensors")
        with pytest.raises(WeightsError, match=r"\(24, 3, 1, 4, 4\) in the file, \(24, 3, 2, 4, 4\)"):
            small_encoder(tubelet_size=2).load_weights(tmp_path / "w.safetensors")


CONFIG = {
    "model_type": "videomae",
    "patch_size": 4,
    "tubelet_size": 2,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "intermediate_size": 48,
    "num_frames": 4,
    "image_size": 12,
    "use_mean_pooling": False,
    "layer_norm_eps": 1e-3,
}


class TestStatedArchitecture:
    @pytest.fixture
    def source(self):
        return small_encoder(
            tubelet_size=2, heads=6, mlp_ratio=2, positions="flat", final_norm=True, norm_eps=1e-3
        )

    def folder(self, path, source, **config):
        save_state(as_transformers(source.state_dict(), ("q_bias", "v_bias")), path / "model.safetensors")
        (path / "config.json").write_text(json.dumps({**CONFIG, **config}))
        return path

    @pytest.mark.parametrize("name", ["", "model.safetensors"])
    def test_config_sets_heads_positions_and_sizes(self, tmp_path, source, name):
        found = build_videomae(weights=str(self.folder(tmp_path, source) / name)).eval()
        assert torch.equal(found.encode(some_video()).grid, source.encode(some_video()).grid)

    def test_mean_pooling_leaves_the_norm_out(self, tmp_path, source):
        assert not build_videomae(
            weights=str(self.folder(tmp_path, source, use_mean_pooling=True))
        ).settings.final_norm

    @pytest.mark.parametrize("wrong", [{"heads": 2}, {"positions": "sincos3d"}, {"mlp_ratio": 4.0}])
    def test_settings_that_contradict_it_are_refused(self, tmp_path, source, wrong):
        ((key, value),) = wrong.items()
        with pytest.raises(WeightsError, match=f"made for {key}=.*the encoder has {key}={value}"):
            build_videomae(weights=str(self.folder(tmp_path, source)), **wrong)

    def test_another_grid_warns(self, tmp_path, source, caplog):
        build_videomae(weights=str(self.folder(tmp_path, source)), position_grid=5)
        assert "made for 3 x 3 patches, and encoder.position_grid=5" in caplog.text

    @pytest.mark.parametrize(
        "config",
        [
            {"model_type": "vit"},
            {"hidden_size": 0},
            {"hidden_act": "relu"},
            {"image_size": [12, 16]},
            {"patch_size": True},
        ],
    )
    def test_configurations_of_others_are_refused(self, tmp_path, source, config):
        (key,) = config
        with pytest.raises(WeightsError, match=f"config.json has {key}="):
            build_videomae(weights=str(self.folder(tmp_path, source, **config)))

    def test_without_it_heads_must_be_given(self, tmp_path, source):
        self.folder(tmp_path, source)
        (tmp_path / "config.json").unlink()
        sizes = {"tubelet_size": 2, "mlp_ratio": 2, **{key: SMALL[key] for key in SMALL if key != "heads"}}
        with pytest.raises(SettingError, match=r"number of attention heads.*config\.json"):
            build_videomae(weights=str(tmp_path), **sizes)
        assert build_videomae(weights=str(tmp_path), heads=6, **sizes).settings.positions == "flat"

    @pytest.mark.parametrize("header", ["{", "[" * 5000, "[]", '{"heads": "x"}', '{"surprise": 1}'])
    def test_damaged_headers_are_refused(self, tmp_path, header):
        save_state(small_encoder(), tmp_path / "w.safetensors", {"videomae": header})
        with pytest.raises(WeightsError, match="header"):
            build_videomae(weights=str(tmp_path / "w.safetensors"), **SMALL)


class TestStoredPositions:
    def load(self, path, table, **settings):
        source = small_encoder(**settings)
        save_state({**source.state_dict(), "pos_embed": table.flatten(0, 2)[None]}, path / "w.safetensors")
        source.load_weights(path / "w.safetensors")

    def test_those_that_are_computed_may_be_stored(self, tmp_path, caplog):
        self.load(tmp_path, sincos_table(4, 3, 24).half())
        self.load(tmp_path, flat_table(4, 3, 24), positions="flat")
        assert not caplog.text

    @pytest.mark.parametrize(
        ("table", "words"),
        [(flat_table(4, 3, 24), "those of positions=flat"), (torch.randn(4, 3, 3, 24), "trained")],
    )
    def test_others_are_refused(self, tmp_path, table, words):
        with pytest.raises(WeightsError, match=rf"positions in it.*{words}.*would be wrong"):
            self.load(tmp_path, table)

    @pytest.mark.parametrize(("steps", "side"), [(4, 5), (2, 3)])
    def test_those_of_another_grid_warn(self, tmp_path, caplog, steps, side):
        self.load(tmp_path, sincos_table(steps, side, 24))
        assert f"{steps} steps of {side} x {side} patches" in caplog.text


class TestEntry:
    def test_factory_builds_what_the_settings_say(self, tmp_path):
        source = small_encoder()
        save_state(source, tmp_path / "w.safetensors")
        settings = {"weights": str(tmp_path / "w.safetensors"), **SMALL}
        encoder = load_registry().build("encoder", "videomae", settings)
        assert torch.equal(encoder.encode(some_video()).grid, source.encode(some_video()).grid)

    def test_unknown_weights_are_an_error(self):
        with pytest.raises(WeightsError, match="no such file"):
            build_videomae(weights="nowhere", **SMALL)
