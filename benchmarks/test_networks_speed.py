"""Speed of the networks: VideoMAE's features and PACL's patch embeddings, and of their attention.

    pytest benchmarks/test_networks_speed.py --benchmark-enable -m ''

With the shipped weights, and at the paper's size (ViT-B/16, weights random), which is marked slow. Clips a
second are among a benchmark's extra numbers.
"""

import pytest
import torch
import torch.nn.functional as F

from ovvol_bench.fidelity import autocast
from ovvol_bench.nn.attention import QUERY_SCALE, attend
from ovvol_bench.pipeline import embed, encode
from ovvol_bench.registry import load_registry
from ovvol_bench.runs.selection import load_preset

CPU = torch.device("cpu")
FRAMES = 8
CASES = [
    pytest.param("shapes", (96, 128), 4, id="small"),
    pytest.param("paper", (224, 224), 1, id="paper-224x224", marks=pytest.mark.slow),
    pytest.param("paper", (224, 400), 1, id="paper-224x400", marks=pytest.mark.slow),
]
WAYS = ["float32", "autocast", "prepared"]
"""``reference``, bfloat16 as PyTorch does it by itself, and bfloat16 as ``fast`` does it."""
LARGEST_ERROR = {"float32": 1e-3, "autocast": 0.1, "prepared": 0.1}
"""Of a clip in a batch against the clip alone in float32, as a share of the values' deviation."""


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


def component(kind, name, preset):
    """As the preset has it; the paper's without its weights, which don't ship."""
    options = dict(load_preset(preset).options_for(kind, name))
    if preset == "paper":
        options = {key: value for key, value in options.items() if key not in ("weights", "pretrained")}
        options |= {"pretrained": None} if kind == "labeler" else {}
    torch.manual_seed(0)
    return load_registry().build(kind, name, options).eval()


def check_and_note(benchmark, answer, alone, way):
    """The last clip of the batch is what it is alone, up to the precision."""
    assert torch.isfinite(answer).all()
    error = (answer[-1:].float() - alone).std() / alone.std()
    assert error < LARGEST_ERROR[way]
    if benchmark.stats:
        benchmark.extra_info["clips a second"] = len(answer) / benchmark.stats.stats.median


def run(benchmark, network, work, video, way):
    alone = work(video[-1:])
    if way == "prepared":
        network.prepare(torch.bfloat16)
    with autocast(CPU, torch.float32 if way == "float32" else torch.bfloat16):
        answer = benchmark.pedantic(work, (video,), rounds=5, warmup_rounds=int(not benchmark.disabled))
    check_and_note(benchmark, answer, alone, way)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("preset", "size", "clips"), CASES)
def test_videomae(benchmark, preset, size, clips, way):
    encoder = component("encoder", "videomae", preset)
    video = torch.rand(clips, FRAMES, 3, *size, generator=torch.Generator().manual_seed(0))
    run(benchmark, encoder, lambda frames: encode(encoder, frames).grid, video, way)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("preset", "size", "clips"), CASES)
def test_pacl(benchmark, preset, size, clips, way):
    labeler = component("labeler", "pacl", preset)
    video = torch.rand(clips, FRAMES, 3, *size, generator=torch.Generator().manual_seed(0))
    run(benchmark, labeler, lambda frames: embed(labeler, frames), video, way)


@pytest.mark.parametrize("way", ["fused", "by blocks"])
@pytest.mark.parametrize("shape", [(1, 12, 2800, 64), (8, 12, 351, 64), (5, 4, 1536, 48)], ids=str)
def test_attention(benchmark, shape, way):
    """A layer of VideoMAE and of PACL at 224 x 400, and of VideoMAE on shapes, all clips of a batch."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(shape, generator=generator).bfloat16() for _ in range(3))
    scaled = (QUERY_SCALE * query.float() * shape[-1] ** -0.5).bfloat16()
    found = (
        benchmark(attend, scaled, key, value)
        if way == "by blocks"
        else benchmark(F.scaled_dot_product_attention, query, key, value)
    )
    exact = F.scaled_dot_product_attention(*(part[:1, :1].float() for part in (query, key, value)))
    assert (found[:1, :1] - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("preset", ["shapes", pytest.param("paper", marks=pytest.mark.slow)])
def test_prompts(benchmark, preset):
    labeler = component("labeler", "pacl", preset)
    prompts = [
        f"a photo of a {texture} {form}" for texture in ("striped", "plain") for form in ("star", "cross")
    ]
    rows = benchmark(labeler.embed_text, prompts)
    torch.testing.assert_close(rows[1:2], labeler.embed_text(prompts[1:2]), atol=1e-4, rtol=1e-3)
