"""VideoMAE's encoder: a plain vision transformer over space-time patches.

Tong et al., "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video
Pre-Training", NeurIPS 2022, section 3.3; with one-frame tubelets as in Fan et al., "Unsupervised
Open-Vocabulary Object Localization in Videos", ICCV 2023 (video encoder of figure 2). Module names
are those of the published checkpoints, so that a checkpoint is a state dict.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovvol_bench import Encoder, Features, SettingError, Weights
from ovvol_bench.nn.attention import dot_product_attention
from ovvol_bench.nn.blocks import BlockParts, PackedBlock
from ovvol_bench.nn.grids import GridCache
from ovvol_bench.registry.annotations import Cells, Layers, Side, Width
from ovvol_bench.weights import read_state, resolve_weights

from .checkpoint import load_encoder, settings_for
from .settings import LAYER_NORM_EPS, PositionKind, VideoMAESettings

BUNDLED = Path(__file__).parent / "weights"


class Attention(nn.Module):
    """Multi-head self-attention with biases on queries and values only."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(dim))
        self.v_bias = nn.Parameter(torch.zeros(dim))
        self.proj = nn.Linear(dim, dim)

    def bias(self) -> Tensor:
        """(3 D,) of queries, keys and values; that of keys is zero."""
        return torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        batch, length, dim = tokens.shape
        qkv = F.linear(tokens, self.qkv.weight, self.bias())
        query, key, value = qkv.view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(batch, length, dim))  # type: ignore[no-any-return]


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        return self.fc2(F.gelu(self.fc1(tokens)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Pre-norm transformer block.

    Attributes:
        drop_path: share of the clips that pass a branch by in training (Huang et al., "Deep Networks with
            Stochastic Depth", ECCV 2016); what the others get is raised so that the mean stays.
    """

    def __init__(self, dim: int, heads: int, mlp_ratio: float, norm_eps: float = LAYER_NORM_EPS) -> None:
        super().__init__()
        self.drop_path = 0.0
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        tokens = tokens + self._kept(self.attn(self.norm1(tokens)))
        return tokens + self._kept(self.mlp(self.norm2(tokens)))

    def _kept(self, branch: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0:
            return branch
        kept = branch.new_empty(len(branch), 1, 1).bernoulli_(1 - self.drop_path)
        return branch * kept / (1 - self.drop_path)

    def parts(self) -> BlockParts:
        """Take the block apart, to be laid out for inference."""
        attn, mlp = self.attn, self.mlp
        attention = (self.norm1, attn.qkv.weight, attn.bias(), attn.proj)
        return BlockParts(*attention, self.norm2, mlp.fc1, mlp.fc2, attn.heads)


def initialise(module: nn.Module) -> None:
    """Xavier weights and zero biases in linear layers, as in the pre-training of the paper."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def to_patches(video: Tensor, tubelet: int, side: int) -> Tensor:
    """Cut a video into patches.

    Args:
        video: (B, T, C, H, W), T a multiple of ``tubelet``, H and W of ``side``.
        tubelet: frames a patch spans.
        side: height and width of a patch, pixels.

    Returns:
        (B, T / tubelet, H / side, W / side, tubelet, C, side, side), a view where memory allows.
    """
    cut: Tensor = video.unflatten(1, (-1, tubelet)).unflatten(4, (-1, side)).unflatten(6, (-1, side))
    return cut.permute(0, 1, 4, 6, 2, 3, 5, 7)


class PatchEmbed(nn.Module):
    """Linear embedding of patches, with the weight layout of a strided convolution."""

    def __init__(self, settings: VideoMAESettings) -> None:
        super().__init__()
        self.kernel = (settings.tubelet_size, settings.patch_size, settings.patch_size)
        self.proj = nn.Conv3d(3, settings.dim, self.kernel, stride=self.kernel)

    def forward(self, video: Tensor, chosen: Tensor | None = None) -> Tensor:
        """(B, T, 3, H, W) to (B, S, h, w, D); or to (n, D), of the patches that (B, S, h, w) bool chooses."""
        patches = to_patches(video, *self.kernel[:2]).transpose(4, 5)
        if chosen is not None:
            patches = patches[chosen]
        # One matrix product: strided 3-D convolutions are slow in half precision on GPUs.
        return F.linear(patches.flatten(-4), self.proj.weight.flatten(1), self.proj.bias)


class VideoMAE(Encoder):
    """The frozen video encoder: patch embedding, positions, transformer blocks.

    Args:
        settings: architecture.
    """

    def __init__(self, settings: VideoMAESettings | None = None) -> None:
        super().__init__()
        settings = settings or VideoMAESettings()
        self.settings = settings
        self.patch_size, self.tubelet_size = settings.patch_size, settings.tubelet_size
        self.dim, self.max_frames = settings.dim, settings.position_frames
        self.patch_embed = PatchEmbed(settings)
        self.blocks = nn.ModuleList(
            Block(settings.dim, settings.heads, settings.mlp_ratio, settings.norm_eps)
            for _ in range(settings.depth)
        )
        final = nn.LayerNorm(settings.dim, eps=settings.norm_eps)
        self.norm = final if settings.final_norm else nn.Identity()
        self.positions: Tensor
        self.register_buffer("positions", settings.position_table(settings.dim), persistent=False)
        self._grids = GridCache()
        self.apply(initialise)

    def embed(self, video: Tensor) -> Tensor:
        """Embed patches, and add positions.

        Args:
            video: (B, T, 3, H, W) float, normalised.

        Returns:
            (B, S, h, w, D).

        Raises:
            SettingError: if T is too long or no multiple of ``tubelet_size``, or H or W is no
                multiple of ``patch_size``.
        """
        self._check(video)
        return self.patch_embed(video) + self._position_table(video)  # type: ignore[no-any-return]

    def embed_some(self, video: Tensor, chosen: Tensor) -> Tensor:
        """Embed some patches as `embed` does; the others cost nothing.

        Args:
            video: (B, T, 3, H, W) float, normalised.
            chosen: (B, S*h*w) bool, the same number n in every clip.

        Returns:
            (B, n, D), patches in ascending order.

        Raises:
            SettingError: as `embed`.
        """
        self._check(video)
        table = self._position_table(video).expand(len(video), -1, -1, -1, -1)
        places = chosen.view(table.shape[:4])
        tokens: Tensor = self.patch_embed(video, places) + table[places]
        return tokens.view(len(video), -1, self.dim)

    def grid(self, video: Tensor) -> tuple[int, int, int]:
        """(S, h, w) patches of a video (B, T, 3, H, W)."""
        frames, height, width = video.shape[1], *video.shape[3:]
        return frames // self.tubelet_size, height // self.patch_size, width // self.patch_size

    def _position_table(self, video: Tensor) -> Tensor:
        """(S, h, w, D)."""
        steps, *grid = self.grid(video)
        return self._grids.resize(self.positions, (grid[0], grid[1]))[:steps]

    def encode(self, video: Tensor) -> Features:
        tokens = self.embed(video)
        return Features(self.transform(tokens.flatten(1, 3)).view(tokens.shape))

    def transform(self, tokens: Tensor) -> Tensor:
        """(B, N, D) embedded tokens, all or some, through the blocks: (B, N, D)."""
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)  # type: ignore[no-any-return]

    def prepare(self, precision: torch.dtype) -> None:
        for index, block in enumerate(self.blocks):
            self.blocks[index] = PackedBlock(block.parts(), precision)  # type: ignore[operator]

    def load_weights(self, path: Path) -> None:
        """Load a checkpoint of any layout that `checkpoint` reads."""
        load_encoder(self, self.settings, read_state(path), path)

    def _check(self, video: Tensor) -> None:
        frames, height, width = video.shape[1], *video.shape[3:]
        limit = self.settings.position_frames
        if frames > limit:
            raise SettingError(
                f"videomae: a clip has {frames} frames, its positions reach to {limit}. "
                f"Use shorter clips or set encoder.position_frames."
            )
        if frames % self.tubelet_size:
            raise SettingError(
                f"videomae: a clip has {frames} frames; expected a multiple of "
                f"tubelet_size={self.tubelet_size}."
            )
        if height % self.patch_size or width % self.patch_size:
            raise SettingError(
                f"videomae: frames of {height} x {width} pixels; expected multiples of "
                f"patch_size={self.patch_size}."
            )


def build_videomae(
    *,
    weights: Annotated[str | None, Weights] = None,
    patch_size: Side | None = None,
    tubelet_size: Cells | None = None,
    dim: Width | None = None,
    depth: Layers | None = None,
    heads: Layers | None = None,
    mlp_ratio: float | None = None,
    position_frames: Cells | None = None,
    position_grid: Cells | None = None,
    positions: PositionKind | None = None,
    final_norm: bool | None = None,
) -> VideoMAE:
    """Build a VideoMAE encoder.

    What isn't set is taken from the weights, if they come with a ``config.json`` of transformers or are of
    this project's own training, and else is as in the paper.

    Args:
        weights: path of a checkpoint or of a folder from the Hugging Face hub, or the name of one that comes
            with the plugin; None leaves the weights random.
        patch_size: side of a patch, pixels; else 16.
        tubelet_size: frames a patch spans; else 1.
        dim: width of the transformer; else 768.
        depth: number of blocks; else 12.
        heads: attention heads; else 12.
        mlp_ratio: hidden width of an MLP over ``dim``; else 4.
        position_frames: longest clip, frames; else 16.
        position_grid: side of the square grid of patches that positions are made for; else 14.
        positions: ``sincos3d``, or ``flat`` for original VideoMAE weights; else sincos3d.
        final_norm: apply a LayerNorm after the last block; else false.

    Raises:
        SettingError: if the sizes do not fit together.
        WeightsError: if the weights can't be read, do not fit, or are stated to be of other sizes.
    """
    given = {name: value for name, value in locals().items() if name != "weights" and value is not None}
    if weights is None:
        return VideoMAE(VideoMAESettings(**given))
    path = resolve_weights(weights, BUNDLED)
    state = read_state(path)
    encoder = VideoMAE(settings_for(given, state, path))
    load_encoder(encoder, encoder.settings, state, path)
    return encoder
