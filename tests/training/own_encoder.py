"""A plugin with an encoder and a recipe on `EncoderRecipe`: features predict colours of the next frame."""

import torch.nn.functional as F
from torch import nn

from ovvol_bench import Encoder, Entry, Features, hookimpl
from ovvol_bench.training import EncoderRecipe
from ovvol_bench.weights import load_strict, read_state


class OwnEncoder(Encoder):
    patch_size, tubelet_size, dim = 16, 1, 6

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, self.dim)

    def encode(self, video):
        pooled = F.avg_pool2d(video.flatten(0, 1), self.patch_size).unflatten(0, video.shape[:2])
        return Features(self.layer(pooled.permute(0, 1, 3, 4, 2)))

    def load_weights(self, path):
        load_strict(self, read_state(path), path)


class NextFrame(EncoderRecipe):
    """Predict the features of the next frame.

    Args:
        task: with the encoder.
        weight: of the loss.
    """

    def __init__(self, task, *, weight: float = 1.0, **base):
        super().__init__(task, **base)
        self.weight = weight
        self.predict = nn.Linear(self.encoder.dim, 3)

    def losses(self, video, batch):
        grid = self.encoder.encode(video).grid
        colours = F.avg_pool2d(video.flatten(0, 1), 16).unflatten(0, video.shape[:2]).permute(0, 1, 3, 4, 2)
        return {"loss": self.weight * F.mse_loss(self.predict(grid[:, :-1]), colours[:, 1:])}


@hookimpl
def ovvol_encoders():
    yield Entry("own", OwnEncoder, "mean colours", {"own": NextFrame})
