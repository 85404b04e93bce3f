"""Slot attention over the features of a whole clip, decoded by one MLP a slot.

Fan et al., "Unsupervised Open-Vocabulary Object Localization in Videos", ICCV 2023 (figure 2);
slot attention after Locatello et al., "Object-Centric Learning with Slot Attention", NeurIPS 2020,
algorithm 1; decoder after Seitzer et al., "Bridging the Gap to Real-World Object-Centric Learning",
ICLR 2023. Module names are those of the reference's checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from ovvol_bench.components import Grouper
from ovvol_bench.errors import SettingError
from ovvol_bench.nn.blocks import PackedLinear
from ovvol_bench.nn.grids import GridCache
from ovvol_bench.registry import FromEncoder, Weights
from ovvol_bench.registry.annotations import Cells, Layers, Rounds, Slots, Width, check_fits
from ovvol_bench.types import Features, SlotMasks
from ovvol_bench.weights import load_strict, read_state, resolve_weights

# Hidden values decoded at once at inference. Few on a CPU: they stay in the cache from layer to layer.
# Elsewhere bounded for memory (float32: 1 GiB) where batches of long clips are decoded.
_DECODED_ON_CPU, _DECODED_ELSEWHERE = 2**22, 2**28
BUNDLED = Path(__file__).parent / "weights"
_ENCODER = ("model.*",)  # the frozen encoder in a checkpoint of the reference; ours is loaded on its own


@dataclass(frozen=True)
class Reconstruction:
    """Reconstruction of a clip's features from its slots.

    Attributes:
        features: (B, S, h, w, D) mean of the slots' predictions, weighted by ``masks``.
        masks: (B, K, S, h, w) float32, sums to 1 over K.
    """

    features: Tensor
    masks: Tensor


class Conditioning(nn.Module):
    """Initial slots: draws from one learned normal distribution, shared by all slots."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.slots_mu = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, 1, dim)))
        self.slots_logsigma = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, 1, dim)))

    def forward(self, noise: Tensor) -> Tensor:
        """(B, K, slot_dim) standard normal draws to initial slots of the same shape."""
        return self.slots_mu + self.slots_logsigma.exp() * noise


class ResidualMlp(nn.Module):
    """LayerNorm and a two-layer MLP, added to their input."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.module = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.ReLU(), nn.Linear(4 * dim, dim)
        )

    def forward(self, slots: Tensor) -> Tensor:
        """(..., slot_dim) to (..., slot_dim)."""
        return slots + self.module(slots)  # type: ignore[no-any-return]


class SlotAttention(nn.Module):
    """Slots compete for tokens by a softmax over slots (Locatello et al. 2020, algorithm 1)."""

    def __init__(self, dim: int, iterations: int) -> None:
        super().__init__()
        self.iterations = iterations
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_k = nn.Linear(dim, dim, bias=False)
        self.to_v = nn.Linear(dim, dim, bias=False)
        self.gru = nn.GRUCell(dim, dim)
        self.norm_input = nn.LayerNorm(dim)
        self.norm_slots = nn.LayerNorm(dim)
        self.ff_mlp = ResidualMlp(dim)

    def forward(self, tokens: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Refine slots.

        Args:
            tokens: (B, N, slot_dim) float32.
            slots: (B, K, slot_dim) float32, initial.

        Returns:
            Slots (B, K, slot_dim), and the attention (B, K, N) of the last iteration, which sums to 1
            over K; it was computed with the slots before that iteration's update.
        """
        tokens = self.norm_input(tokens)
        keys, values = self.to_k(tokens), self.to_v(tokens)
        attention = tokens.new_empty(0)
        for _ in range(self.iterations):
            queries = self.to_q(self.norm_slots(slots)) * slots.shape[-1] ** -0.5
            attention = (queries @ keys.transpose(1, 2)).softmax(dim=1)
            shares = attention + 1e-8  # avoids 0/0 for slots that win no token; inside the mean, as published
            shares = shares / shares.sum(dim=2, keepdim=True)
            updated = self.gru((shares @ values).flatten(0, 1), slots.flatten(0, 1))
            slots = self.ff_mlp(updated.view(slots.shape))
        return slots, attention


