"""How slot attention is trained: defaults, what a step sees, weights, cached features, errors."""

import json
import logging

import numpy as np
import pytest
import torch
from torch import nn

from ovvol_bench import Clip, ClipInfo, Dataset, Encoder, Features, FrameTruth, SettingError, Vocabulary
from ovvol_bench.data.base import TrainingVideos
from ovvol_bench.naming.vocabulary import ForegroundClass
from ovvol_bench.nn.grids import sincos_table
from ovvol_bench.registry.settings import read_documentation, read_settings
from ovvol_bench.training import Draws, TrainingTask
from ovvol_bench.training.clips import Sampling, read_sizes
from ovvol_bench.training.grouping import slot_entropy
from ovvol_bench.training.loop import Conduct, train
from ovvol_plugins.slot_attention import ovvol_groupers
from ovvol_plugins.slot_attention.model import SlotAttentionGrouper
from ovvol_plugins.slot_attention.recipe import SlotAttentionRecipe, reconstruction_loss

SIZE, DIM = (8, 12), 6
GROUPER = {
    "num_slots": 3,
    "slot_dim": 8,
    "feature_dim": DIM,
    "frames": 4,
    "decoder_dim": 16,
    "decoder_layers": 2,
    "position_grid": 4,
}
NATIVE = {"sizes": ("native",), "short_side": 8, "same_video_batch": True, "clips_per_video": 2}
CACHED = {"cache_features": True, "cached_clips_per_video": 2}
SMALL = {"sizes": ("8x12",), "strides": (1, 2), "batch_size": 4, "evaluate_clips": 2}


class Patches(Encoder):
    patch_size, tubelet_size, dim, max_frames = 4, 1, DIM, 8

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.project = nn.Conv2d(3, DIM, 4, stride=4)

    def encode(self, video):
        grid = self.project(video.flatten(0, 1)).unflatten(0, video.shape[:2])
        return Features(grid.permute(0, 1, 3, 4, 2))


class NumberedVideos(TrainingVideos):
    """Every pixel of a frame is 20 x video + position."""

    def __init__(self, lengths, sizes=None):
        self.lengths, self.sizes = lengths, sizes or [SIZE] * len(lengths)
        self.read = []

    def __len__(self):
        return len(self.lengths)

    def name(self, index):
        return f"video{index}"

    def length(self, index):
        return self.lengths[index]

    def frames(self, index, positions):
        assert list(positions) == sorted(set(positions))
        self.read.append(index)
        values = np.array(positions, np.uint8) + 20 * index
        return np.broadcast_to(values[:, None, None, None], (len(positions), *self.sizes[index], 3))

    def fingerprint(self):
        return str(self.lengths)


class Videos(Dataset):
    def __init__(self, lengths=(20, 20, 20), known=True, sizes=None):
        self.videos, self.known = NumberedVideos(list(lengths), sizes), known
        self.vocabulary, self.skipped = Vocabulary("toys", (ForegroundClass("ball"),)), {}

    def __len__(self):
        return len(self.videos)

    def info(self, index):
        truth = FrameTruth(
            boxes=np.array([[0, 0, 11, 7]], np.float32),
            class_ids=np.ones(1, np.int64),
            track_ids=np.zeros(1, np.int64),
            occluded=np.zeros(1, bool),
            generated=np.zeros(1, bool),
            motion_iou=np.ones(1, np.float32),
        )
        return ClipInfo(f"{index}", f"video{index}", (0, 1, 2, 3), SIZE, (truth,) * 4 if self.known else None)

    def clip(self, index):
        return Clip(self.info(index), np.full((4, *SIZE, 3), index / 10, np.float32))

    def fingerprint(self):
        return "videos"

    def training_videos(self):
        return self.videos


def grouper_of(**settings):
    torch.manual_seed(1)
    return SlotAttentionGrouper(**{**GROUPER, **settings})


def task_of(tmp_path, **parts):
    given = {
        "component": grouper_of(),
        "dataset": Videos(),
        "validation": None,
        "encoder": Patches(),
        "cache": tmp_path,
        "seed": 0,
    }
    return TrainingTask(**{**given, **parts})


