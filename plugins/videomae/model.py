"""VideoMAE: a plain vision transformer over space-time patches, and its masked pre-training.

Tong et al., "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video
Pre-Training", NeurIPS 2022, section 3.3; with one-frame tubelets as in Fan et al., "Unsupervised
Open-Vocabulary Object Localization in Videos", ICCV 2023 (video encoder of figure 2). Module names
are those of the published checkpoints, so that a checkpoint is a state dict.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovvol_bench import Encoder, Features, SettingError
from ovvol_bench.nn.attention import dot_product_attention
from ovvol_bench.nn.blocks import BlockParts, PackedBlock
from ovvol_bench.nn.grids import GridCache
from ovvol_bench.registry.limits import check_fits
from ovvol_bench.weights import read_state

from .positions import flat_table, sincos_table

LAYER_NORM_EPS = 1e-6
PositionKind = Literal["sincos3d", "flat"]


@dataclass(frozen=True)
class VideoMAESettings:
    """Architecture of an encoder.

    Attributes:
        patch_size: side of a patch, pixels.
        tubelet_size: frames a patch spans.
        dim, depth, heads: of the transformer; ``dim`` is a multiple of ``heads``.
        mlp_ratio: hidden width of an MLP over ``dim``.
        position_frames: longest clip, frames; the time axis of the positions is never stretched.
        position_grid: side of the square grid of patches that positions are made for.
        positions: ``sincos3d`` (time, row and column apart) or ``flat`` (one sinusoid over all
            tokens in order, as in the original VideoMAE).
        final_norm: apply a LayerNorm after the last block.
        norm_eps: added to variances in all norms.

    Raises:
        SettingError: if the numbers do not fit together.
    """

    patch_size: int = 16
    tubelet_size: int = 1
    dim: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    position_frames: int = 16
    position_grid: int = 14
    positions: PositionKind = "sincos3d"
    final_norm: bool = False
    norm_eps: float = LAYER_NORM_EPS

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name not in {"positions", "final_norm"} and value <= 0:
                raise SettingError(f"videomae: {name}={value}; expected more than 0.")
        if self.dim % self.heads:
            raise SettingError(f"videomae: dim={self.dim} is not a multiple of heads={self.heads}.")
        if self.position_frames % self.tubelet_size:
            raise SettingError(
                f"videomae: position_frames={self.position_frames} is not a multiple of "
                f"tubelet_size={self.tubelet_size}."
            )
        layers = self.depth * int(4 + 2 * self.mlp_ratio) * self.dim**2
        patches = self.position_frames // self.tubelet_size * self.position_grid**2
        embedding = 3 * self.tubelet_size * self.patch_size**2 + patches
        shape = f"dim={self.dim}, depth={self.depth}, patch_size={self.patch_size}"
        places = f"position_frames={self.position_frames}, position_grid={self.position_grid}"
        check_fits(f"videomae: {shape}, {places}", layers + embedding * self.dim)

    def position_table(self, dim: int) -> Tensor:
        """(position_frames / tubelet_size, position_grid, position_grid, dim) float32."""
        make = sincos_table if self.positions == "sincos3d" else flat_table
        return make(self.position_frames // self.tubelet_size, self.position_grid, dim)


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
        """Patch embeddings plus positions.

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
        from .checkpoint import load_encoder

        load_encoder(self, read_state(path), path)

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


class PretrainingDecoder(nn.Module):
    """Narrow transformer from visible and masked tokens to the pixels of the masked ones."""

    def __init__(self, settings: VideoMAESettings) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(settings.dim, settings.heads, settings.mlp_ratio) for _ in range(settings.depth)
        )
        self.norm = nn.LayerNorm(settings.dim, eps=LAYER_NORM_EPS)
        pixels = settings.tubelet_size * settings.patch_size**2
        self.head = nn.Linear(settings.dim, 3 * pixels)

    def forward(self, tokens: Tensor, wanted: int) -> Tensor:
        """(B, N, D) to the pixels of the last ``wanted`` tokens, (B, wanted, values)."""
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(self.norm(tokens[:, -wanted:]))  # type: ignore[no-any-return]


class VideoMAEPretraining(nn.Module):
    """Masked autoencoder: the encoder sees the visible tokens, the decoder fills in the rest.

    Args:
        encoder: to be trained; built with ``final_norm=True``, as the decoder reads normalised
            tokens.
        decoder_dim, decoder_depth, decoder_heads: of the decoder's transformer.
        norm_targets: predict pixels normalised within each patch and colour (He et al., "Masked
            Autoencoders Are Scalable Vision Learners", CVPR 2022, section 3); used by the loss.

    Raises:
        SettingError: if the encoder lacks its final norm.
    """

    def __init__(
        self,
        encoder: VideoMAE,
        decoder_dim: int = 384,
        decoder_depth: int = 4,
        decoder_heads: int = 6,
        norm_targets: bool = True,
    ) -> None:
        super().__init__()
        if not encoder.settings.final_norm:
            raise SettingError("videomae: pre-training needs an encoder with final_norm=True.")
        self.norm_targets = norm_targets
        self.encoder = encoder
        settings = replace(encoder.settings, dim=decoder_dim, depth=decoder_depth, heads=decoder_heads)
        self.encoder_to_decoder = nn.Linear(encoder.dim, decoder_dim, bias=False)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_dim))
        self.decoder = PretrainingDecoder(settings)
        self.positions: Tensor
        self.register_buffer("positions", settings.position_table(decoder_dim), persistent=False)
        self._grids = GridCache()
        self.encoder_to_decoder.apply(initialise)
        self.decoder.apply(initialise)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def forward(self, video: Tensor, mask: Tensor, decoded: Tensor | None = None) -> Tensor:
        """Predict hidden patches.

        Args:
            video: (B, T, 3, H, W) float, normalised.
            mask: (B, S*h*w) bool, true = hidden; the same number in every clip.
            decoded: (B, S*h*w) bool, the hidden patches to predict, the same number in every clip; the
                decoder sees no other hidden ones. All if None.

        Returns:
            (B, predicted, tubelet * patch * patch * 3) float, patches in ascending order; values in the
            order frame, row, column, channel.
        """
        visible = self.encoder.transform(self.encoder.embed_some(video, ~mask))
        visible = self.encoder_to_decoder(visible)
        positions = self._decoder_positions(video).expand(len(video), -1, -1)
        shown = visible + positions[~mask].view(visible.shape)
        wanted = positions[mask if decoded is None else decoded]
        hidden = self.mask_token + wanted.view(len(video), -1, visible.shape[-1])
        return self.decoder(torch.cat((shown, hidden), dim=1), hidden.shape[1])  # type: ignore[no-any-return]

    def _decoder_positions(self, video: Tensor) -> Tensor:
        """(S*h*w, width of the decoder)."""
        steps, height, width = self.encoder.grid(video)
        table = self._grids.resize(self.positions, (height, width))
        return table[:steps].flatten(0, 2)
