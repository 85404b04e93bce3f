"""The pipeline holds components to their contract and names the one that breaks it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ovvol_bench import Clip, ClipInfo, Encoder, Features, Grouper, Labeler, SlotMasks, pipeline
from ovvol_bench.errors import ContractError, PluginError
from ovvol_bench.naming.prompts import Prompts
from ovvol_bench.runs.plan import check_component


class PatchMeans(Encoder):
    patch_size, tubelet_size, dim, max_frames = 8, 2, 3, 4

    def encode(self, video):
        patches = video.unflatten(1, (-1, 2)).unflatten(4, (-1, 8)).unflatten(6, (-1, 8))
        return Features(patches.mean((2, 5, 7)).permute(0, 1, 3, 4, 2))


class Halves(Grouper):
    def group(self, features, draws):
        grid = features.grid[..., 0]
        left = torch.zeros_like(grid)
        left[..., : grid.shape[-1] // 2] = 1
        return SlotMasks(torch.stack([left, 1 - left], 1))


class Colours(Labeler):
    patch_size, dim = 8, 3

    def embed_patches(self, video):
        return (
            torch.nn.functional.avg_pool2d(video.flatten(0, 1), 8)
            .unflatten(0, video.shape[:2])
            .movedim(2, -1)
        )

    def embed_text(self, prompts):
        return torch.eye(3)[: len(prompts)]


def answering(component, method, change):
    """The component with one answer tampered with."""
    honest = getattr(component, method)
    setattr(component, method, lambda *arguments: change(honest(*arguments)))
    return component


video = torch.rand(2, 4, 3, 16, 24, generator=torch.Generator().manual_seed(0))


def test_stack_moves_channels_before_rows():
    frames = np.random.default_rng(0).random((4, 16, 24, 3)).astype(np.float32)
    info = ClipInfo("a/0", "a", (0, 1, 2, 3), (16, 24))
    batch = pipeline.stack([Clip(info, frames), Clip(info, frames)], torch.device("cpu"))
    assert batch.shape == (2, 4, 3, 16, 24)
    assert torch.equal(batch[1, 2, 1], torch.from_numpy(frames[2, :, :, 1]))


def test_fit_normalises_with_the_components_statistics():
    encoder = PatchMeans()
    fitted = pipeline.fit(video, encoder)
    restored = fitted * torch.tensor(encoder.std).view(3, 1, 1) + torch.tensor(encoder.mean).view(3, 1, 1)
    assert torch.allclose(restored, video, atol=1e-6)


@pytest.mark.parametrize(("size", "expected"), [((16, 24), (16, 24)), ((17, 30), (16, 32)), ((3, 9), (8, 8))])
def test_fit_resizes_odd_frames_to_whole_patches(size, expected):
    assert pipeline.fit(torch.rand(1, 2, 3, *size), PatchMeans()).shape[-2:] == expected


def test_sound_components_pass():
    features = pipeline.encode(PatchMeans(), video)
    assert features.grid.shape == (2, 2, 2, 3, 3)
    assert pipeline.group(Halves(), features, []).masks.shape == (2, 2, 2, 2, 3)
    assert pipeline.embed(Colours(), video).shape == (2, 4, 2, 3, 3)


def test_wrong_feature_shape_names_component_and_both_shapes():
    extra_token = answering(PatchMeans(), "encode", lambda f: Features(f.grid[:, :1]))
    with pytest.raises(
        ContractError, match=r"encoder 'clip': features .*\(2, 1, 2, 3, 3\).*\(2, 2, 2, 3, 3\)"
    ):
        pipeline.encode(extra_token, video, "encoder 'clip'")


def test_declared_map_must_be_returned():
    encoder = PatchMeans()
    encoder.maps = frozenset({"keys"})
    with pytest.raises(ContractError, match="keys"):
        pipeline.encode(encoder, video)


@pytest.mark.parametrize(("frames", "message"), [(6, "at most 4"), (3, "doesn't divide")])
def test_clip_length_must_suit_the_encoder(frames, message):
    with pytest.raises(ContractError, match=message):
        pipeline.encode(PatchMeans(), torch.rand(1, frames, 3, 16, 24))


@pytest.mark.parametrize("spoil", [lambda m: m * 2, lambda m: m - 0.5])
def test_masks_must_sum_to_one_over_slots(spoil):
    grouper = answering(Halves(), "group", lambda slots: SlotMasks(spoil(slots.masks)))
    with pytest.raises(ContractError, match="sum to 1"):
        pipeline.group(grouper, pipeline.encode(PatchMeans(), video), [])


def test_missing_slot_axis_is_a_shape_error():
    grouper = answering(Halves(), "group", lambda slots: SlotMasks(slots.masks[:, 0]))
    with pytest.raises(ContractError, match="slot masks have shape"):
        pipeline.group(grouper, pipeline.encode(PatchMeans(), video), [])


def test_nan_is_reported_for_the_clips_that_have_it():
    def spoil(patches):
        patches[1, 0, 0, 0, 0] = float("nan")
        return patches

    with pytest.raises(pipeline.NotFiniteError) as caught:
        pipeline.embed(answering(Colours(), "embed_patches", spoil), video)
    assert caught.value.positions == (1,)


def test_an_oracle_that_nobody_tells_the_truth_is_named():
    halves = Halves()
    halves.needs_truth = True
    with pytest.raises(ContractError, match="halves is an oracle"):
        pipeline.group(halves, pipeline.encode(PatchMeans(), video), [], "halves")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda slots: None, r"group\(\) gave NoneType; expected SlotMasks"),
        (lambda slots: slots.masks, r"group\(\) gave Tensor; expected SlotMasks"),
        (lambda slots: SlotMasks(slots.masks[:, :0]), r"shape \(2, 0, 2, 2, 3\); expected \(2, K >= 1, 2"),
        (lambda slots: SlotMasks(slots.masks.numpy()), "slot masks gave ndarray; expected Tensor"),
        (lambda slots: SlotMasks(slots.masks.to_sparse()), "kind sparse_coo, float32; expected dense real"),
        (lambda slots: SlotMasks(slots.masks.to("meta")), "kind meta; expected dense real"),
        (lambda slots: SlotMasks(slots.masks.to(torch.complex64)), "kind strided, complex64; expected dense"),
    ],
)
def test_answers_of_another_kind_are_named(spoil, expected):
    grouper = answering(Halves(), "group", spoil)
    with pytest.raises(ContractError, match="grouper 'own': .*" + expected):
        pipeline.group(grouper, pipeline.encode(PatchMeans(), video), [], "grouper 'own'")


@pytest.mark.parametrize("raised", [RuntimeError("boom"), SystemExit(0), GeneratorExit(), StopIteration()])
def test_whatever_a_component_raises_is_one_line_with_file_and_line(raised):
    def fail(features):
        raise raised

    with pytest.raises(PluginError, match=r"^encoder 'own' failed: .*test_pipeline\.py, line \d+\)$"):
        pipeline.encode(answering(PatchMeans(), "encode", fail), video, "encoder 'own'")


def test_text_embeddings_are_held_against_the_contract(small_prompts):
    short = answering(Colours(), "embed_text", lambda rows: rows[:-1])
    with pytest.raises(ContractError, match=r"labeler 'own': text embeddings have shape"):
        pipeline.embed_prompts(short, small_prompts, "labeler 'own'")
    nan = answering(Colours(), "embed_text", lambda rows: rows * float("nan"))
    with pytest.raises(ContractError, match="text embeddings hold NaN"):
        pipeline.embed_prompts(nan, small_prompts, "labeler 'own'")


@pytest.fixture
def small_prompts() -> Prompts:
    return Prompts(("a cat", "a dog"), np.array([1, 2]), ("background", "cat", "dog"), 2)


@pytest.mark.parametrize(
    ("kind", "change", "expected"),
    [
        (
            "encoder",
            {"patch_size": (8, 16)},
            r"patch_size is \(8, 16\); expected a whole number, at least 1. P",
        ),
        ("encoder", {"tubelet_size": 0}, "tubelet_size is 0"),
        ("encoder", {"dim": None}, "dim is None"),
        ("encoder", {"mean": 0.5}, "mean is 0.5; expected three numbers"),
        ("labeler", {"patch_size": 8.0}, "patch_size is 8.0"),
    ],
)
def test_sizes_that_are_none_are_refused_when_a_component_is_built(kind, change, expected):
    component = {"encoder": PatchMeans, "labeler": Colours}[kind]()
    check_component(component, kind, "own")
    for name, value in change.items():
        setattr(component, name, value)
    with pytest.raises(ContractError, match=f"{kind} 'own': {expected}"):
        check_component(component, kind, "own")


def test_what_is_no_component_of_its_kind_is_refused():
    for component in (None, object(), Halves()):
        with pytest.raises(
            ContractError, match=r"encoder 'own': its factory gave .*; expected an instance of Encoder"
        ):
            check_component(component, "encoder", "own")
