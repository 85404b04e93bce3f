"""PACL's recipe: crops, mosaics, the objective on one process and on two, weights."""

import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp

from ovvol_bench import Dataset, SettingError
from ovvol_bench.data.base import TrainingImage, TrainingImages
from ovvol_bench.nn.clip.towers import ClipNumbers, build_towers
from ovvol_bench.training import Draws, TrainingTask, normalised
from ovvol_bench.training.labeling import Views, random_box
from ovvol_bench.training.loader import stack
from ovvol_bench.weights import read_metadata
from ovvol_plugins.pacl import ovvol_labelers, pacl_recipe
from ovvol_plugins.pacl.contrast import caption_similarities, match, pool_patches, similarities
from ovvol_plugins.pacl.model import PaclLabeler, build_pacl
from ovvol_plugins.pacl.recipe import heat_maps, tiled, untiled

SMALL = ClipNumbers(
    embed_dim=6, patch_size=4, image_size=8, width=16, layers=2, heads=2,
    text_width=8, text_layers=1, text_heads=2,
)  # fmt: skip
PUBLISHED = {
    "optimizer": "sgd",
    "learning_rate": 1.0,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "epochs": 200,
    "batch_size": 4 * 4096,
    "clip_gradients": None,
}


class NoisyImages(TrainingImages):
    """Random pictures of several sizes."""

    def __len__(self):
        return 12

    def name(self, index):
        return f"picture {index}"

    def image(self, index):
        rng = np.random.default_rng(index)
        captions = (f"a thing {index % 4}", "a thing")
        return TrainingImage(rng.integers(256, size=(16 + index, 20, 3), dtype=np.uint8), captions)

    def fingerprint(self):
        return "noise"


class NoisyDataset(Dataset):
    def __len__(self):
        return 0

    def info(self, index):
        raise IndexError

    def clip(self, index):
        raise IndexError

    def fingerprint(self):
        return "noise"

    def training_images(self):
        return NoisyImages()


def small_labeler(seed=0):
    torch.manual_seed(seed)
    return PaclLabeler(build_towers(SMALL.config()))


def small_recipe(labeler=None, **settings):
    data = NoisyDataset()
    task = TrainingTask(labeler or small_labeler(), data, data, None, Path("unused"), seed=0)
    return pacl_recipe(task, **{"image_size": 8, **settings})


def draws_of(number):
    return Draws(f"example {number}", "step")


def some_batch(recipe, count=8):
    examples = [recipe.examples.example(i, draws_of(i)) for i in range(count)]
    with torch.no_grad():
        return recipe.prepare(stack(examples))


class TestSettings:
    def test_defaults_are_the_published_ones(self):
        numbers = vars(small_recipe().optimization)
        assert {name: numbers[name] for name in PUBLISHED} == PUBLISHED

    def test_the_learning_rate_follows_a_cosine_down_to_its_floor(self):
        factor = small_recipe().optimization.factor
        assert [round(factor(step, 100), 3) for step in (0, 50, 100)] == [1, 0.5, 0]
        assert factor(100, 100) == pytest.approx(1e-7)

    def test_the_registered_entry_offers_it_first(self):
        (entry,) = ovvol_labelers()
        assert list(entry.recipes) == ["pacl", "clip"]

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"image_size": 10}, r"recipe\.image_size=10: expected a multiple.*patch_size=4, for example 8"),
            ({"image_size": 0}, r"recipe\.image_size=0.*for example 4"),
            ({"mosaic": 0}, r"recipe\.mosaic=0: expected at least 1"),
            ({"temperature": 0}, r"recipe\.temperature=0: expected more than 0"),
            ({"target": "caption", "caption_decay": 2}, r"recipe\.caption_decay=2: expected a factor"),
            ({"smallest_crop": 0}, r"recipe\.smallest_crop=0: expected a share in \(0, 1\]"),
            ({"learning_rate": 0}, r"recipe\.learning_rate=0"),
        ],
    )
    def test_numbers_out_of_range_are_refused(self, settings, message):
        with pytest.raises(SettingError, match=message):
            small_recipe(**settings)

    def test_another_component_is_refused(self):
        with pytest.raises(
            SettingError, match="trains components of class PaclLabeler; it was given a Linear"
        ):
            small_recipe(torch.nn.Linear(1, 1))


