"""Labelers to beat: dense CLIP against plain arithmetic, crops against CLIP itself, the two bounds."""

import json
import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_clip import save_towers, small_towers

from ovvol_baselines.labelers import crop_clip, ovvol_labelers
from ovvol_baselines.labelers.crop_clip import CropClip
from ovvol_baselines.labelers.dense_clip import (
    Attention,
    DenseClip,
    ProxyClip,
    build_clip,
    nearness,
    proxy_weights,
)
from ovvol_baselines.labelers.prior import Prior
from ovvol_baselines.oracle import OracleLabeler
from ovvol_bench import ClipInfo, DataError, Features, FrameTruth, SettingError
from ovvol_bench.naming.prompts import TextBank, build_prompts
from ovvol_bench.naming.rule import name_probabilities
from ovvol_bench.naming.settings import NamingSettings
from ovvol_bench.naming.vocabulary import ForegroundClass, Vocabulary
from ovvol_bench.pipeline import embed_prompts
from ovvol_bench.registry import load_registry
from ovvol_bench.runs.selection import load_preset

PATCH, HEADS = 4, 2
ENTRIES = {entry.name: entry for entry in ovvol_labelers()}
NAMED = {"vanilla", "maskclip", "sclip", "naclip", "clearclip", "clip_surgery", "proxyclip"}


def towers(seed=0, **numbers):
    torch.manual_seed(seed)
    made = small_towers(**numbers)
    for parameter in made.image.parameters():  # far from their symmetric beginnings
        torch.nn.init.normal_(parameter, std=0.3)
    return made


def some_video(clips=1, frames=2, height=8, width=20):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(clips, frames, 3, height, width, generator=generator)


def named(name, seed=0, layers=2, **others):
    settings = {"last_blocks": 2} if name == "clip_surgery" else {}
    defaults = {"kind" if k == "attention" else k: v for k, v in ENTRIES[name].factory.defaults.items()}
    attention = Attention(**{**defaults, **settings})
    kind = ProxyClip if name == "proxyclip" else DenseClip
    return kind(towers(seed, layers=layers), attention, **others).eval()


