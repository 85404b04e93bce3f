"""Encoders to beat: small models of the real classes, without a network."""

import json

import numpy as np
import pytest
import timm
import torch
from timm.layers import LayerScale
from torch.nn import functional as F

from ovvol_bench import ClipInfo, DataError, FrameTruth, SettingError, WeightsError, pipeline
from ovvol_bench.cli import main
from ovvol_bench.nn import hub
from ovvol_bench.nn.blocks import PackedBlock
from ovvol_bench.registry import load_registry
from ovvol_bench.weights import save_state

SMALL = {"pretrained": False, "dim": 32, "depth": 2, "heads": 4}
PLAIN = {**SMALL, "model": "vit_tiny_patch16_224"}


def build(name, **options):
    return load_registry().build("encoder", name, options).eval()


def video(height=32, width=48, batch=2, frames=2):
    return torch.rand(batch, frames, 3, height, width, generator=torch.Generator().manual_seed(0))


class TestTransformers:
    @pytest.mark.parametrize("name", ["dino", "dinov2", "mae", "clip"])
    def test_named_models_give_tokens_keys_and_attention(self, name):
        encoder = build(name, **SMALL)
        side = encoder.patch_size
        features = pipeline.encode(encoder, video(2 * side, 3 * side))
        assert features.grid.shape == (2, 2, 2, 3, 32)
        assert features.maps["keys"].shape == (2, 2, 2, 3, 32)
        assert features.maps["attention"].shape == (2, 2, 4, 2, 3)
        assert (features.maps["attention"].sum((3, 4)) < 1).all()

    def test_every_frame_is_seen_alone(self):
        encoder, given = build("timm", **PLAIN), video()
        with torch.no_grad():
            grid, alone = encoder.encode(given).grid, encoder.model.forward_features(given[1, 0][None])
        assert torch.allclose(grid[1, 0].flatten(0, 1), alone[0, 1:], atol=1e-5)

    def test_keys_and_attention_are_the_models_own(self):
        encoder, given = build("timm", **PLAIN), video(batch=1, frames=1)
        attention = encoder.model.blocks[-1].attn
        attention.fused_attn = False  # the plain form shows its attention to a hook
        seen = {}
        attention.attn_drop.register_forward_hook(lambda m, args, out: seen.update(attention=out))
        inputs = []
        attention.register_forward_pre_hook(lambda m, args: inputs.append(args[0]))
        with torch.no_grad():
            maps = encoder.encode(given).maps
            keys = F.linear(inputs[0], attention.qkv.weight[32:64], attention.qkv.bias[32:64])
        assert torch.allclose(maps["attention"][0, 0].flatten(1), seen["attention"][0, :, 0, 1:], atol=1e-6)
        assert torch.allclose(maps["keys"][0, 0].flatten(0, 1), keys[0, 1:], atol=1e-6)

    @torch.no_grad()
    @pytest.mark.parametrize("name", ["dino", "dinov2", "mae", "clip"])
    def test_prepared_models_answer_alike(self, name):
        plain, ready = build(name, **SMALL), build(name, **SMALL)
        for module in plain.modules():
            if isinstance(module, LayerScale):  # near zero at first: then nothing would be compared
                torch.nn.init.uniform_(module.gamma, 0.5, 1.5)
        ready.load_state_dict(plain.state_dict())
        ready.prepare(torch.bfloat16)
        assert isinstance(ready.model.blocks[0], PackedBlock)
        given = video(2 * plain.patch_size, 3 * plain.patch_size)
        full, found = plain.encode(given), ready.encode(given)
        assert (found.grid - full.grid).abs().max() < 0.03 * full.grid.abs().max()
        assert torch.allclose(found.maps["attention"], full.maps["attention"], atol=0.02)

    def test_register_tokens_are_no_patches(self):
        encoder = build("timm", **{**SMALL, "model": "vit_small_patch14_reg4_dinov2"})
        assert pipeline.encode(encoder, video(28, 42)).grid.shape == (2, 2, 2, 3, 32)

    def test_a_model_without_a_class_token_gives_keys_only(self):
        encoder = build("timm", **{**SMALL, "model": "vit_base_patch16_siglip_224"})
        assert encoder.maps == {"keys"}
        assert pipeline.encode(encoder, video()).maps.keys() == {"keys"}

    def test_positions_fit_the_grid(self):
        encoder = build("timm", **PLAIN)
        torch.nn.init.normal_(encoder.model.pos_embed)
        with torch.no_grad():
            small, native = encoder.encode(video(48, 32)).grid, encoder.encode(video(224, 224, 1, 1)).grid
        assert (small.shape[2:4], native.shape[2:4]) == ((3, 2), (14, 14))

    def test_clips_statistics_are_its_own(self):
        assert build("clip", **SMALL).mean == pytest.approx((0.4814, 0.4578, 0.4082), abs=1e-4)

    def test_weights_come_from_a_file(self, tmp_path):
        torch.manual_seed(1)
        source = build("timm", **PLAIN)
        save_state(source.model, tmp_path / "vit.safetensors")
        torch.save(
            {"model": {**source.model.state_dict(), "head.weight": torch.zeros(3, 32)}}, tmp_path / "vit.pth"
        )
        want = source.encode(video()).grid
        for name in ("vit.safetensors", "vit.pth"):
            torch.manual_seed(2)
            loaded = build("timm", **{**PLAIN, "weights": str(tmp_path / name)})
            assert torch.equal(loaded.encode(video()).grid, want)

    def test_openais_names_are_converted(self, tmp_path):
        """A file with the image tower under CLIP's own names, written out by hand from timm's."""
        torch.manual_seed(1)
        source = build("clip", **SMALL)
        names = (
            ("cls_token", "class_embedding"), ("pos_embed", "positional_embedding"),
            ("patch_embed.proj", "conv1"), ("norm_pre", "ln_pre"), ("blocks", "transformer.resblocks"),
            ("attn.qkv.", "attn.in_proj_"), ("attn.proj", "attn.out_proj"), ("mlp.fc1", "mlp.c_fc"),
            ("mlp.fc2", "mlp.c_proj"), ("norm1", "ln_1"), ("norm2", "ln_2"),
        )  # fmt: skip
        state = {}
        for name, value in source.model.state_dict().items():
            theirs = name
            for old, new in names:
                theirs = theirs.replace(old, new)
            theirs = theirs.replace("norm.", "ln_post.") if name.startswith("norm.") else theirs
            flat = name in ("cls_token", "pos_embed")
            state[f"visual.{theirs}"] = value.reshape(-1, 32).squeeze(0) if flat else value
        state["visual.proj"] = torch.zeros(32, 16)
        torch.save(state, tmp_path / "clip.pt")
        torch.manual_seed(2)
        loaded = build("clip", **SMALL, weights=str(tmp_path / "clip.pt"))
        assert torch.equal(loaded.encode(video()).grid, source.encode(video()).grid)

    def test_weights_of_other_sizes_are_refused(self, tmp_path):
        save_state(build("timm", **PLAIN).model, tmp_path / "vit.safetensors")
        with pytest.raises(WeightsError, match=r"vit\.safetensors: weights do not fit"):
            build("timm", **{**PLAIN, "depth": 1, "weights": str(tmp_path / "vit.safetensors")})

    def test_a_missing_file_is_named(self):
        with pytest.raises(WeightsError, match=r"'nowhere\.pth': no such file"):
            build("timm", **{**PLAIN, "weights": "nowhere.pth"})

    def test_without_a_network_it_says_what_to_fetch(self, monkeypatch):
        monkeypatch.setattr(hub, "reachable", lambda address: False)
        monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *names: None)
        with pytest.raises(WeightsError, match=r"timm/vit_small_patch16_224\.dino/model\.safetensors"):
            build("dino")

    def test_published_weights_come_from_the_cache(self, monkeypatch, tmp_path):
        torch.manual_seed(1)
        source = build("timm", **PLAIN)
        save_state(source.model, tmp_path / "model.safetensors")
        monkeypatch.setattr(
            "huggingface_hub.try_to_load_from_cache", lambda *names: str(tmp_path / "model.safetensors")
        )
        loaded = build("timm", **{**PLAIN, "pretrained": True})
        assert torch.equal(loaded.encode(video()).grid, source.encode(video()).grid)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"model": "vit_tiny_patch16_225"}, "Did you mean 'vit_tiny_patch16_224'"),
            ({"model": "resnet18.nope"}, "Invalid pretrained tag"),
            ({"model": "crossvit_9_240"}, "14 x 14 features .* expected one every 17 pixels"),
            ({"model": "resnet18", "stride": 5}, "no map with stride=5; it has 2, 4, 8, 16, 32"),
            ({"model": "resnet18", "patch_size": 8}, "'patch_size': 8"),
            ({**PLAIN, "stride": 16}, "takes no stride"),
            ({**PLAIN, "heads": 5}, "'num_heads': 5"),
        ],
    )
    def test_models_that_do_not_serve_are_refused(self, options, message):
        with pytest.raises(SettingError, match=message):
            build("timm", **options)


