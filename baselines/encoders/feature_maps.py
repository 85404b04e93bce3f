"""Networks of timm that are no plain vision transformers, frame by frame: their feature maps.

EVA-02 and DINOv3, BEiT, Swin, Hiera, SAM's image encoder and convolutional networks.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from timm.models.hiera import Hiera
from torch import Tensor

from ovvol_bench import Encoder, Features, SettingError
from ovvol_bench.weights import load_strict, read_state

from .vit_files import NOT_NEEDED, needed


class FeatureMaps(Encoder):
    """A network that sees every frame alone; one of its feature maps.

    Args:
        model: of timm, with ``forward_intermediates``.
        name: of it.
        stride: pixels between neighbouring features, which tells the map; None: the last one.

    The channels of a map may change in a last norm or neck: ``dim`` is what timm states until `build_timm`
    has looked.

    Raises:
        SettingError: if it has no such map.
    """

    tubelet_size = 1

    def __init__(self, model: torch.nn.Module, name: str, stride: int | None = None) -> None:
        super().__init__()
        if not hasattr(model, "forward_intermediates") or not hasattr(model, "feature_info"):
            raise SettingError(f"timm model '{name}' ({type(model).__name__}) gives no feature maps.")
        self.name = name
        self.model: Any = model  # of a library without types
        stated: Any = model.feature_info
        infos: list[dict[str, Any]] = list(getattr(stated, "info", stated))
        strides = [int(info["reduction"]) for info in infos]
        if stride is not None and stride not in strides:
            known = ", ".join(map(str, sorted(set(strides))))
            raise SettingError(f"timm model '{name}' has no map with stride={stride}; it has {known}.")
        self.patch_size = strides[-1] if stride is None else stride
        self._map = max(index for index, each in enumerate(strides) if each == self.patch_size)
        self._norm = not isinstance(model, Hiera)  # which has it in its classifier alone
        self.dim = int(infos[self._map]["num_chs"])
        published: Any = self.model.pretrained_cfg
        self.mean, self.std = (tuple(published[key]) for key in ("mean", "std"))

    def encode(self, video: Tensor) -> Features:
        """See `Encoder.encode`.

        Raises:
            SettingError: if the network takes no frames of this size.
        """
        height, width = video.shape[3:]
        try:
            (found,) = self.model.forward_intermediates(
                video.flatten(0, 1), indices=[self._map], norm=self._norm, intermediates_only=True
            )
        except torch.OutOfMemoryError:
            raise
        except (AssertionError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise SettingError(
                f"timm model '{self.name}' takes no frames of {height} x {width} pixels ({reason}). Set "
                f"-o encoder.image_size={height},{width}, or take a model that takes any size."
            ) from error
        return Features(found.permute(0, 2, 3, 1).unflatten(0, video.shape[:2]))

    def load_weights(self, path: Path) -> None:
        """Load a file of timm's, or one of a layout that timm converts for this network."""
        convert = getattr(sys.modules[type(self.model).__module__], "checkpoint_filter_fn", None)
        state = read_state(path)
        if convert is not None:
            state = convert(state, self.model)
        classifier = self.model.pretrained_cfg.get("classifier") or ()
        heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
        unused = (*NOT_NEEDED, *(f"{head}.*" for head in heads))
        load_strict(self.model, needed(state, self.model, unused), path)