def recipe_of(tmp_path, settings=(), **parts):
    return SlotAttentionRecipe(task_of(tmp_path, **parts), **{**SMALL, **dict(settings)})


def step_of(recipe, step=0, lap=0, indices=(0, 1, 2, 3)):
    """A prepared batch, drawn as the loop draws it."""
    examples = [
        recipe.examples.example(
            index, Draws(f"0 {lap} {recipe.examples.name(index)}", f"0 step {step}", place)
        )
        for place, index in enumerate(indices)
    ]
    return {name: torch.stack([example[name] for example in examples]) for name in examples[0]}


def values_of(batch):
    """The values of the frames of every clip."""
    return batch["video"][:, :, 0, 0, 0].tolist()


class TestDefaults:
    def test_they_are_the_published_ones(self, tmp_path):
        (entry,) = ovvol_groupers()
        assert list(entry.recipes) == ["slot_attention"]
        given = {setting.name: setting.default for setting in read_settings(SlotAttentionRecipe, given=1)}
        wanted = {
            "strides": (1, 2, 4, 8),
            "clips_per_video": 7,
            "batch_size": 4 * 8 * 7,
            "epochs": 300,
            "optimizer": "adam",
            "learning_rate": 3e-3,
            "weight_decay": 0,
            "clip_gradients": 1.0,
            "decoded_frames": None,
            "position_init": "random",
            "cache_features": False,
        }
        assert {name: given[name] for name in wanted} == wanted
        assert given.keys() <= set(read_documentation(SlotAttentionRecipe).replace(":", " ").split())

    def test_the_learning_rate_rises_and_halves(self, tmp_path):
        numbers = recipe_of(tmp_path).optimization
        factors = [numbers.factor(step, 10) for step in (0, 2500, 5000, 55_000)]
        assert factors == pytest.approx([0, 0.5 * 0.5**0.05, 0.5**0.1, 0.5**1.1])

    def test_cosine_ends_at_zero(self, tmp_path):
        numbers = recipe_of(tmp_path, {"schedule": "cosine", "warmup_steps": 2}).optimization
        assert [numbers.factor(step, 10) for step in (0, 2, 6, 10)] == pytest.approx([0.5, 1, 0.5, 0])