class TestFiles:
    """The same numbers under the names of published files."""

    def check(self, path, source, model, **options):
        torch.manual_seed(2)
        loaded = build("timm", **{**SMALL, **options, "model": model, "weights": str(path)})
        frames = video(4 * source.patch_size, 6 * source.patch_size)
        assert torch.equal(loaded.encode(frames).grid, source.encode(frames).grid)

    @staticmethod
    def source(model, **options):
        torch.manual_seed(1)
        return build("timm", **{**SMALL, **options, "model": model})

    @pytest.mark.parametrize("prefix", ["backbone.", "module.backbone.", "model.encoder."])
    def test_checkpoints_of_dinos_training(self, tmp_path, prefix):
        source = self.source("vit_tiny_patch16_224")
        teacher = {prefix + name: value for name, value in source.model.state_dict().items()}
        heads = {"head.mlp.0.weight": torch.ones(2, 2), "head.last_layer.weight_g": torch.ones(2, 1)}
        student = {name: torch.zeros_like(value) for name, value in teacher.items()}
        torch.save({"student": student, "teacher": {**teacher, **heads}, "epoch": 3}, tmp_path / "dino.pth")
        if prefix.startswith("module."):
            torch.save({"teacher": teacher}, tmp_path / "dino.pth")
        self.check(tmp_path / "dino.pth", source, "vit_tiny_patch16_224")

    def test_dinov2_in_chunks_and_with_its_own_grid(self, tmp_path):
        source = self.source("vit_small_patch14_dinov2")
        source.model.set_input_size(img_size=(98, 98))
        state = {"backbone.mask_token": torch.ones(1, 32), "dino_head.mlp.0.bias": torch.ones(2)}
        for name, value in source.model.state_dict().items():
            chunked = name.replace("blocks.0.", "blocks.0.0.").replace("blocks.1.", "blocks.1.1.")
            state[f"backbone.{chunked}"] = value
        torch.save({"teacher": state}, tmp_path / "teacher_checkpoint.pth")
        self.check(tmp_path / "teacher_checkpoint.pth", source, "vit_small_patch14_dinov2")

    def test_chunks_that_count_anew_are_refused(self, tmp_path):
        state = {f"blocks.{chunk}.0.norm1.weight": torch.ones(32) for chunk in (0, 1)}
        save_state(state, tmp_path / "w.safetensors")
        with pytest.raises(WeightsError, match="several chunks"):
            self.check(
                tmp_path / "w.safetensors", self.source("vit_tiny_patch16_224"), "vit_tiny_patch16_224"
            )

    def test_two_transformers_are_refused(self, tmp_path):
        state = {f"{who}.patch_embed.proj.weight": torch.ones(32, 3, 16, 16) for who in "ab"}
        save_state(state, tmp_path / "w.safetensors")
        with pytest.raises(WeightsError, match=r"2 vision transformers \(a\.patch.*expected one"):
            build("timm", **{**PLAIN, "weights": str(tmp_path / "w.safetensors")})

    def test_a_fine_tuned_mae_says_why_it_does_not_fit(self, tmp_path):
        state = dict(self.source("vit_tiny_patch16_224").model.state_dict())
        for part in ("weight", "bias"):
            state[f"fc_norm.{part}"] = state.pop(f"norm.{part}")
        torch.save({"model": {**state, "head.weight": torch.ones(3, 32)}}, tmp_path / "mae.pth")
        with pytest.raises(WeightsError, match=r"mae\.pth: fine-tuned for classes.*fc_norm.*pre-training"):
            build("timm", **{**PLAIN, "weights": str(tmp_path / "mae.pth")})

    def test_models_that_end_in_fc_norm_take_files_with_and_without(self, tmp_path):
        source, state = self.source("vit_base_patch16_rpn_224"), {"fc_norm.bias": torch.ones(32)}
        for index, more in enumerate((state, {})):
            save_state({**source.model.state_dict(), **more}, tmp_path / f"{index}.safetensors")
            self.check(tmp_path / f"{index}.safetensors", source, "vit_base_patch16_rpn_224")

    def test_patches_of_another_size_are_said(self, tmp_path, caplog):
        save_state(self.source("vit_tiny_patch16_224", patch_size=8).model, tmp_path / "w.safetensors")
        build("timm", **{**PLAIN, "weights": str(tmp_path / "w.safetensors")})
        assert "patches of 8 x 8 pixels, resampled to 16 x 16; encoder.patch_size=8" in caplog.text

    @pytest.mark.parametrize(
        ("layer", "attention", "output"),
        [
            ("encoder.layer", "attention.attention.{}", "attention.output.dense"),
            ("layers", "attention.{}", ""),
        ],
    )
    def test_of_transformers(self, tmp_path, layer, attention, output):
        source = self.source("vit_tiny_patch16_224")
        for module in source.model.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.eps = 1e-3
        new, state = not output, {"pooler.dense.bias": torch.ones(2)}
        names = (
            ("blocks", layer), ("attn.proj", output or "attention.o_proj"), ("patch_embed.proj",
            "embeddings.patch_embeddings.projection"), ("pos_embed", "embeddings.position_embeddings"),
            ("cls_token", "embeddings.cls_token"),
            ("norm1", "layernorm_before"), ("norm2", "layernorm_after"),
            ("mlp.fc1", "mlp.fc1" if new else "intermediate.dense"),
            ("mlp.fc2", "mlp.fc2" if new else "output.dense"),
        )  # fmt: skip
        for name, value in source.model.state_dict().items():
            theirs = f"layernorm.{name[5:]}" if name.startswith("norm.") else name
            for old, hers in names:
                theirs = theirs.replace(old, hers)
            for part, rows in zip(("query", "key", "value"), value.chunk(3), strict=False):
                piece = attention.format(f"{part[0]}_proj" if new else part)
                if "attn.qkv" in name:
                    state[theirs.replace("attn.qkv", piece)] = rows
            if "attn.qkv" not in name:
                state[theirs] = value
        save_state(state, tmp_path / "model.safetensors")
        config = {"model_type": "vit", "num_attention_heads": 4, "layer_norm_eps": 1e-3}
        (tmp_path / "config.json").write_text(json.dumps(config))
        self.check(tmp_path, source, "vit_tiny_patch16_224")
        with pytest.raises(WeightsError, match=r"num_attention_heads=4, the encoder 2.*encoder.heads=4"):
            self.check(tmp_path, source, "vit_tiny_patch16_224", heads=2)