class TestPictures:
    def test_an_example_depends_on_its_draws_alone(self):
        examples = small_recipe().examples
        first, again, other = (examples.example(3, draws_of(i))["pixels"] for i in (0, 0, 1))
        assert first.shape == (3, 8, 8)
        assert first.dtype == torch.uint8
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_validation_sees_the_middle(self):
        recipe, columns = small_recipe(), np.arange(20, dtype=np.uint8)
        seen = [recipe.validation.example(3, draws_of(i))["pixels"] for i in range(2)]
        assert torch.equal(*seen)
        wide = np.broadcast_to(columns[None, :, None], (8, 20, 3))
        assert Views(8).plain(wide)[0, 0].tolist() == list(range(6, 14))

    def test_pictures_are_resized_bicubically_where_asked_for(self):
        picture = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
        sharp, soft = Views(8, bicubic=True).plain(picture), Views(8).plain(picture)
        wanted = pillow_bicubic(picture)
        assert (sharp.int() - wanted.int()).abs().max() <= 1
        assert (soft.int() - wanted.int()).abs().max() > 4

    def test_boxes_keep_to_the_picture_area_and_ratio(self):
        rng = np.random.default_rng(0)
        boxes = np.array([random_box(60, 90, 0.2, rng) for _ in range(500)])
        top, left, height, width = boxes.T
        assert (top.min(), left.min()) >= (0, 0)
        assert ((top + height).max(), (left + width).max()) <= (60, 90)
        assert 0.19 < (height * width / 5400).min() < 0.25
        assert (height * width / 5400).max() > 0.8
        assert 0.7 < (width / height).min() < 0.8 < 1.25 < (width / height).max() < 1.4

    def test_whole_pictures_are_cropped_to_the_nearest_ratio(self):
        boxes = [random_box(*size, 1, np.random.default_rng(0)) for size in ((30, 90), (90, 30), (8, 8))]
        assert boxes[:2] == [(0, 25, 30, 40), (25, 0, 40, 30)]
        assert boxes[2] == (0, 0, 8, 8)

    def test_views_can_be_turned_and_recoloured(self):
        pixels = np.random.default_rng(0).integers(256, size=(8, 8, 3), dtype=np.uint8)
        plain, rng = Views(8).plain(pixels), np.random.default_rng(1)
        turned = [
            Views(8, 1, flip=False, quarter_turns=True).varied(pixels, rng).numpy().tobytes()
            for _ in range(30)
        ]
        assert set(turned) == {plain.rot90(k, (1, 2)).contiguous().numpy().tobytes() for k in range(4)}
        colored = Views(8, 1, flip=False, color_jitter=0.5).varied(pixels, rng)
        assert not torch.equal(colored, plain)

    def test_shuffled_colours_keep_what_is_where(self):
        pixels = np.random.default_rng(0).integers(256, size=(8, 8, 3), dtype=np.uint8)
        plain, views = Views(8).plain(pixels), Views(8, 1, flip=False, shuffle_colors=True)
        channels = {channel.numpy().tobytes() for view in (plain, 255 - plain) for channel in view}
        shuffled = [views.varied(pixels, np.random.default_rng(i)) for i in range(80)]
        assert {channel.numpy().tobytes() for view in shuffled for channel in view} == channels
        assert len({view.numpy().tobytes() for view in shuffled}) == 12

    def test_normalised_as_labelers_ask_for(self):
        pixels = torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)
        found = normalised(pixels, (0.5, 0.0, 1.0), (0.5, 1.0, 2.0))
        assert found.flatten().tolist() == [1, 1, 0]

    def test_heat_maps_are_lightest_where_most_weight_is(self):
        shown = heat_maps(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.eye(2).repeat(2, 1, 1))
        assert shown.shape == (8, 8, 3)
        assert shown[:, :4].max() == 0
        assert shown[0, 4].sum() > 400 > 30 > shown[0, 7].sum()