def some_features(video, grid=None, dim=5):
    height, width = grid or (video.shape[-2] // PATCH, video.shape[-1] // PATCH)
    generator = torch.Generator().manual_seed(4)
    shape = (len(video), video.shape[1] // 2, height, width, dim)
    return Features(torch.randn(shape, generator=generator) + 0.2)


def embedded(labeler, video, grid=None):
    with torch.no_grad():
        if isinstance(labeler, ProxyClip):
            return labeler.embed_patches(video, some_features(video, grid))
        return labeler.embed_patches(video)


class Plain:
    """One block of a CLIP in float64 numpy, written from the definition of a transformer block."""

    def __init__(self, labeler):
        self.labeler = labeler
        block = labeler.model.transformer.resblocks[-1]
        self.weights = {k: v.detach().double().numpy() for k, v in block.state_dict().items()}

    def norm(self, x, name):
        scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def projected(self, tokens):
        packed = self.norm(tokens, "ln_1") @ self.weights["attn.in_proj_weight"].T
        packed = packed + self.weights["attn.in_proj_bias"]
        parts = np.split(packed, 3, axis=-1)
        return [np.split(part, HEADS, axis=-1) for part in parts]  # [q, k, v][head] (L, d)

    def attention(self, tokens, weights_of):
        q, k, v = self.projected(tokens)
        heads = [weights_of(q[h], k[h], v[h]) @ v[h] for h in range(HEADS)]
        out = np.concatenate(heads, axis=-1) @ self.weights["attn.out_proj.weight"].T
        return out + self.weights["attn.out_proj.bias"]

    def mlp(self, x):
        hidden = self.norm(x, "ln_2") @ self.weights["mlp.c_fc.weight"].T + self.weights["mlp.c_fc.bias"]
        hidden = hidden / (1 + np.exp(-1.702 * hidden))
        return hidden @ self.weights["mlp.c_proj.weight"].T + self.weights["mlp.c_proj.bias"]

    def ended(self, tokens):
        """Unit vectors of patches in the shared space."""
        with torch.no_grad():
            found = self.labeler.shared(torch.from_numpy(tokens).float())[1:]
        return F.normalize(found, dim=-1)


def softmax(x):
    weights = np.exp(x - x.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def alike(a, b):
    return softmax(a @ b.T / np.sqrt(a.shape[1]))


def near(grid, std=5.0):
    bonus = np.zeros((1 + grid[0] * grid[1],) * 2)
    places = [(r, c) for r in range(grid[0]) for c in range(grid[1])]
    for i, (r, c) in enumerate(places):
        for j, (s, d) in enumerate(places):
            bonus[1 + i, 1 + j] = np.exp(-((r - s) ** 2 + (c - d) ** 2) / (2 * std**2))
    return bonus


GRID = (2, 5)
KINDS = {
    "vanilla": lambda q, k, v: alike(q, k),
    "identity": lambda q, k, v: np.eye(len(q)),
    "qq": lambda q, k, v: alike(q, q),
    "kk": lambda q, k, v: alike(k, k),
    "vv": lambda q, k, v: alike(v, v),
    "qq+kk": lambda q, k, v: alike(q, q) + alike(k, k),
    "kk+gauss": lambda q, k, v: softmax(k @ k.T / np.sqrt(k.shape[1]) + near(GRID)),
}
BY_HAND = {
    "maskclip": ("identity", True),
    "sclip": ("qq+kk", True),
    "naclip": ("kk+gauss", False),
    "clearclip": ("qq", False),
}
"""What each method attends with, and whether residual and MLP are kept."""


class TestDense:
    @pytest.mark.parametrize("name", BY_HAND)
    def test_equals_plain_arithmetic(self, name):
        kind, whole = BY_HAND[name]
        labeler, video = named(name), some_video(frames=1)
        plain = Plain(labeler)
        with torch.no_grad():
            before = labeler.tokens(video[0], last_blocks=1)[0].double().numpy()
        out = plain.attention(before, KINDS[kind])
        if whole:
            out = before + out
            out = out + plain.mlp(out)
        found = embedded(labeler, video)[0, 0].flatten(0, 1)
        assert torch.allclose(found, plain.ended(out), atol=1e-4)

    def test_surgery_adds_value_attention_beside_the_unchanged_blocks(self):
        labeler, video = named("clip_surgery"), some_video(frames=1)
        first, last = labeler.model.transformer.resblocks
        path = original = labeler.tokens(video[0], last_blocks=2)
        with torch.no_grad():
            for block in (first, last):
                plain = Plain(labeler)
                plain.weights = {k: v.double().numpy() for k, v in block.state_dict().items()}
                out = plain.attention(original[0].double().detach().numpy(), lambda q, k, v: alike(v, v))
                path = path + torch.from_numpy(out).float()
                original = block(original)
            want = F.normalize(labeler.shared(path[0])[1:], dim=-1)
        assert torch.allclose(embedded(labeler, video)[0, 0].flatten(0, 1), want, atol=1e-4)

    def test_vanilla_is_open_clips_own_forward(self):
        labeler, images = named("vanilla", normalize=False), torch.randn(3, 3, 12, 12)
        labeler.model.output_tokens = True
        with torch.no_grad():
            _, tokens = labeler.model(images)
            want = tokens @ labeler.model.proj  # open_clip gives patches after the last norm, not projected
        found = embedded(labeler, images[None])[0].flatten(1, 2)
        assert torch.allclose(found, want, atol=1e-4)

    @pytest.mark.parametrize("residual", [True, False])
    @pytest.mark.parametrize("kind", KINDS)
    def test_every_kind_equals_plain_arithmetic(self, kind, residual):
        labeler = DenseClip(towers(), Attention(kind, residual, feed_forward=False))
        video = some_video(frames=1)
        with torch.no_grad():
            before = labeler.tokens(video[0], last_blocks=1)[0].double().numpy()
        plain = Plain(labeler)
        out = plain.attention(before, KINDS[kind]) + residual * before
        found = embedded(labeler, video)[0, 0].flatten(0, 1)
        assert torch.allclose(found, plain.ended(out), atol=1e-4)

    def test_near_patches_have_a_bonus_and_the_class_token_none(self):
        bonus = nearness((1, 3), std=1.0)
        line = [1.0, np.exp(-0.5), np.exp(-2.0)]
        assert torch.allclose(bonus[1, 1:], torch.tensor(line).float())
        assert not bonus[0].any()
        assert not bonus[:, 0].any()


class TestProxy:
    def test_weights_by_hand(self):
        """Two patches alike and one apart: cosines 1, 1, 0, of which the mean is 5/9."""
        features = torch.tensor([[[2.0, 0.0], [1.0, 0.0], [0.0, 3.0]]])
        weights = proxy_weights(features, Attention("proxy", False, False))
        assert torch.allclose(weights[0], torch.tensor([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1.0]]))

    def test_features_all_alike_leave_each_patch_itself(self):
        weights = proxy_weights(torch.ones(1, 4, 3), Attention("proxy", False, False))
        assert torch.equal(weights[0], torch.eye(4))

    def test_equals_plain_arithmetic(self):
        labeler, video = named("proxyclip"), some_video(frames=2)
        weights = proxy_weights(some_features(video).grid[0].flatten(1, 2), labeler.attention)[0]
        whole = np.zeros((11, 11))
        whole[1:, 1:] = weights.double().numpy()
        for frame in range(2):  # both have the features of one step
            tokens = labeler.tokens(video[0], last_blocks=1)[frame].detach().double().numpy()
            want = Plain(labeler).ended(Plain(labeler).attention(tokens, lambda q, k, v: whole))
            assert torch.allclose(embedded(labeler, video)[0, frame].flatten(0, 1), want, atol=1e-4)

    def test_answers_on_the_features_grid(self):
        assert embedded(named("proxyclip"), some_video(2, 4), (3, 7)).shape == (2, 4, 3, 7, 6)

    def test_more_than_it_has_is_refused(self):
        with pytest.raises(SettingError, match=r"attention=proxy.*residual=false"):
            Attention("proxy")


@pytest.mark.parametrize("name", sorted(NAMED))
class TestEveryNamedMethod:
    def test_odd_grids_and_unit_length(self, name):
        found = embedded(named(name), some_video(1, 2, 12, 28))
        assert found.shape == (1, 2, 3, 7, 6)
        assert torch.allclose(found.norm(dim=-1), torch.ones(1, 2, 3, 7), atol=1e-5)

    def test_clips_do_not_depend_on_each_other(self, name):
        labeler, video = named(name), some_video(clips=3)
        features = some_features(video)
        with torch.no_grad():
            if isinstance(labeler, ProxyClip):
                every = labeler.embed_patches(video, features)
                alone = labeler.embed_patches(video[1:2], Features(features.grid[1:2]))
            else:
                every, alone = labeler.embed_patches(video), labeler.embed_patches(video[1:2])
        assert torch.allclose(every[1:2], alone, atol=1e-5)

    def test_mixed_precision_stays_near(self, name):
        labeler, video = named(name), some_video()
        with torch.autocast("cpu", torch.bfloat16):
            mixed = embedded(labeler, video)
        assert F.cosine_similarity(mixed.float(), embedded(labeler, video), dim=-1).mean() > 0.9

    def test_its_entry_builds_it_and_says_where_it_comes_from(self, name, tmp_path):
        save_towers(towers(), tmp_path / "clip.safetensors")
        entry = ENTRIES[name]
        blocks = {"last_blocks": 2} if name == "clip_surgery" else {}
        built = entry.factory(model="custom", pretrained=str(tmp_path / "clip.safetensors"), **blocks)
        assert isinstance(built, ProxyClip if name == "proxyclip" else DenseClip)
        assert built.attention == named(name).attention
        assert "20" in entry.reference


@pytest.mark.parametrize("name", [*sorted(NAMED), "crop_clip"])
def test_the_preset_shapes_gives_it_the_small_clip(name):
    labeler = load_registry().build("labeler", name, load_preset("shapes").options_for("labeler", name))
    assert (labeler.patch_size, labeler.dim) == (8, 64)
    assert labeler.embed_text(["a photo of a striped circle"]).shape == (1, 64)


def test_named_methods_differ_from_each_other():
    video = some_video()
    found = [embedded(named(name), video) for name in sorted(NAMED)]
    for i, one in enumerate(found):
        assert all((one - other).abs().max() > 1e-3 for other in found[:i])


def test_more_blocks_than_there_are_are_refused():
    with pytest.raises(SettingError, match=r"last_blocks=6: the CLIP has 2 blocks"):
        DenseClip(towers(), Attention("vv", last_blocks=6))


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("vanilla", "last_blocks", 0),
        ("naclip", "gauss_std", 0.0),
        ("proxyclip", "proxy_scale", -1.0),
        ("crop_clip", "context", -0.1),
        ("crop_clip", "frames", 0),
        ("prior", "temperature", 0),
    ],
)
def test_numbers_out_of_range_are_refused(name, setting, value):
    with pytest.raises(SettingError, match=f"setting '{setting}' can't be {value}: "):
        load_registry().build("labeler", name, {setting: value})