class TestPositions:
    """Tables resized by the formulas that the published programs state, then used at their own size."""

    @pytest.mark.parametrize(
        ("model", "how"),
        [
            ("vit_small_patch16_224.dino", {"scale_factor": (4.1 / 14, 6.1 / 14)}),
            ("vit_base_patch14_dinov2.lvd142m", {"scale_factor": (4.1 / 37, 6.1 / 37)}),
            ("vit_base_patch14_reg4_dinov2.lvd142m", {"size": (4, 6), "antialias": True}),
            ("vit_base_patch16_224.mae", {"size": (4, 6)}),
            ("vit_base_patch16_clip_quickgelu_224.openai", {"size": (4, 6), "antialias": True}),
        ],
    )
    @torch.no_grad()
    def test_official_and_timm(self, model, how):
        torch.manual_seed(1)
        encoder = build("timm", **SMALL, model=model)
        frames = video(4 * encoder.patch_size, 6 * encoder.patch_size)
        found = encoder.encode(frames).grid
        timms = build("timm", **SMALL, model=model, positions="timm")
        timms.model.load_state_dict(encoder.model.state_dict())
        assert torch.equal(timms.encode(frames).grid, found) == ("antialias" in how)

        table, side = encoder.model.pos_embed, encoder.model.patch_embed.grid_size[0]
        first = table.shape[1] - side**2
        grid = table[:, first:].view(1, side, side, -1).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, mode="bicubic", align_corners=False, **how).flatten(2).transpose(1, 2)
        timms.model.set_input_size(img_size=frames.shape[3:])
        timms.model.pos_embed.copy_(torch.cat([table[:, :first], grid], dim=1))
        assert torch.allclose(timms.encode(frames).grid, found, atol=1e-5)