class TestObjective:
    def test_it_is_that_of_the_labeler(self):
        recipe = small_recipe()
        batch, labeler = some_batch(recipe), recipe.labeler
        images = normalised(batch["pixels"], labeler.mean, labeler.std)
        with torch.no_grad():
            whole = labeler.tower_output(labeler.trunk(images))[:, 0]
        _, pooled = pool_patches(labeler.embed_patches(images[None])[0], whole)
        want = torch.nn.functional.cross_entropy(*similarities(pooled, whole))
        torch.testing.assert_close(recipe(batch)["loss"], want)

    def test_only_the_head_is_trained_and_it_learns(self):
        recipe = small_recipe()
        batch, parameters = some_batch(recipe), list(recipe.parameters())
        assert len(parameters) == sum(p.requires_grad for p in recipe.labeler.parameters())
        optimizer = torch.optim.Adam(parameters, lr=1e-2)
        losses = []
        for _ in range(30):
            optimizer.zero_grad()
            losses.append(recipe(batch)["loss"])
            losses[-1].backward()
            optimizer.step()
        assert losses[-1] < losses[0] - 0.05

    def test_accuracy_counts_pictures_that_are_nearest_to_their_own_patches(self):
        accuracy = float(small_recipe()(some_batch(small_recipe()))["accuracy"])
        assert accuracy * 8 == round(accuracy * 8)

    def test_pictures_show_attention(self):
        recipe = small_recipe(mosaic=2)
        shown = recipe.pictures(some_batch(recipe, 10))["attention"]
        assert shown.shape == (8 * 8, 16, 3)
        assert shown.dtype == np.uint8

    def test_cosines_are_divided_by_the_temperature(self):
        plain, sharp = small_recipe(), small_recipe(temperature=0.5)
        batch = some_batch(plain)
        similarity, own = similarities(pool_patches(plain.patches(batch), batch["image"])[1], batch["image"])
        want = torch.nn.functional.cross_entropy(2 * similarity, own)
        torch.testing.assert_close(sharp(batch)["loss"], want)


class TestCaptions:
    """The target ``caption``."""

    def test_patches_are_pooled_by_the_text_of_a_caption(self):
        recipe = small_recipe(target="caption", caption_decay=1e-9)  # the first one is drawn
        batch = some_batch(recipe)
        captions = [f"a thing {index % 4}" for index in range(8)]
        torch.testing.assert_close(batch["image"], recipe.labeler.embed_text(captions))
        assert batch["tokens"].shape[:2] == (8, 1 + 4)

    def test_all_true_captions_share_the_target(self):
        recipe = small_recipe(target="caption", caption_decay=1e-9)
        batch = some_batch(recipe)
        similarity = caption_similarities(recipe.patches(batch), batch["image"])
        same = torch.arange(8)[:, None] % 4 == torch.arange(8) % 4
        loss, accuracy = match(similarity, same)
        found = recipe(batch)
        torch.testing.assert_close(found["loss"], loss)
        assert found["accuracy"] == accuracy

    def test_patches_are_pooled_anew_for_every_caption(self):
        patches, texts = torch.randn(3, 2, 2, 6), torch.nn.functional.normalize(torch.randn(5, 6), dim=1)
        found = caption_similarities(patches, texts)
        for i, j in np.ndindex(3, 5):
            _, pooled = pool_patches(patches[i : i + 1], texts[j : j + 1])
            want = torch.cosine_similarity(pooled[0], texts[j], dim=0)
            torch.testing.assert_close(found[i, j], want)

    def test_validation_reads_them_too(self):
        recipe = small_recipe(target="caption")
        assert {"pixels", "caption", "true"} < recipe.validation.example(0, draws_of(0)).keys()

    def test_the_text_tower_is_frozen(self):
        recipe = small_recipe(target="caption")
        recipe(some_batch(recipe))["loss"].backward()
        assert all(value.grad is None for value in recipe.labeler.text.parameters())
        assert all(value.grad is not None for value in recipe.parameters())