def test_a_custom_model_needs_a_file_that_states_it():
    with pytest.raises(SettingError, match="model=custom takes its architecture"):
        build_clip(model="custom", pretrained=None)


class TestCrops:
    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch):
        monkeypatch.setattr(crop_clip, "load_clip", lambda model, pretrained: towers())

    def labeler(self, **crops):
        return CropClip(**crops).eval()

    def slots(self):
        """Slot 1 is a block of the first frame, slot 2 in none, slot 0 the rest."""
        slots = torch.zeros(1, 2, 2, 5, dtype=torch.int64)
        slots[0, 0, :, 1:3] = 1
        return slots

    @torch.no_grad()
    def test_a_crop_is_what_clip_makes_of_that_picture(self):
        """A block of 12 x 12 pixels, CLIP's own size, on whole pixels: cut out it is that picture exactly."""
        labeler, video = self.labeler(), some_video(1, 1, 12, 24)
        slots = torch.zeros(1, 1, 3, 6, dtype=torch.int64)
        slots[0, 0, :, 3:] = 1
        found = labeler.embed_slots(video, slots, 2)
        for slot, columns in ((0, slice(0, 12)), (1, slice(12, 24))):
            want = F.normalize(labeler.model(video[0, :, :, :, columns]), dim=-1)
            assert torch.allclose(found[0, slot], want[0], atol=1e-4)

    @torch.no_grad()
    def test_slots_without_patches_are_zero_and_frames_add_up(self):
        labeler, video = self.labeler(), some_video()
        found = labeler.embed_slots(video, self.slots(), 3)
        assert found.shape == (1, 3, 6)
        assert not found[0, 2].any()
        assert torch.allclose(found[0, 1].norm(), torch.tensor(1.0), atol=1e-5)
        parts = [labeler.embed_slots(video[:, t : t + 1], self.slots()[:, t : t + 1], 3) for t in range(2)]
        assert torch.allclose(found, parts[0] + parts[1], atol=1e-5)

    @torch.no_grad()
    def test_other_slots_can_be_painted_over(self):
        video, slots = some_video(1, 1), self.slots()[:, :1]
        slots[0, 0, 0, 1] = 0
        changed = video.clone()
        changed[..., :4, 4:8] += 1  # inside the box of slot 1, on a patch of slot 0
        for outside, same in (("keep", False), ("mean", True)):
            labeler = self.labeler(outside=outside)
            before, after = (labeler.embed_slots(v, slots, 2)[0, 1] for v in (video, changed))
            assert torch.allclose(before, after, atol=1e-5) is same

    @torch.no_grad()
    def test_fewer_frames_are_spread_evenly(self):
        video = some_video(1, 6)
        slots = torch.zeros(1, 6, 2, 5, dtype=torch.int64)
        few = self.labeler(frames=2).embed_slots(video, slots, 1)
        want = self.labeler().embed_slots(video[:, [1, 4]], slots[:, [1, 4]], 1)
        assert torch.allclose(few, want, atol=1e-5)

    @torch.no_grad()
    def test_context_ends_at_the_frame(self):
        video, slots = some_video(), torch.zeros(1, 2, 2, 5, dtype=torch.int64)
        assert torch.equal(
            self.labeler(context=1.0).embed_slots(video, slots, 1),
            self.labeler().embed_slots(video, slots, 1),
        )
        wide = self.labeler(context=1.0).embed_slots(video, self.slots(), 2)[0, 1]
        assert not torch.allclose(wide, self.labeler().embed_slots(video, self.slots(), 2)[0, 1], atol=1e-3)


