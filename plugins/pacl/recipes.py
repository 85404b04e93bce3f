"""The settings of the labeler's trainings; what runs is in `training` and `clip_training`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

from ovvol_bench.registry.annotations import BatchSize, Side

if TYPE_CHECKING:
    from ovvol_bench.training import Recipe, TrainingTask


def pacl_recipe(
    task: TrainingTask,
    *,
    optimizer: Literal["sgd", "adamw"] = "sgd",
    batch_size: BatchSize = 16384,
    learning_rate: float = 1.0,
    final_learning_rate: float = 1e-7,
    warmup_steps: int = 0,
    epochs: float = 200,
    momentum: float = 0.9,
    betas: tuple[float, float] = (0.9, 0.999),
    weight_decay: float = 1e-4,
    clip_gradients: float | None = None,
    image_size: Side = 224,
    smallest_crop: float = 0.9,
    interpolation: Literal["bicubic", "bilinear"] = "bicubic",
    flip: bool = True,
    quarter_turns: bool = False,
    shuffle_colors: bool = False,
    gather_negatives: bool = False,
    mosaic: int = 1,
    target: Literal["image", "caption"] = "image",
    caption_decay: float = 1.0,
    max_captions: int = 16,
    temperature: float = 1.0,
) -> Recipe:
    """Train PACL's head on a frozen CLIP, with pictures alone or with captions.

    Patches are pooled by their likeness to the frozen tower's embedding of the picture, and matched with it
    against the other pictures. These are, as in the reference, those that the same process computes at
    the same time: the loss then depends on the number of processes. A step can't be computed in parts.

    Args:
        task: what to train, and on what.
        optimizer: ``sgd``, or ``adamw``, which wants a learning rate of about 1e-3.
        batch_size: pictures an optimizer step, over all processes; the published run had 4 nodes of 4096.
        learning_rate: at the start.
        final_learning_rate: what the cosine ends at.
        warmup_steps: steps in which the learning rate rises.
        epochs: passes over the pictures.
        momentum: of SGD.
        betas: of AdamW.
        weight_decay: L2 for SGD, decoupled for AdamW.
        clip_gradients: largest norm of all gradients together; none: not clipped.
        image_size: side of the pictures, pixels; a multiple of the labeler's ``patch_size``.
        smallest_crop: least share of a picture's area that a random crop has; 1: as much as fits.
        interpolation: that crops are resized with.
        flip: mirror half of the pictures.
        quarter_turns: as in the recipe clip.
        shuffle_colors: as in the recipe clip.
        gather_negatives: compare with the pictures of all processes: their number then changes nothing.
        mosaic: n: patches come from mosaics of n x n pictures, and are pooled tile by tile; this project's
            own, for small networks, which otherwise spread a picture's content over all its patches.
        target: what patches are pooled by and matched with: the tower's embedding of the ``image``, as in the
            reference, or the text tower's of a ``caption``, as in the paper on PACL; all captions of the
            batch that are true of a picture are then its targets (UniCL).
        caption_decay: of the target ``caption``, as in the recipe clip.
        max_captions: of the target ``caption``: captions that a picture may have.
        temperature: cosines are divided by it; 1 in the reference.

    Raises:
        SettingError: if a number is out of range or does not fit the labeler.
    """
    from ovvol_bench.training import Optimization
    from ovvol_bench.training.optimization import warmup_cosine

    from .captions import Captions
    from .pictures import Views
    from .training import Contrast, PaclRecipe

    floor = final_learning_rate / learning_rate if learning_rate else 0.0
    optimization = Optimization(
        optimizer,
        learning_rate=learning_rate,
        factor=partial(warmup_cosine, warmup=warmup_steps, floor=floor),
        batch_size=batch_size,
        epochs=epochs,
        weight_decay=weight_decay,
        betas=betas,
        momentum=momentum,
        clip_gradients=clip_gradients,
    )
    bicubic = interpolation == "bicubic"
    examples = (
        Views(image_size, smallest_crop, flip, quarter_turns, shuffle_colors=shuffle_colors, bicubic=bicubic),
        Captions(caption_decay, max_captions) if target == "caption" else None,
    )
    return PaclRecipe(task, examples, Contrast(mosaic, gather_negatives, temperature), optimization)


def clip_recipe(
    task: TrainingTask,
    *,
    batch_size: BatchSize = 32768,
    learning_rate: float = 5e-4,
    warmup_steps: int = 2000,
    epochs: float = 32,
    betas: tuple[float, float] = (0.9, 0.98),
    weight_decay: float = 0.2,
    clip_gradients: float | None = None,
    smallest_crop: float = 0.9,
    flip: bool = False,
    quarter_turns: bool = False,
    color_jitter: float = 0.0,
    shuffle_colors: bool = False,
    caption_decay: float = 1.0,
    max_captions: int = 16,
    temperature: float | None = None,
    gather_negatives: bool = True,
    keep_unknown_words: bool = True,
) -> Recipe:
    """Train the labeler's image and text tower on pictures and captions; the head stays as it is.

    For pictures that no published CLIP knows. A caption may be true of several pictures of a step: all of
    them are its targets (UniCL). The defaults are CLIP's for ViT-B on 400 million pairs.

    Args:
        task: what to train, and on what.
        batch_size: pictures an optimizer step, over all processes.
        learning_rate: at its highest; a cosine takes it to 0.
        warmup_steps: steps in which it rises.
        epochs: passes over the pictures.
        betas: of AdamW.
        weight_decay: of AdamW.
        clip_gradients: largest norm of all gradients together; none: not clipped.
        smallest_crop: least share of a picture's area that a random crop has; 1: as much as fits.
        flip: mirror half of the pictures.
        quarter_turns: turn pictures by 0, 90, 180 or 270 degrees.
        color_jitter: brightness, contrast and saturation are each multiplied by up to 1 +- this.
        shuffle_colors: put red, green and blue in any order, and take the negative of half of the pictures;
            for captions that say nothing of colours.
        caption_decay: each pass draws one caption a picture, each further one this much less often than
            the one before; 1: all alike.
        max_captions: captions that a picture may have.
        temperature: cosines are divided by it; none: learned, from 0.07 and not below 0.01, as CLIP's.
        gather_negatives: compare with pictures and captions of all processes: their number then changes
            nothing. False: with this process's alone.
        keep_unknown_words: save the embedding of words that no caption had; false: their rows, nearly all
            of a small CLIP and random if it began so, are zero and take no space in the file.

    Raises:
        SettingError: if a number is out of range, or a picture has no caption or too many.
    """
    from ovvol_bench.training import Optimization
    from ovvol_bench.training.optimization import warmup_cosine

    from .captions import Captions
    from .clip_training import ClipRecipe, Matching
    from .pictures import Views
    from .training import checked_labeler

    optimization = Optimization(
        "adamw",
        learning_rate=learning_rate,
        factor=partial(warmup_cosine, warmup=warmup_steps),
        batch_size=batch_size,
        epochs=epochs,
        weight_decay=weight_decay,
        betas=betas,
        clip_gradients=clip_gradients,
    )
    size = checked_labeler(task).numbers.image_size
    views = Views(size, smallest_crop, flip, quarter_turns, color_jitter, shuffle_colors)
    return ClipRecipe(
        task,
        (views, Captions(caption_decay, max_captions)),
        Matching(temperature, gather_negatives),
        optimization,
        keep_unknown_words,
    )