class TestClips:
    def test_a_pass_has_some_clips_of_every_video(self, tmp_path):
        examples = recipe_of(tmp_path, {"clips_per_video": 2}).examples
        assert len(examples) == 6
        assert len({examples.name(index) for index in range(6)}) == 6

    def test_draws_decide_everything(self, tmp_path):
        recipe = recipe_of(tmp_path, {"decoded_frames": 2})
        once, again = step_of(recipe), step_of(recipe)
        assert all(torch.equal(once[name], again[name]) for name in ("video", "noise", "steps"))
        other = step_of(recipe, lap=1)
        assert not torch.equal(once["noise"], other["noise"])
        assert not torch.equal(once["video"], other["video"])

    def test_noise_belongs_to_the_example_and_steps_to_the_step(self, tmp_path):
        batch = step_of(recipe_of(tmp_path, {"decoded_frames": 2}))
        assert batch["noise"].shape == (4, 3, 8)
        assert not torch.equal(batch["noise"][0], batch["noise"][1])
        assert (batch["steps"] == batch["steps"][:1]).all()
        drawn = {
            tuple(step_of(recipe_of(tmp_path, {"decoded_frames": 2}), step)["steps"][0].tolist())
            for step in range(20)
        }
        assert len(drawn) > 3
        assert all(0 <= first < second < 4 for first, second in drawn)

    def test_a_step_has_one_of_the_sizes(self, tmp_path):
        recipe = recipe_of(tmp_path, {"sizes": ("8x12", "4x8")})
        shapes = {tuple(step_of(recipe, step)["video"].shape) for step in range(10)}
        assert shapes == {(4, 4, 8, 12, 3), (4, 4, 4, 8, 3)}

    def test_clips_of_a_batch_come_from_many_videos_or_from_one(self, tmp_path):
        mixed = step_of(recipe_of(tmp_path), indices=(0, 1, 2))
        assert [int(clip[0]) // 20 for clip in values_of(mixed)] == [0, 1, 2]
        published = {"same_video_batch": True, "clips_per_video": 4}
        batches = [values_of(step_of(recipe_of(tmp_path, published), step)) for step in range(10)]
        videos = [{value // 20 for clip in batch for value in clip} for batch in batches]
        assert all(len(each) == 1 for each in videos)
        assert len(set.union(*videos)) == 3
        assert any(len({tuple(clip) for clip in batch}) > 1 for batch in batches)

    def test_clips_of_one_video_follow_each_other(self, tmp_path):
        recipe = recipe_of(tmp_path, {"same_video_batch": True, "clips_per_video": 2})
        steps = [[int(clip[0]) // 20 for clip in values_of(step_of(recipe, step))] for step in range(10)]
        assert all(step[0] == step[1] and step[2] == step[3] for step in steps)
        assert any(step[0] != step[2] for step in steps)

    def test_all_videos_of_a_step_decode_the_same_time_steps(self, tmp_path):
        published = {"same_video_batch": True, "clips_per_video": 1, "decoded_frames": 2}
        for step in range(10):
            steps = step_of(recipe_of(tmp_path, published), step)["steps"]
            assert (steps == steps[:1]).all()

    def test_native_clips_have_the_size_of_their_video(self, tmp_path):
        dataset = Videos(sizes=[(16, 24), (24, 16), (30, 53)])
        recipe = recipe_of(tmp_path, NATIVE, dataset=dataset)
        wanted = [(8, 12), (12, 8), (8, 16)]  # of 53/30 x 8 = 14.1 pixels the nearest multiple of 4 is 16
        seen = set()
        for step in range(20):
            for first in (0, 2):
                draws = [Draws(f"{step} {first + n}", f"{step}", first + n) for n in range(2)]
                clips = [recipe.examples.example(0, each)["video"] for each in draws]
                video = int(clips[0][0, 0, 0, 0]) // 20
                assert {tuple(clip.shape) for clip in clips} == {(4, *wanted[video], 3)}
                seen.add(video)
        assert seen == {0, 1, 2}

    def test_strides_are_drawn_from_those_that_fit(self):
        sampling = Sampling(frames=4, strides=(1, 2, 8), sizes=(SIZE,))
        rng = np.random.default_rng(0)
        clips = [sampling.positions(8, rng) for _ in range(40)]
        assert {clip[1] - clip[0] for clip in clips} == {1, 2}
        assert {clip[0] for clip in clips if clip[1] - clip[0] == 2} == {0, 1}
        assert max(clip[-1] for clip in clips) == 7

    def test_a_video_shorter_than_a_clip_repeats_its_last_frame(self, tmp_path):
        recipe = recipe_of(tmp_path, dataset=Videos(lengths=(2,)))
        assert values_of(step_of(recipe, indices=(0,))) == [[0, 1, 1, 1]]


class TestNativeTraining:
    """Steps with videos of several sizes in them, in parts of one size each."""

    def train(self, folder, tmp_path, **more):
        sizes = [(16, 24), (24, 16), (16, 16)]
        recipe = recipe_of(
            tmp_path,
            {**NATIVE, "epochs": 2},
            dataset=Videos(sizes=sizes),
            validation=Videos(sizes=sizes),
        )
        train(recipe, Conduct(folder, 0, {}, device="cpu", log_every=1, measured_examples=4, **more))
        rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        return [row["loss"] for row in rows if "loss" in row], rows

    def test_steps_are_computed_by_video_and_validated(self, tmp_path):
        losses, rows = self.train(tmp_path / "unasked", tmp_path)
        assert len(losses) == 3
        assert any("validation_loss" in row for row in rows)
        assert self.train(tmp_path / "two", tmp_path, micro_batch=2)[0] == losses
        assert self.train(tmp_path / "one", tmp_path, micro_batch=1)[0] == pytest.approx(losses)

    def test_parts_that_mix_sizes_are_refused(self, tmp_path):
        with pytest.raises(SettingError, match=r"--micro-batch 4: 2 examples.*divisor of 2"):
            self.train(tmp_path / "mixed", tmp_path, micro_batch=4)


class TestLearning:
    def test_features_are_the_frozen_encoders(self, tmp_path):
        encoder = Patches()
        recipe = recipe_of(tmp_path, encoder=encoder)
        before = {name: value.clone() for name, value in encoder.state_dict().items()}
        batch = recipe.prepare(step_of(recipe))
        assert batch["features"].shape == (4, 4, 2, 3, DIM)
        recipe(batch)["loss"].backward()
        assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
        assert all(value.grad is None for value in encoder.parameters())
        assert {id(value) for value in encoder.parameters()}.isdisjoint(map(id, recipe.parameters()))

    def test_the_loss_falls(self, tmp_path):
        recipe = recipe_of(tmp_path, {"decoded_frames": 2})
        optimizer = torch.optim.Adam(recipe.parameters(), 3e-3)
        losses = []
        for step in range(40):
            numbers = recipe(recipe.prepare(step_of(recipe, step)))
            optimizer.zero_grad()
            numbers["loss"].backward()
            optimizer.step()
            losses.append(numbers["loss"].item())
        assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
        assert 1 <= numbers["slots_used"] <= 3
        assert 0 <= numbers["slot_entropy"] <= np.log(3) + 1e-6

    def test_every_parameter_learns_from_some_decoded_steps(self, tmp_path):
        recipe = recipe_of(tmp_path, {"decoded_frames": 1})
        recipe(recipe.prepare(step_of(recipe)))["loss"].backward()
        assert all(value.grad is not None for value in recipe.parameters())

    def test_entropy_of_masks(self):
        shared = torch.full((1, 4, 1, 2, 2), 0.25)
        sure = nn.functional.one_hot(torch.zeros(1, 1, 2, 2, dtype=torch.long), 4).permute(0, 4, 1, 2, 3)
        assert slot_entropy(torch.cat([shared, sure])).tolist() == pytest.approx([np.log(4), 0])


class TestMeasuring:
    def test_validation_clips_are_whole(self, tmp_path):
        recipe = recipe_of(tmp_path, {"decoded_frames": 1, "clips_per_video": 3}, validation=Videos((9, 9)))
        assert len(recipe.validation) == 2
        example = recipe.validation.example(0, Draws("a", "b"))
        batch = recipe.prepare({name: value[None] for name, value in example.items()})
        whole = reconstruction_loss(recipe.grouper, batch["features"], batch["noise"])[0]
        assert torch.equal(recipe.eval()(batch)["loss"], whole)
        assert not torch.equal(recipe.train()(batch)["loss"], whole), "one time step of four"

    def test_slots_are_held_against_boxes(self, tmp_path):
        found = recipe_of(tmp_path, validation=Videos()).evaluate()
        assert found.keys() == {"corloc", "detrate"}
        assert all(0 <= value <= 1 for value in found.values())

    @pytest.mark.parametrize(("validation", "clips"), [(None, 2), (Videos(known=False), 2), (Videos(), 0)])
    def test_where_there_is_nothing_to_hold_them_against_there_is_no_number(
        self, tmp_path, validation, clips
    ):
        assert recipe_of(tmp_path, {"evaluate_clips": clips}, validation=validation).evaluate() == {}

    def test_pictures_show_frames_above_slots(self, tmp_path):
        recipe = recipe_of(tmp_path)
        batch = recipe.prepare(step_of(recipe, indices=(0, 1)))
        picture = recipe.pictures(batch)["slots"]
        assert picture.shape == (2 * 2 * 8, 4 * 12, 3)
        assert picture.dtype == np.uint8
        assert (picture[:8, :12] == batch["video"][0, 0].numpy()).all()

    def test_pictures_without_frames_show_slots(self, tmp_path):
        recipe = recipe_of(tmp_path)
        batch = recipe.prepare(step_of(recipe))
        del batch["video"]
        assert recipe.pictures(batch)["slots"].shape == (4 * 2 * 8, 4 * 3 * 8, 3)


class TestWeights:
    def test_saved_weights_give_the_same_masks(self, tmp_path):
        recipe = recipe_of(tmp_path)
        recipe.save_weights(tmp_path / "w.safetensors", {"trained_by": "a test"})
        loaded = grouper_of(weights=str(tmp_path / "w.safetensors"))
        batch = recipe.prepare(step_of(recipe))
        want, found = (m.masks(batch["features"], batch["noise"]) for m in (recipe.grouper, loaded))
        assert torch.equal(found, want)

    def test_positions_start_as_built_or_from_a_table(self, tmp_path):
        built = grouper_of().decoder.pos_embed
        table = sincos_table(4, 4, 8).flatten(1, 2)
        for start, want in (("random", built), ("sincos", table)):
            recipe = recipe_of(tmp_path, {"position_init": start})
            assert torch.equal(recipe.grouper.decoder.pos_embed, want)

    def test_loaded_positions_stay(self, tmp_path):
        recipe_of(tmp_path).save_weights(tmp_path / "w.safetensors", {})
        loaded = grouper_of(weights=str(tmp_path / "w.safetensors"))
        before = loaded.decoder.pos_embed.detach().clone()
        recipe_of(tmp_path, {"position_init": "sincos"}, component=loaded)
        assert torch.equal(loaded.decoder.pos_embed, before)

    def test_masks_may_be_the_attention(self):
        features = Features(torch.randn(2, 4, 2, 3, DIM))
        seeds = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
        masks = grouper_of(masks="attention").group(features, seeds).masks
        seeds = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
        _, attention = grouper_of().slots(features.grid, grouper_of().noise(seeds))
        assert masks.shape == (2, 3, 4, 2, 3)
        assert torch.equal(masks.flatten(2), attention)


class TestCache:
    def test_examples_are_features_that_stay(self, tmp_path):
        recipe = recipe_of(tmp_path, CACHED)
        assert len(recipe.examples) == 6
        batch, later = (recipe.prepare(step_of(recipe, lap=lap)) for lap in (0, 1))
        assert batch.keys() == {"features", "noise"}
        assert batch["features"].dtype == torch.float32
        assert torch.equal(batch["features"], later["features"])
        assert not torch.equal(batch["noise"], later["noise"])
        assert recipe(batch)["loss"].isfinite()

    def test_they_are_those_of_the_frames(self, tmp_path):
        dataset = Videos(lengths=(4, 4))  # as long as a clip: each has but one
        cached = recipe_of(tmp_path, CACHED, dataset=dataset)
        fresh = recipe_of(tmp_path, dataset=dataset)
        batches = [recipe.prepare(step_of(recipe, indices=(0, 1))) for recipe in (cached, fresh)]
        assert torch.allclose(batches[0]["features"], batches[1]["features"], atol=0.05)

    def test_a_second_training_reads_no_frames(self, tmp_path, caplog):
        caplog.set_level(logging.INFO)
        recipe_of(tmp_path, CACHED)
        dataset = Videos()
        recipe_of(tmp_path, CACHED, dataset=dataset)
        assert not dataset.videos.read
        assert "features: 6 clips, 6 found, 0 computed" in caplog.text

    @pytest.mark.parametrize("workers", [0, 1])
    def test_frames_are_read_by_the_workers_asked_for(self, tmp_path, workers):
        dataset = Videos()
        recipe_of(tmp_path, CACHED, dataset=dataset, workers=workers)
        assert bool(dataset.videos.read) == (workers == 0)

    def test_each_size_is_cached(self, tmp_path):
        recipe = recipe_of(tmp_path, {**CACHED, "sizes": ("8x12", "4x8")})
        shapes = {tuple(step_of(recipe, step)["features"].shape[2:4]) for step in range(10)}
        assert shapes == {(2, 3), (1, 2)}

    @pytest.mark.parametrize("published", [{"same_video_batch": True}, NATIVE])
    def test_clips_of_one_video_are_not_cached(self, tmp_path, published):
        with pytest.raises(SettingError, match=r"same_video_batch.*cache_features=false"):
            recipe_of(tmp_path, {**CACHED, **published})


class TestErrors:
    def test_an_encoder_is_needed(self, tmp_path):
        with pytest.raises(SettingError, match="--encoder"):
            recipe_of(tmp_path, encoder=None)

    def test_another_component_is_refused(self, tmp_path):
        with pytest.raises(SettingError, match="given a Patches"):
            recipe_of(tmp_path, component=Patches())

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"feature_dim": 7}, r"have 6 channels, grouper\.feature_dim=7.*feature_dim=6"),
            ({"frames": 9}, r"grouper\.frames=9 needs clips of 9 frames.*at most 8.*frames=8 or less"),
        ],
    )
    def test_features_must_fit_the_grouper(self, tmp_path, settings, words):
        with pytest.raises(SettingError, match=words):
            recipe_of(tmp_path, component=grouper_of(**settings))

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"sizes": ("8x13",)}, r"sizes=8x13: expected HEIGHTxWIDTH.*patch of 4"),
            ({"sizes": ()}, "sizes=none"),
            ({"sizes": ("native", "8x12")}, r"sizes=native: expected.*or native alone"),
            ({"sizes": ("native",)}, r"sizes=native:.*same_video_batch=true"),
            ({**NATIVE, "short_side": 10}, "short_side=10: expected a multiple.*patch of 4"),
            ({**NATIVE, "short_side": 0}, "short_side=0"),
            ({"strides": (1, 0)}, "strides=1,0"),
            ({"strides": ()}, "strides=none"),
            ({"clips_per_video": 0}, "clips_per_video=0"),
            ({"decoded_frames": 5}, r"decoded_frames=5: expected 1 to 4"),
            ({"decoded_frames": 0}, "decoded_frames=0"),
            ({"warmup_steps": -1}, "warmup_steps=-1"),
            ({"decay_rate": 0.0}, "decay_rate=0"),
            ({"decay_steps": 0}, "decay_steps=0"),
            ({"cache_features": True, "cached_clips_per_video": 0}, "cached_clips_per_video=0"),
            ({"cache_features": True, "cache_limit_gb": 0.0}, "cache_limit_gb=0"),
            ({"evaluate_clips": -1}, "evaluate_clips=-1"),
            ({"learning_rate": 0.0}, "learning_rate=0"),
        ],
    )
    def test_numbers_out_of_range_are_refused_by_name(self, tmp_path, settings, words):
        with pytest.raises(SettingError, match=words):
            recipe_of(tmp_path, settings)

    @pytest.mark.parametrize("text", ["8", "x", "8x", "-8x8", "8x8x8", "0x8"])
    def test_sizes_have_two_numbers(self, text):
        with pytest.raises(SettingError, match=f"sizes={text}:"):
            read_sizes(("8x8", text), 4, 8)


class TestUniformSlots:
    def remarks(self, recipe, entropies):
        rates = [recipe.optimization.factor(step, len(entropies)) for step in range(len(entropies))]
        rows = [
            {"slot_entropy": value, "learning_rate": rate}
            for value, rate in zip(entropies, rates, strict=True)
        ]
        return [step for step, row in enumerate(rows) if recipe.remark(row)]

    def test_they_are_said_once_when_they_last_after_the_warm_up(self, tmp_path):
        recipe = recipe_of(tmp_path, {"warmup_steps": 50, "schedule": "cosine"})
        assert self.remarks(recipe, [np.log(3)] * 400) == [51 + 99]

    def test_slots_that_decide_are_left_alone(self, tmp_path):
        recipe = recipe_of(tmp_path, {"warmup_steps": 50, "schedule": "cosine"})
        assert self.remarks(recipe, [np.log(3)] * 140 + [0.9] * 260) == []