WORDS = Vocabulary(
    "pets",
    classes=(ForegroundClass("cat"), ForegroundClass("big_dog", ("hound",)), ForegroundClass("newt")),
    background=("grass",),
)


def bank(labeler):
    prompts = build_prompts(WORDS, NamingSettings())
    return TextBank.of(prompts, embed_prompts(labeler, prompts).numpy())


class TestPrior:
    def built(self, tmp_path, counts):
        (tmp_path / "counts.json").write_text(json.dumps(counts))
        return Prior(frequencies=tmp_path / "counts.json")

    def test_probabilities_are_the_frequencies(self, tmp_path):
        labeler = self.built(tmp_path, {"cat": 10, "big dog": 60, "newt": 30, "ant": 5})
        patches = labeler.embed_patches(torch.zeros(1, 2, 3, 32, 48))
        assert patches.shape == (1, 2, 2, 3, 2)
        found = name_probabilities(patches[0].flatten(0, 2).sum(0)[None], bank(labeler), 100.0)
        assert np.allclose(found[0], [0, 0.1, 0.6, 0.3], atol=1e-4)

    def test_background_words_come_last(self, tmp_path):
        text = bank(self.built(tmp_path, {"newt": 1}))
        order = np.argsort(-text.embeddings[:, 0])
        assert text.prompts.texts[order[0]] == "a photo of a newt"
        assert text.prompts.texts[order[-1]] == "a photo of a grass"

    def test_what_the_file_says_counts_towards_the_weights(self, tmp_path):
        one, other = (self.built(tmp_path, {"cat": n}).state_dict() for n in (1, 2))
        assert not torch.equal(one["frequencies"], other["frequencies"])

    @pytest.mark.parametrize(
        "content", ["[1]", '{"cat": -1}', '{"cat": "many"}', "{", '{"cat": NaN}', '{"cat": true}']
    )
    def test_other_files_are_refused(self, tmp_path, content):
        (tmp_path / "counts.json").write_text(content)
        with pytest.raises(DataError, match=r"counts\.json"):
            Prior(frequencies=tmp_path / "counts.json")

    def test_a_pipe_is_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "counts.json")
        with pytest.raises(DataError, match="no such file"):
            Prior(frequencies=tmp_path / "counts.json")

    def test_frequencies_of_other_classes_are_refused(self, tmp_path):
        with pytest.raises(SettingError, match="none of the dataset's classes"):
            bank(self.built(tmp_path, {"ant": 3}))


class TestOracle:
    def info(self):
        frame = FrameTruth(
            boxes=np.array([[0, 0, 7, 7]], np.float32),
            class_ids=np.array([2]),
            track_ids=np.array([0]),
            occluded=np.zeros(1, bool),
            generated=np.zeros(1, bool),
            motion_iou=np.full(1, np.nan, np.float32),
        )
        return ClipInfo("a", "a", (0,), (8, 16), (frame,))

    def test_patches_lie_on_the_axis_of_their_class(self):
        labeler = OracleLabeler(num_classes=3, patch_size=4)
        patches = labeler.embed_patches(torch.zeros(1, 1, 3, 8, 16), truth=[self.info()])
        text = bank(labeler)
        scores = patches[0, 0].numpy() @ text.embeddings.T
        best = text.prompts.class_ids[scores.argmax(-1)]
        assert best.tolist() == [[2, 2, 4, 4], [2, 2, 4, 4]]

    def test_more_classes_than_axes_are_refused(self):
        with pytest.raises(SettingError, match=r"class 2 of num_classes=1"):
            OracleLabeler(num_classes=1).embed_patches(torch.zeros(1, 1, 3, 8, 16), truth=[self.info()])
