"""VideoMAE's pre-training recipe: settings, clips, loss, weights, calibration and pictures."""

import inspect
import math
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from ovvol_bench import DataError, Lazy, SettingError, WeightsError
from ovvol_bench.components import IMAGENET_MEAN, IMAGENET_STD
from ovvol_bench.data.base import TrainingVideos
from ovvol_bench.data.transforms import SCALES
from ovvol_bench.registry.settings import SettingsOf, read_settings
from ovvol_bench.training import Draws, TrainingTask
from ovvol_bench.training.encoding import TOO_SHORT, draw_positions
from ovvol_bench.weights import read_metadata
from ovvol_plugins.videomae import ovvol_encoders
from ovvol_plugins.videomae.model import Block, build_videomae
from ovvol_plugins.videomae.pretraining import reconstruction
from ovvol_plugins.videomae.recipe import VideoMAERecipe

ENCODER = {"patch_size": 4, "dim": 24, "depth": 2, "heads": 2, "position_frames": 4, "position_grid": 4}
SMALL = {
    "mask_ratio": 0.5,
    "decoder_dim": 12,
    "decoder_depth": 1,
    "decoder_heads": 2,
    "frames": 4,
    "size": (12, 16),
    "batch_size": 4,
    "learning_rate": 3e-3,
    "scale_learning_rate": False,
    "warmup_epochs": 1,
    "epochs": 20,
}


class BlobVideos(TrainingVideos):
    """Bright squares that move over a ramp; frame t of a video has 10 t in its first pixel."""

    def __init__(self, lengths=(9, 9, 9, 9), height=12, width=16):
        self.lengths, self.height, self.width = lengths, height, width

    def __len__(self):
        return len(self.lengths)

    def name(self, index):
        return f"video-{index}"

    def length(self, index):
        return self.lengths[index]

    def frames(self, index, positions):
        video = np.zeros((self.lengths[index], self.height, self.width, 3), np.uint8)
        video += np.linspace(20, 200, self.width).astype(np.uint8)[:, None]
        for t, frame in enumerate(video):
            frame[2 + index : 6 + index, t : t + 4] = (250, 120, 30 * index)
            frame[0, 0] = 10 * t
        video.flags.writeable = False
        return video[list(positions)]

    def fingerprint(self):
        return "blobs"


def dataset_of(videos):
    return SimpleNamespace(training_videos=lambda: videos)


def small_encoder(**settings):
    torch.manual_seed(0)
    return build_videomae(**{**ENCODER, **settings})


def small_recipe(encoder=None, videos=None, validation=None, seed=0, **settings):
    task = TrainingTask(
        component=encoder or small_encoder(),
        dataset=dataset_of(videos or BlobVideos()),
        validation=validation and dataset_of(validation),
        encoder=None,
        cache=Path("unused"),
        seed=seed,
    )
    return VideoMAERecipe(task, **{**SMALL, **settings})


def draws(key):
    return Draws(f"example {key}", "step")


def some_batch(recipe, count=4):
    examples = [recipe.examples.example(i % len(recipe.examples), draws(i)) for i in range(count)]
    return recipe.prepare(default_collate(examples))


