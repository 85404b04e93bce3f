"""The recipe of a small CLIP: captions, truth, the objective on one process and on two, weights."""

import math
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp

from ovvol_bench import Dataset, SettingError
from ovvol_bench.data.base import TrainingImage, TrainingImages
from ovvol_bench.nn.clip.text import embed_tokens, tokenize
from ovvol_bench.nn.clip.towers import ClipNumbers, build_towers
from ovvol_bench.training import Draws, TrainingTask
from ovvol_bench.training.labeling import Captions, caption_number
from ovvol_bench.weights import read_state
from ovvol_plugins.pacl.clip_recipe import ClipRecipe
from ovvol_plugins.pacl.contrast import match, truth
from ovvol_plugins.pacl.model import PaclLabeler, build_pacl

SMALL = ClipNumbers(
    embed_dim=6, patch_size=4, image_size=8, width=16, layers=2, heads=2,
    text_width=8, text_layers=1, text_heads=2,
)  # fmt: skip
COLORS = {"red": (220, 30, 30), "green": (30, 220, 30), "blue": (30, 30, 220)}


class ColoredImages(TrainingImages):
    """Pictures of one colour, with its name and what is true of all of them."""

    def __init__(self, captions=None):
        self.captions = captions

    def __len__(self):
        return 12

    def name(self, index):
        return f"picture {index}"

    def image(self, index):
        color = list(COLORS)[index % 3]
        noise = np.random.default_rng(index).integers(30, size=(10, 10, 3))
        captions = (f"a {color} thing", "a thing") if self.captions is None else self.captions
        return TrainingImage((np.array(COLORS[color]) + noise).astype(np.uint8), captions)

    def fingerprint(self):
        return "colors"


class ColoredDataset(Dataset):
    def __init__(self, captions=None):
        self.images = ColoredImages(captions)

    def __len__(self):
        return 0

    def info(self, index):
        raise IndexError

    def clip(self, index):
        raise IndexError

    def fingerprint(self):
        return "colors"

    def training_images(self):
        return self.images


def small_labeler(seed=0):
    torch.manual_seed(seed)
    return PaclLabeler(build_towers(SMALL.config()))


def colored_recipe(labeler=None, captions=None, **settings):
    data = ColoredDataset(captions)
    task = TrainingTask(labeler or small_labeler(), data, data, None, Path("unused"), seed=0)
    return ClipRecipe(task, **settings)


def draws_of(number):
    return Draws(f"example {number}", "step")


def some_batch(recipe, count=8):
    examples = [recipe.examples.example(i, draws_of(i)) for i in range(count)]
    return recipe.prepare({name: torch.stack([each[name] for each in examples]) for name in examples[0]})


class TestCaptions:
    def test_all_are_drawn_the_likelier_ones_first(self):
        rng, names = np.random.default_rng(0), ("one", "two", "three")
        drawn = [Captions(decay=0.5).draw(names, rng) for _ in range(700)]
        counts = [drawn.count(name) / 700 for name in names]
        assert counts == pytest.approx([4 / 7, 2 / 7, 1 / 7], abs=0.05)

    def test_an_example_holds_one_and_the_numbers_of_all(self):
        example = colored_recipe(max_captions=4).examples.example(0, draws_of(0))
        own, common = caption_number("a red thing"), caption_number("a thing")
        assert example["true"].tolist() == [own, common, own, own]
        assert int(example["caption"]) in (own, common)
        drawn = {own: "a red thing", common: "a thing"}[int(example["caption"])]
        assert torch.equal(example["tokens"], tokenize([drawn])[0])
        assert example["pixels"].shape == (3, 8, 8)

    def test_equal_words_have_equal_numbers(self):
        assert caption_number("A  red thing ") == caption_number("a red thing")
        assert caption_number("a red thing") != caption_number("a thing")

    def test_truth_knows_captions_of_other_pictures(self):
        batch = some_batch(colored_recipe(), 6)
        found = truth(batch["true"], batch["caption"])
        common = batch["caption"] == caption_number("a thing")
        same_color = torch.arange(6)[:, None] % 3 == torch.arange(6) % 3
        assert torch.equal(found, same_color | common)

    def test_pictures_without_captions_are_refused(self):
        with pytest.raises(SettingError, match=r"'picture 2' has no caption.*learns from captions"):
            colored_recipe(captions=()).examples.example(2, draws_of(0))

    def test_more_captions_than_stated_are_refused(self):
        recipe = colored_recipe(captions=("a", "b", "c"), max_captions=2)
        with pytest.raises(SettingError, match=r"'picture 0' has 3 captions.*recipe\.max_captions=3"):
            recipe.examples.example(0, draws_of(0))

    @pytest.mark.parametrize(
        "settings", [{"caption_decay": 0}, {"max_captions": 0}, {"temperature": 0}, {"color_jitter": 2}]
    )
    def test_numbers_out_of_range_are_refused(self, settings):
        (name,) = settings
        with pytest.raises(SettingError, match=rf"recipe\.{name}="):
            colored_recipe(**settings)