class TestMosaics:
    def test_a_mosaic_holds_the_pictures_row_by_row(self):
        images = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 3, 2, 2)
        mosaics = tiled(images, 2)
        assert mosaics.shape == (2, 3, 4, 4)
        assert mosaics[:, 0, ::2, ::2].tolist() == [[[0, 1], [2, 3]], [[4, 0], [1, 2]]]

    def test_patches_go_back_to_their_pictures(self):
        images = torch.randn(8, 3, 2, 3)
        patches = tiled(images, 2).permute(0, 2, 3, 1).flatten(1, 2)
        assert torch.equal(untiled(patches, 2, (2, 3)).permute(0, 3, 1, 2), images)

    def test_neighbours_change_patches_and_not_the_whole(self):
        one, four = (some_batch(small_recipe(mosaic=n)) for n in (1, 2))
        assert torch.equal(one["image"], four["image"])
        assert one["tokens"].shape[:2] == (8, 1 + 4)
        assert four["tokens"].shape[:2] == (2, 1 + 16)

    def test_any_number_of_pictures_will_do(self):
        recipe = small_recipe(mosaic=2)
        batch = some_batch(recipe, 7)
        assert recipe.patches(batch).shape == (7, 2, 2, 6)
        assert batch["image"].shape == (7, 6)


class TestWeights:
    def test_the_labeler_loads_what_is_saved(self, tmp_path):
        recipe, path = small_recipe(small_labeler(3)), tmp_path / "w.safetensors"
        recipe.save_weights(path, {"seed": "0"})
        loaded = build_pacl(weights=str(path), model="custom")
        video = torch.randn(1, 2, 3, 8, 8)
        torch.testing.assert_close(
            loaded.embed_patches(video), recipe.labeler.embed_patches(video), atol=1e-2, rtol=1e-2
        )
        assert read_metadata(path)["seed"] == "0"


def step_of(labeler, batch, gather):
    """Loss and gradients of one step."""
    recipe = small_recipe(labeler, gather_negatives=gather)
    loss = recipe(batch)["loss"]
    loss.backward()
    return [loss.detach(), *(p.grad for p in recipe.parameters())]


def one_of_two(rank, folder):
    """A process of data-parallel steps: its half of the batch, gradients averaged as DDP does."""
    import torch.distributed as dist

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    batch = torch.load(folder / "batch.pt")
    half = {name: value.chunk(2)[rank] for name, value in batch.items()}
    found = {gather: step_of(small_labeler(), half, gather) for gather in (True, False)}
    for value in found[True] + found[False]:
        dist.all_reduce(value.div_(2))
    if rank == 0:
        torch.save(found, folder / "found.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """Mean loss and gradients of two processes with half of the batch each, by ``gather_negatives``."""
    folder = tmp_path_factory.mktemp("two")
    torch.save(some_batch(small_recipe()), folder / "batch.pt")
    mp.start_processes(partial(one_of_two, folder=folder), nprocs=2, start_method="fork")
    return torch.load(folder / "found.pt")


class TestProcesses:
    def test_with_gathered_negatives_two_are_as_one(self, two_processes):
        want = step_of(small_labeler(), some_batch(small_recipe()), True)
        for found, expected in zip(two_processes[True], want, strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)

    def test_without_each_compares_with_its_own(self, two_processes):
        batch = some_batch(small_recipe())
        halves = [{name: value.chunk(2)[i] for name, value in batch.items()} for i in range(2)]
        want = sum(step_of(small_labeler(), half, False)[0] for half in halves) / 2
        torch.testing.assert_close(two_processes[False][0], want, atol=1e-5, rtol=1e-5)


def pillow_bicubic(picture):
    """Pillow's bicubic resize, which the published program uses."""
    from PIL import Image

    return torch.from_numpy(
        np.array(Image.fromarray(picture).resize((8, 8), Image.Resampling.BICUBIC))
    ).permute(2, 0, 1)