def train(recipe, steps):
    numbers = recipe.optimization
    optimizer = torch.optim.AdamW(recipe.parameters(), numbers.learning_rate, numbers.betas)
    batch = some_batch(recipe)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = recipe(batch)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def randomise(encoder):
    """Weights under which features vary, and none is what training starts from."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for value in encoder.parameters():
            value.add_(torch.randn(value.shape, generator=generator), alpha=0.1)
    return encoder


class TestSettings:
    def test_defaults_are_the_published_numbers(self):
        (entry,) = ovvol_encoders()
        recipe = Lazy(entry.recipes["videomae"])
        defaults = {setting.name: setting.default for setting in read_settings(recipe, given=1)}
        assert defaults == {
            "mask_ratio": 0.9,
            "decoder_dim": 384,
            "decoder_depth": 4,
            "decoder_heads": 6,
            "norm_targets": True,
            "decoded_share": 1.0,
            "frames": 16,
            "sampling_rate": 2,
            "size": 224,
            "crop_scales": SCALES,
            "flip": False,
            "batch_size": 16 * 8 * 4,
            "learning_rate": 1.5e-4,
            "scale_learning_rate": True,
            "final_learning_rate": 1e-5,
            "warmup_epochs": 40,
            "warmup_steps": None,
            "epochs": 2401,
            "weight_decay": 0.05,
            "final_weight_decay": None,
            "betas": (0.9, 0.95),
            "clip_gradients": None,
            "calibrate_clips": 0,
            "drop_path": 0.0,
        }

    def test_the_model_card_lists_every_setting(self):
        card = (Path(inspect.getfile(VideoMAERecipe)).parent / "README.md").read_text()
        settings = read_settings(VideoMAERecipe, given=1)
        assert [setting.name for setting in settings if f"`{setting.name}`" not in card] == []

    def test_the_learning_rate_grows_with_the_batch(self):
        assert small_recipe(learning_rate=1e-3).optimization.learning_rate == 1e-3
        scaled = small_recipe(learning_rate=1e-3, scale_learning_rate=True, batch_size=512)
        assert scaled.optimization.learning_rate == 2e-3

    def test_warm_up_is_counted_in_epochs_and_the_cosine_ends_at_the_final_rate(self):
        numbers = small_recipe(
            learning_rate=1e-3, final_learning_rate=1e-4, warmup_epochs=5, epochs=50
        ).optimization
        factors = [numbers.factor(step, 100) for step in range(101)]
        assert factors[0] == 0.0
        assert factors[9] == factors[10] == 1
        assert all(a > b for a, b in pairwise(factors[10:]))
        assert math.isclose(factors[100], 0.1)

    def test_what_is_stated_reaches_the_optimizer(self):
        numbers = small_recipe(weight_decay=0.01, betas=(0.8, 0.9), clip_gradients=1.5).optimization
        assert (numbers.optimizer, numbers.weight_decay, numbers.betas) == ("adamw", 0.01, (0.8, 0.9))
        assert (numbers.clip_gradients, numbers.batch_size, numbers.epochs) == (1.5, 4, 20)

    @pytest.mark.parametrize(
        ("name", "typed", "value"),
        [
            ("size", "96,128", (96, 128)),
            ("size", "96", 96),
            ("sampling_rate", "1,2", (1, 2)),
            ("sampling_rate", [1, 2], (1, 2)),
            ("crop_scales", "1", 1.0),
            ("crop_scales", "1,0.75", (1.0, 0.75)),
            ("clip_gradients", "none", None),
        ],
    )
    def test_settings_are_read_as_typed(self, name, typed, value):
        settings = SettingsOf("recipe", "videomae", read_settings(VideoMAERecipe, given=1))
        assert settings.values({name: typed})[name] == value

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"size": (12, 18)}, r"recipe\.size=12,18.*multiples of encoder\.patch_size=4, such as 12,16"),
            ({"size": 0}, r"recipe\.size=0,0.*such as 4,4"),
            ({"frames": 0}, r"recipe\.frames=0"),
            ({"frames": 5}, r"recipe\.frames=5.*up to the 4 that the encoder takes"),
            ({"sampling_rate": 0}, r"recipe\.sampling_rate=0"),
            ({"sampling_rate": ()}, r"recipe\.sampling_rate=none"),
            ({"mask_ratio": 1.0}, r"recipe\.mask_ratio=1 hides 12 of the 12 .*at least 0\.084 and below 1"),
            ({"decoded_share": 0.0}, r"recipe\.decoded_share=0"),
            ({"crop_scales": 1.5}, r"recipe\.crop_scales=1\.5"),
            ({"decoder_dim": 13}, r"recipe\.decoder_dim=13.*decoder_heads=2"),
            ({"decoder_depth": 0}, r"depth=0"),
            ({"epochs": 0}, r"recipe\.epochs=0"),
            ({"warmup_epochs": 20}, r"recipe\.warmup_epochs=20.*recipe\.epochs=20"),
            ({"learning_rate": 0.0}, r"recipe\.learning_rate=0"),
            ({"final_learning_rate": 1.0}, r"recipe\.final_learning_rate=1.*learning_rate=0\.003"),
            ({"calibrate_clips": -1}, r"recipe\.calibrate_clips=-1"),
            ({"calibrate_clips": 8}, r"recipe\.calibrate_clips=8.*encoder\.final_norm=true"),
        ],
    )
    def test_numbers_out_of_range_are_refused_by_name(self, settings, words):
        with pytest.raises(SettingError, match=words):
            small_recipe(**settings)

    def test_clips_span_whole_tubelets(self):
        with pytest.raises(SettingError, match=r"recipe\.frames=3.*encoder\.tubelet_size=2"):
            small_recipe(small_encoder(tubelet_size=2), frames=3)

    def test_another_component_is_refused(self):
        with pytest.raises(SettingError, match="given a Linear"):
            small_recipe(torch.nn.Linear(2, 2))


class TestClips:
    def test_an_example_is_a_clip_of_bytes_and_a_tube(self):
        example = small_recipe().examples.example(0, draws(0))
        assert example.keys() == {"video", "mask"}
        assert (example["video"].shape, example["video"].dtype) == ((4, 3, 12, 16), torch.uint8)
        tube = example["mask"].view(4, 12)
        assert (tube == tube[:1]).all()
        assert tube[0].sum() == 6

    def test_a_part_of_what_is_hidden_is_decoded(self):
        example = small_recipe(decoded_share=0.25).examples.example(0, draws(0))
        assert example["decoded"].sum() == 6
        assert (example["mask"] | ~example["decoded"]).all()

    def test_draws_alone_make_an_example(self):
        recipe = small_recipe(decoded_share=0.5, sampling_rate=(1, 2), size=(8, 8))
        first, again, other = (recipe.examples.example(0, draws(key)) for key in (1, 1, 2))
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert not torch.equal(first["video"], other["video"])
        assert not torch.equal(first["mask"], other["mask"])

    def test_frames_without_augmentation_are_the_video(self):
        recipe = small_recipe(crop_scales=1, flip=False, sampling_rate=2)
        video = recipe.examples.example(1, draws(0))["video"]
        start = int(video[0, 0, 0, 0]) // 10
        want = BlobVideos().frames(1, range(start, start + 7, 2)).transpose(0, 3, 1, 2)
        assert np.array_equal(video.numpy(), want)

    def test_normalisation_comes_last(self):
        recipe = small_recipe()
        video = torch.arange(256, dtype=torch.uint8).expand(3, -1)[None, None, :, :, None]
        found = recipe.prepare({"video": video, "mask": torch.ones(1)})["video"][0, 0, :, :, 0]
        want = (torch.arange(256) / 255 - torch.tensor(IMAGENET_MEAN)[:, None]) / torch.tensor(IMAGENET_STD)[
            :, None
        ]
        assert torch.allclose(found, want, atol=1e-5)

    def test_every_rate_and_every_start_is_drawn(self):
        rng = np.random.default_rng(0)
        drawn = {draw_positions(9, 4, (1, 2), rng) for _ in range(300)}
        assert drawn == {range(s, s + 4) for s in range(6)} | {range(s, s + 7, 2) for s in range(3)}

    @pytest.mark.parametrize(("length", "step"), [(4, 1), (6, 1), (7, 2), (9, 2), (10, 3), (50, 4)])
    def test_short_videos_lower_the_rate(self, length, step):
        positions = draw_positions(length, 4, (4,), np.random.default_rng(0))
        assert positions.step == step
        assert len(positions) == 4
        assert 0 <= positions[0] < positions[-1] < length

    def test_single_frames_need_no_rate(self):
        drawn = {draw_positions(3, 1, (2,), np.random.default_rng(seed))[0] for seed in range(30)}
        assert drawn == {0, 1, 2}

    def test_videos_shorter_than_a_clip_are_left_out_and_counted(self):
        examples = small_recipe(videos=BlobVideos((3, 9, 1, 4))).examples
        assert [examples.name(index) for index in range(len(examples))] == ["video-1", "video-3"]
        assert examples.skipped == {TOO_SHORT: 2}
        assert examples.example(1, draws(0))["video"].shape[0] == 4

    def test_no_video_long_enough_is_an_error_that_names_some(self):
        with pytest.raises(DataError, match=r"none of 6 videos.*recipe\.frames=4.*video-0 \(3\).*and 1 more"):
            small_recipe(videos=BlobVideos((3, 2, 1, 3, 3, 3)))

    def test_validation_clips_are_neither_scaled_nor_mirrored(self):
        recipe = small_recipe(validation=BlobVideos((4,)))
        shown = [recipe.validation.example(0, draws(key))["video"] for key in range(8)]
        want = torch.from_numpy(BlobVideos((4,)).frames(0, range(4))).permute(0, 3, 1, 2)
        assert all(torch.equal(video, want) for video in shown)
        assert small_recipe().validation is None


class TestModule:
    @pytest.mark.parametrize("settings", [{}, {"norm_targets": False}, {"decoded_share": 0.5}])
    def test_the_loss_falls(self, settings):
        losses = train(small_recipe(**settings), 30)
        assert losses[-1] < 0.9 * losses[0]

    def test_everything_is_trained(self):
        recipe = small_recipe()
        recipe(some_batch(recipe))["loss"].backward()
        assert all(value.grad is not None for value in recipe.parameters())

    def test_the_seed_decides_what_training_starts_from(self):
        first, again, other = (small_recipe(seed=seed).state_dict() for seed in (1, 1, 2))
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert any(not torch.equal(first[name], other[name]) for name in first)

    def test_making_a_recipe_draws_nothing_from_the_common_generator(self):
        encoder = small_encoder()
        before = torch.get_rng_state()
        small_recipe(encoder)
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize("final_norm", [False, True])
    def test_training_starts_from_the_weights_given_and_leaves_them_alone(self, final_norm):
        encoder = randomise(small_encoder(final_norm=final_norm))
        given = {name: value.clone() for name, value in encoder.state_dict().items()}
        recipe = small_recipe(encoder)
        trained = recipe.encoder.state_dict()
        assert all(torch.equal(trained[name], value) for name, value in given.items())
        assert {"norm.weight", "norm.bias"} <= trained.keys()
        train(recipe, 2)
        assert all(torch.equal(encoder.state_dict()[name], value) for name, value in given.items())

    def test_a_part_of_the_predictions_is_a_part_of_the_loss(self):
        recipe = small_recipe()
        batch = some_batch(recipe)
        whole = recipe(batch)["loss"]
        assert torch.equal(recipe({**batch, "decoded": batch["mask"]})["loss"], whole)


class TestWeights:
    @pytest.mark.parametrize("final_norm", [False, True])
    def test_saved_weights_give_the_trained_features(self, tmp_path, final_norm):
        recipe = small_recipe(small_encoder(final_norm=final_norm))
        train(recipe, 3)
        recipe.finish()
        recipe.save_weights(tmp_path / "w.safetensors", {"command": "train"})
        loaded = small_encoder(final_norm=final_norm, weights=str(tmp_path / "w.safetensors"))
        video, trained = some_batch(recipe)["video"], recipe.encoder
        if not final_norm:
            trained.norm = torch.nn.Identity()
        assert torch.equal(loaded.encode(video).grid, trained.encode(video).grid)
        assert read_metadata(tmp_path / "w.safetensors")["command"] == "train"
        with pytest.raises(WeightsError, match=r"made for heads=2, and the encoder has heads=4"):
            small_encoder(final_norm=final_norm, weights=str(tmp_path / "w.safetensors"), heads=4)

    def test_calibrated_channels_have_mean_0_and_variance_1(self, tmp_path):
        encoder = randomise(small_encoder(final_norm=True))
        recipe = small_recipe(
            encoder, calibrate_clips=20, crop_scales=1, flip=False, videos=BlobVideos((4, 4))
        )
        recipe.finish()
        recipe.save_weights(tmp_path / "w.safetensors", {})
        loaded = small_encoder(final_norm=True, weights=str(tmp_path / "w.safetensors"))
        features = loaded.encode(some_batch(recipe)["video"]).grid.flatten(0, 3)
        assert features.mean(0).abs().max() < 1e-4
        assert (features.var(0, unbiased=False) - 1).abs().max() < 1e-3

    def test_calibration_can_be_done_again_and_leaves_the_module_as_it_is(self, tmp_path):
        recipe = small_recipe(randomise(small_encoder(final_norm=True)), calibrate_clips=8)
        before = {name: value.clone() for name, value in recipe.state_dict().items()}
        for name in ("a", "b"):
            recipe.finish()
            recipe.save_weights(tmp_path / f"{name}.safetensors", {})
        assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
        assert all(torch.equal(value, before[name]) for name, value in recipe.state_dict().items())


class TestPictures:
    def test_a_row_a_clip_with_frames_whole_masked_and_filled_in(self):
        recipe = small_recipe()
        (picture,) = recipe.pictures(some_batch(recipe, 6)).values()
        assert picture.shape == (4 * 12, 3 * 3 * 16, 3)
        assert picture.dtype == np.uint8

    def test_whole_frames_are_the_clip_and_hidden_patches_grey(self):
        recipe = small_recipe(crop_scales=1, flip=False)
        example = recipe.examples.example(0, draws(0))
        batch = recipe.prepare({name: value[None] for name, value in example.items()})
        picture = recipe.pictures(batch)["reconstruction"].reshape(12, 3, 3, 16, 3)
        clip = example["video"].permute(0, 2, 3, 1).numpy()
        assert np.array_equal(picture[:, 0, 0], clip[0])
        assert np.array_equal(picture[:, 2, 0], clip[3])
        hidden = example["mask"].view(4, 3, 4)[0].numpy().repeat(4, 0).repeat(4, 1)
        assert (picture[:, 0, 1][hidden] == 128).all()
        for kind in (1, 2):
            assert np.array_equal(picture[:, 0, kind][~hidden], clip[0][~hidden])
        assert not np.array_equal(picture[:, 0, 2][hidden], clip[0][hidden])

    @pytest.mark.parametrize("norm_targets", [False, True])
    @pytest.mark.parametrize("tubelet", [1, 2])
    def test_a_perfect_prediction_gives_the_clip_back(self, norm_targets, tubelet, monkeypatch):
        from ovvol_plugins.videomae.pretraining import pixel_targets

        recipe = small_recipe(small_encoder(tubelet_size=tubelet), norm_targets=norm_targets)
        model, batch = recipe.model, some_batch(recipe)
        targets = pixel_targets(model, batch["video"], batch["mask"])
        monkeypatch.setattr(model, "forward", lambda video, mask: targets)
        whole, _, filled = reconstruction(model, batch["video"], batch["mask"])
        assert torch.allclose(filled, whole, atol=1e-5)

    def test_short_batches_of_short_clips_are_shown(self):
        recipe = small_recipe(frames=2)
        assert recipe.pictures(some_batch(recipe, 1))["reconstruction"].shape == (12, 2 * 3 * 16, 3)


def test_drop_path_rises_over_the_blocks_and_is_for_training_alone():
    block = Block(8, 2, 2.0)
    block.drop_path = 0.5
    tokens = torch.randn(4000, 1, 8, generator=torch.Generator().manual_seed(0))
    whole = block.eval()(tokens)
    torch.manual_seed(0)
    drawn = block.train()(tokens)
    passed_by = (drawn == tokens).all(dim=2).float().mean()
    assert passed_by == pytest.approx(0.25, abs=0.03), "both branches"
    assert (drawn - whole).mean().abs() < 0.02
    rates = [block.drop_path for block in small_recipe(drop_path=0.2).encoder.blocks]
    assert rates[0] == 0 and rates[-1] == pytest.approx(0.2)