class TestFeatureMaps:
    @pytest.mark.parametrize(
        ("model", "options"),
        [
            ("test_convnext", {}),
            ("test_resnet", {"stride": 8}),
            ("eva02_tiny_patch14_224", {"depth": 2, "dim": 24, "heads": 2}),
            ("swin_tiny_patch4_window7_224", {"stride": 16, "dim": 24}),
        ],
    )
    @torch.no_grad()
    def test_a_grid_of_any_size(self, model, options, tmp_path):
        torch.manual_seed(1)
        source = build("timm", model=model, pretrained=False, **options)
        side = source.patch_size
        assert options.get("stride", side) == side
        frames = video(2 * side, 3 * side)
        assert pipeline.encode(source, frames).grid.shape == (2, 2, 2, 3, source.dim)
        classifier = f"{source.model.pretrained_cfg['classifier']}.weight"
        save_state({**source.model.state_dict(), classifier: torch.ones(1)}, tmp_path / "w.safetensors")
        torch.manual_seed(2)
        weights = str(tmp_path / "w.safetensors")
        loaded = build("timm", model=model, pretrained=False, weights=weights, **options)
        assert torch.equal(loaded.encode(frames).grid, source.encode(frames).grid)

    def test_networks_for_one_size_say_so_and_can_be_built_for_another(self):
        options = {"model": "beit_base_patch16_224", "pretrained": False, "depth": 1, "dim": 24, "heads": 2}
        with pytest.raises(SettingError, match=r"no frames of 32 x 48 pixels.*encoder.image_size=32,48"):
            build("timm", **options).encode(video())
        assert build("timm", **options, image_size=(32, 48)).encode(video()).grid.shape == (2, 2, 2, 3, 24)

    @torch.no_grad()
    def test_the_channels_are_those_after_a_neck(self):
        options = {"model": "samvit_base_patch16", "pretrained": False, "depth": 1, "dim": 24, "heads": 2}
        encoder = build("timm", **options, image_size=(64, 64))
        assert encoder.encode(video(64, 64)).grid.shape == (2, 2, 4, 4, encoder.dim)
        assert encoder.dim == 256