class Grouping(nn.Module):
    """Projects features to the slots' width and groups them.

    ``positional_embedding`` is the reference's name for the projection; it holds no positions.
    """

    def __init__(self, feature_dim: int, slot_dim: int, iterations: int) -> None:
        super().__init__()
        self.positional_embedding = nn.Sequential(
            nn.LayerNorm(feature_dim),
            nn.Linear(feature_dim, feature_dim),
            nn.ReLU(),
            nn.Linear(feature_dim, slot_dim),
        )
        self.slot_attention = SlotAttention(slot_dim, iterations)

    def forward(self, tokens: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, N, D) and initial slots to slots and attention, as `SlotAttention.forward`."""
        projected = self.positional_embedding(tokens)
        # The iteration is small and feeds back into itself: always in full precision.
        with torch.autocast(tokens.device.type, enabled=False):
            return self.slot_attention(projected.float(), slots.float())  # type: ignore[no-any-return]


class PatchDecoder(nn.Module):
    """Every slot predicts the feature of every patch, and a logit of owning it.

    The last layer is linear and the masks sum to 1 over slots, so that hidden values are mixed first
    and the features of a patch are computed once, not once a slot.

    Args:
        slot_dim: channels of a slot.
        feature_dim: channels D of the features.
        hidden: width of each hidden layer, from the first to the last.
        frames: S, time steps that positions are stored for.
        grid: side of the square grid of patches that positions are stored for.
    """

    def __init__(
        self, slot_dim: int, feature_dim: int, hidden: Sequence[int], frames: int, grid: int
    ) -> None:
        super().__init__()
        self.grid = grid
        self.pos_embed = nn.Parameter(torch.randn(frames, grid * grid, slot_dim) * 0.02)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((slot_dim, *hidden)):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.decoder = nn.Sequential(*layers, nn.Linear(hidden[-1], feature_dim + 1))
        self._grids = GridCache()

    def forward(self, slots: Tensor, size: tuple[int, int], steps: Tensor | None = None) -> Reconstruction:
        """Decode slots (B, K, slot_dim) on a grid of h x w patches; gradients reach everything.

        Args:
            slots: (B, K, slot_dim).
            size: (h, w).
            steps: (s,) indices of the time steps to decode; all if None.
        """
        hidden = self._hidden(slots, self._by_place(size, steps))
        masks = self._logits(hidden).softmax(dim=1)
        mixed = torch.einsum("bksxy,bksxyd->bsxyd", masks.to(hidden.dtype), hidden)
        last = self._last
        return Reconstruction(F.linear(mixed, last.weight[:-1], last.bias[:-1]), masks)

    def masks(self, slots: Tensor, size: tuple[int, int]) -> Tensor:
        """Decode only the masks, (B, K, S, h, w), of slots (B, K, slot_dim)."""
        by_place = self._by_place(size)
        values = by_place.shape[:-1].numel() * self._last.in_features
        most = _DECODED_ON_CPU if slots.device.type == "cpu" else _DECODED_ELSEWHERE
        some = max(1, most // values)
        parts = slots.flatten(0, 1)[None].split(some, dim=1)
        logits = [self._logits(self._hidden(part, by_place)) for part in parts]
        by_slot = torch.cat(logits, dim=1)[0]
        return by_slot.view(*slots.shape[:2], *by_slot.shape[1:]).softmax(dim=1)

    def prepare(self, precision: torch.dtype) -> None:
        """Lay out the layers between the first and the last for inference."""
        for index in range(2, len(self.decoder) - 1, 2):
            layer: nn.Linear = self.decoder[index]  # type: ignore[assignment]
            self.decoder[index] = PackedLinear.of(layer, precision, "relu")
            self.decoder[index + 1] = nn.Identity()

    @property
    def _first(self) -> nn.Linear:
        return self.decoder[0]  # type: ignore[return-value]

    @property
    def _last(self) -> nn.Linear:
        return self.decoder[-1]  # type: ignore[return-value]

    def _by_place(self, size: tuple[int, int], steps: Tensor | None = None) -> Tensor:
        """(S, h, w, decoder_dim) what the first layer makes of positions, of all time steps or some."""
        table = self.pos_embed if steps is None else self.pos_embed[steps]
        positions = self._grids.resize(table.unflatten(1, (self.grid, self.grid)), size)
        return F.linear(positions, self._first.weight, self._first.bias)

    def _hidden(self, slots: Tensor, by_place: Tensor) -> Tensor:
        """(B, K, S, h, w, decoder_dim) values before the last layer."""
        # The first layer of (slot + position) is the sum of the layer of each.
        by_slot = F.linear(slots, self._first.weight)[:, :, None, None, None]
        return self.decoder[1:-1](by_slot + by_place)  # type: ignore[no-any-return]

    def _logits(self, hidden: Tensor) -> Tensor:
        """(B, K, S, h, w) float32 logits of owning a patch."""
        last = self._last
        weight, bias = last.weight[-1:].to(hidden), last.bias[-1:].to(hidden)
        return F.linear(hidden, weight, bias)[..., 0].float()


class SlotAttentionGrouper(Grouper):
    """Find slots in the features of a whole clip by joint space-time slot attention.

    Args:
        weights: path of a checkpoint, or the name of one that comes with the plugin; None leaves the
            weights random.
        num_slots: slots K; at most so many objects are found in a clip.
        slot_dim: channels of a slot.
        feature_dim: channels D of the encoder's features.
        frames: time steps S of the features, exactly.
        iterations: rounds of attention.
        decoder_dim: hidden width of the decoder.
        decoder_layers: hidden layers of the decoder.
        position_grid: side of the square grid that the decoder's positions are stored for.
        masks: of the ``decoder``, as published, or the last iteration's ``attention``, which covers more
            objects early in training.

    Attributes:
        name: that errors call it.
        steps: S, time steps of the features of a clip.
        has_weights: whether weights were loaded, so that a training goes on from them.

    Raises:
        SettingError: if the numbers make a network larger than the machine's memory.
        WeightsError: if the weights can't be read or do not fit.
    """

    name = "slot_attention"
    has_weights = False

    def __init__(
        self,
        *,
        weights: Annotated[str | None, Weights] = None,
        num_slots: Slots = 15,
        slot_dim: Width = 128,
        feature_dim: Annotated[Width, FromEncoder("dim")] = 768,
        frames: Annotated[Cells, FromEncoder("steps")] = 8,
        iterations: Rounds = 3,
        decoder_dim: Width = 1024,
        decoder_layers: Layers = 3,
        position_grid: Cells = 14,
        masks: Literal["decoder", "attention"] = "decoder",
    ) -> None:
        super().__init__()
        decoder = decoder_dim * (slot_dim + feature_dim + decoder_layers * decoder_dim)
        places, slots = frames * position_grid**2 * slot_dim, slot_dim * (10 * slot_dim + 2 * feature_dim)
        shape = f"slot_dim={slot_dim}, feature_dim={feature_dim}, decoder_dim={decoder_dim}"
        check_fits(f"slot_attention: {shape}, position_grid={position_grid}", decoder + places + slots)
        self.num_slots = self.max_objects = num_slots
        self.slot_dim, self.feature_dim = slot_dim, feature_dim
        self.frames = self.steps = frames
        self.position_grid, self._masks_from = position_grid, masks
        self.conditioning = Conditioning(slot_dim)
        self.grouping = Grouping(feature_dim, slot_dim, iterations)
        hidden = [decoder_dim] * decoder_layers
        self.decoder = PatchDecoder(slot_dim, feature_dim, hidden, frames, position_grid)
        if weights is not None:
            self.load_weights(resolve_weights(weights, BUNDLED))

    def group(self, features: Features, draws: Sequence[Generator]) -> SlotMasks:
        return SlotMasks(self.masks(features.grid, self.noise(draws)))

    def masks(self, grid: Tensor, noise: Tensor) -> Tensor:
        """(B, K, S, h, w) masks that sum to 1 over K; arguments and errors as `slots`."""
        return self.masks_of(*self.slots(grid, noise), grid)

    def masks_of(self, slots: Tensor, attention: Tensor, grid: Tensor) -> Tensor:
        """The masks that the settings ask for, (B, K, S, h, w), from what `slots` gave for the grid."""
        if self._masks_from == "attention":
            return attention.unflatten(2, grid.shape[1:4])  # type: ignore[no-any-return]
        return self.decoder.masks(slots, (grid.shape[2], grid.shape[3]))

    def reconstruct(self, grid: Tensor, noise: Tensor, steps: Tensor | None = None) -> Reconstruction:
        """Group features and decode the slots in full, for training.

        Args:
            grid: (B, S, h, w, D) features.
            noise: (B, K, slot_dim) standard normal draws.
            steps: (s,) indices of the time steps to decode; all if None.
        """
        slots, _ = self.slots(grid, noise)
        return self.decoder(slots, (grid.shape[2], grid.shape[3]), steps)  # type: ignore[no-any-return]

    def noise(self, draws: Sequence[Generator]) -> Tensor:
        """(B, K, slot_dim) float32 standard normal draws on the CPU, one generator a clip."""
        shape = (self.num_slots, self.slot_dim)
        return torch.stack([torch.randn(shape, generator=generator) for generator in draws])

    def slots(self, grid: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Find the slots of every clip.

        Args:
            grid: (B, S, h, w, D) features.
            noise: (B, K, slot_dim) standard normal draws, on any device.

        Returns:
            Slots (B, K, slot_dim), and attention (B, K, S*h*w) as `SlotAttention.forward`.

        Raises:
            SettingError: if S or D differs from the settings.
        """
        self._check(grid)
        initial = self.conditioning(noise.to(grid.device, torch.float32))
        return self.grouping(grid.flatten(1, 3), initial)  # type: ignore[no-any-return]

    def prepare(self, precision: torch.dtype) -> None:
        self.decoder.prepare(precision)  # the iteration itself stays float32

    def load_weights(self, path: Path) -> None:
        """Load a state dict of the reference's grouping model, or one saved by this project.

        Raises:
            WeightsError: if the file can't be read, or names or shapes do not fit.
        """
        state = read_state(path)
        table, wanted = state.get("decoder.pos_embed"), self.decoder.pos_embed
        # Older files hold the positions of all time steps in one row: (1, S*h*w, D).
        if table is not None and len(table) == 1 and table.numel() == wanted.numel():
            state = {**state, "decoder.pos_embed": table.view(wanted.shape)}
        load_strict(self, state, path, ignored=_ENCODER)
        self.has_weights = True

    def _check(self, grid: Tensor) -> None:
        steps, width = grid.shape[1], grid.shape[4]
        if steps != self.frames:
            raise SettingError(
                f"{self.name}: features of {steps} time steps; expected grouper.frames="
                f"{self.frames}, as its positions are trained for exactly that many."
            )
        if width != self.feature_dim:
            raise SettingError(
                f"{self.name}: features of {width} channels; expected grouper.feature_dim={self.feature_dim}."
            )