class TestObjective:
    def test_with_one_true_answer_each_it_is_clips(self):
        logits = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
        loss, accuracy = match(logits, torch.eye(5, dtype=torch.bool))
        torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, torch.arange(5)))
        assert accuracy == (logits.argmax(1) == torch.arange(5)).float().mean()

    def test_true_answers_share_the_target(self):
        logits = torch.tensor([[2.0, 2.0, 0.0]])
        loss, accuracy = match(logits, torch.tensor([[True, True, False]]))
        assert loss == pytest.approx(math.log(2 * math.e**2 + 1) - 2)
        assert accuracy == 1

    def test_the_temperature_is_learned_from_clips_or_fixed(self):
        learned = colored_recipe()
        assert float(learned.scale().detach()) == pytest.approx(1 / 0.07)
        with torch.no_grad():
            learned.log_scale.fill_(9)
        assert float(learned.scale().detach()) == pytest.approx(100)
        fixed = colored_recipe(temperature=0.05)
        assert float(fixed.scale()) == pytest.approx(20)
        assert not hasattr(fixed, "log_scale")

    def test_both_towers_learn_and_the_head_does_not(self):
        recipe = colored_recipe(temperature=0.1, caption_decay=0.01)
        labeler, batch = recipe.labeler, some_batch(recipe, 12)
        head = {k: v.clone() for k, v in labeler.state_dict().items() if k.startswith("vision_emb")}
        before = recipe.evaluate()
        optimizer = torch.optim.AdamW(recipe.parameters(), 5e-3)
        losses = []
        for _ in range(80):
            optimizer.zero_grad()
            losses.append(recipe(batch)["loss"])
            losses[-1].backward()
            optimizer.step()
        assert losses[-1] < losses[0] - 0.3
        assert all(torch.equal(labeler.state_dict()[name], value) for name, value in head.items())
        assert all(p.grad is not None for p in recipe.parameters())
        with torch.no_grad():
            after = recipe.evaluate()
        assert after["naming_accuracy"] > max(0.9, before["naming_accuracy"])
        assert (after["naming_pictures"], after["naming_captions"]) == (12, 3)

    def test_text_is_read_up_to_its_end(self):
        labeler = small_labeler()
        tokens = tokenize(["a thing", "a red thing"])
        torch.testing.assert_close(embed_tokens(labeler.text, tokens), labeler.text(tokens))

    def test_validation_leaves_the_known_words_alone(self):
        recipe = colored_recipe()
        recipe.eval()(some_batch(recipe))
        assert not recipe.known_words.any()


class TestWeights:
    def trained(self, **settings):
        recipe = colored_recipe(**settings)
        recipe(some_batch(recipe))
        return recipe

    def test_the_head_is_trained_on_what_is_saved(self, tmp_path):
        recipe, path = self.trained(), tmp_path / "w.safetensors"
        recipe.save_weights(path, {})
        loaded = build_pacl(weights=str(path), model="custom")
        prompts, video = ["a red thing"], torch.randn(1, 1, 3, 8, 8)
        near = {"atol": 1e-2, "rtol": 1e-2}
        torch.testing.assert_close(loaded.embed_text(prompts), recipe.labeler.embed_text(prompts), **near)
        torch.testing.assert_close(loaded.trunk(video[0]), recipe.labeler.trunk(video[0]).detach(), **near)

    def test_words_without_captions_need_not_be_kept(self, tmp_path):
        recipe, path = self.trained(keep_unknown_words=False), tmp_path / "w.safetensors"
        recipe.save_weights(path, {})
        captions = ["a red thing", "a green thing", "a blue thing", "a thing"]
        known = set(tokenize(captions).unique().tolist())
        kept = set(read_state(path)["text.token_embedding.indices"].tolist())
        assert kept <= known
        assert len(kept) >= len(known) - 2

    def test_a_training_that_goes_on_knows_the_words_of_the_one_before(self, tmp_path):
        recipe, path = self.trained(keep_unknown_words=False), tmp_path / "w.safetensors"
        recipe.save_weights(path, {})
        again = colored_recipe(build_pacl(weights=str(path), model="custom"), keep_unknown_words=False)
        assert torch.equal(again.known_words, recipe.known_words)
        resumed = colored_recipe()
        resumed.load_state_dict(recipe.state_dict())
        assert torch.equal(resumed.known_words, recipe.known_words)


def step_of(batch):
    """Loss, gradients and known words of one step."""
    recipe = colored_recipe()
    loss = recipe(batch)["loss"]
    loss.backward()
    return [loss.detach(), *(p.grad for p in recipe.parameters())], recipe.known_words


def one_of_two(rank, folder):
    """A process of a data-parallel step: its half of the batch, gradients averaged as DDP does."""
    import torch.distributed as dist

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    batch = torch.load(folder / "batch.pt")
    values, words = step_of({name: value.chunk(2)[rank] for name, value in batch.items()})
    for value in values:
        dist.all_reduce(value.div_(2))
    torch.save((values, words), folder / f"found{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_are_as_one(tmp_path):
    batch = some_batch(colored_recipe())
    torch.save(batch, tmp_path / "batch.pt")
    mp.start_processes(partial(one_of_two, folder=tmp_path), nprocs=2, start_method="fork")
    want, known = step_of(batch)
    for rank in range(2):
        found, words = torch.load(tmp_path / f"found{rank}.pt")
        assert torch.equal(words, known)
        for value, expected in zip(found, want, strict=True):
            torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-5)