class TestNames:
    def test_a_model_follows_the_colon(self):
        registry = load_registry()
        assert registry.resolve("encoder", "timm:vit_tiny_patch16_224", {})["model"] == "vit_tiny_patch16_224"
        found = registry.build("encoder", "timm:vit_tiny_patch16_224", SMALL)
        assert isinstance(found.model, timm.models.VisionTransformer)

    @pytest.mark.parametrize(
        ("name", "options", "message"),
        [
            ("pixels:8", {}, "encoder 'pixels' takes nothing after a colon, got ':8'"),
            ("timm:hf-hub:a/b", {}, "'timm:hf-hub:a/b': expected letters"),
            ("timm:a", {"model": "b"}, "'timm:a' is set to model=b as well"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, name, options, message):
        with pytest.raises(SettingError, match=message):
            load_registry().resolve("encoder", name, options)


class TestPixels:
    def test_colour_and_place(self):
        frame = torch.zeros(1, 1, 3, 4, 6)
        frame[..., 0, :2, :2] = 1
        features = build("pixels", patch_size=2).encode(frame).grid
        assert features[0, 0, 0, 0].tolist() == pytest.approx([1, 0, 0, -0.5, -2 / 3])
        assert features[0, 0, 1, 2].tolist() == pytest.approx([0, 0, 0, 0.5, 2 / 3])

    def test_position_can_be_left_out(self):
        features = build("pixels", patch_size=8, position_weight=0).encode(video()).grid
        assert not features[..., 3:].any()

    def test_negative_weights_are_refused(self):
        with pytest.raises(SettingError, match="'position_weight' can't be -1"):
            build("pixels", position_weight=-1)


class TestRandom:
    @staticmethod
    def small(seed=0):
        return build("random", seed=seed, dim=48, depth=1, heads=4)

    def test_the_seed_draws_the_weights(self):
        one, same, other = (self.small(seed).encode(video()).grid for seed in (0, 0, 1))
        assert torch.equal(one, same)
        assert not torch.allclose(one, other)

    def test_other_draws_go_on_as_before(self):
        torch.manual_seed(0)
        want = torch.rand(1)
        torch.manual_seed(0)
        self.small()
        assert torch.equal(torch.rand(1), want)


def clip_of(name, tracks, size=(32, 48), boxes=((0, 0, 15, 15), (32, 16, 47, 31))):
    """Two frames of two boxes, each a patch of 16 pixels."""
    no, ids = np.zeros(2, bool), np.array([1, 2])
    corners = np.array(boxes, np.float32)
    truth = FrameTruth(corners, ids, np.array(tracks), no, no, np.ones(2, np.float32))
    return ClipInfo(f"{name}/0", name, (0, 1), size, (truth, truth))


class TestOracle:
    def test_an_object_has_one_direction(self):
        clips = [clip_of("v", [3, 4]), clip_of("v", [4, 3])]
        features = pipeline.encode(build("oracle", dim=16), video(), truth=clips)
        grid = features.grid
        assert torch.equal(features.maps["keys"], grid)
        assert torch.allclose(grid.norm(dim=-1), torch.ones(()))
        assert torch.equal(grid[0, :, 0, 0], grid[1, :, 1, 2])  # the same track in another clip
        assert torch.equal(grid[0, :, 0, 1], grid[1, :, 1, 0])  # background
        assert len(grid[0, 0].flatten(0, 1).unique(dim=0)) == 3

    def test_videos_and_untracked_boxes_share_nothing(self):
        clips = [clip_of("v", [-1, -1]), clip_of("w", [3, 4])]
        grid = pipeline.encode(build("oracle", dim=16), video(), truth=clips).grid
        objects = torch.cat([grid[:, :, 0, 0].flatten(0, 1), grid[:, :, 1, 2].flatten(0, 1)])
        assert len(objects.unique(dim=0)) == 4 + 2

    def test_patches_are_mixed_by_area(self):
        boxes = ((0, 0, 7, 15), (32, 16, 47, 31))
        grid = pipeline.encode(
            build("oracle", dim=16), video(batch=1), truth=[clip_of("v", [0, 1], boxes=boxes)]
        ).grid
        whole = pipeline.encode(build("oracle", dim=16), video(batch=1), truth=[clip_of("v", [0, 1])]).grid
        assert torch.allclose(grid[0, 0, 0, 0], (whole[0, 0, 0, 0] + whole[0, 0, 0, 1]) / 2, atol=1e-6)

    def test_a_clip_without_truth_is_refused(self):
        with pytest.raises(DataError, match="v/0 has no truth"):
            build("oracle").encode(video(batch=1), truth=[ClipInfo("v/0", "v", (0, 1), (32, 48))])


def test_lost_runs_on_an_encoder_with_keys_and_not_on_one_without(tmp_path, capsys):
    arguments = [
        "run",
        "--encoder",
        "pixels,oracle",
        "--grouper",
        "lost",
        "--limit",
        "1",
        "--output",
        str(tmp_path),
    ]
    settings = ["-o", "encoder.patch_size=8", "-o", "grouper.source=keys", "-o", "dataset.videos=1"]
    with pytest.raises(SystemExit):
        main([*arguments, *settings])
    shown = capsys.readouterr().out
    assert "grouper 'lost' needs keys from the encoder; 'pixels' gives features only" in shown
    assert "oracle: told the truth" in shown
