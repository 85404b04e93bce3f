"""Names of the `shapes` world, and its scenes, drawn at random.

A name is a texture and a form ("striped star"), so that a name held out of training is still made of
known words. Objects move, turn, grow and cross each other before a moving textured background. The
splits differ in seeds and in everything that fills a surface: hues, texture periods and angles come
from interleaved bins, and half of the test backgrounds are of kinds that training never shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ovvol_bench.naming.vocabulary import ForegroundClass, Vocabulary

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

# Part of every fingerprint: raise it whenever a change moves a pixel or a box.
WORLD_VERSION = 1

HEIGHT, WIDTH = 96, 128
FRAMES = 24
MOST_OBJECTS = 4
TEXTURES = ("striped", "dotted", "checkered", "plain")
FORMS = ("circle", "triangle", "star", "cross")
HELD_OUT = frozenset({"dotted circle", "striped triangle", "plain star", "checkered cross"})
BACKGROUNDS: dict[Split, tuple[str, ...]] = {
    "train": ("clouds", "gravel", "marble", "bricks"),
    "val": ("clouds", "gravel", "marble", "bricks"),
    "test": ("clouds", "marble", "ripples", "fog"),
}

_BINS = 12  # surface parameters fall into 12 bins: bin b belongs to train unless b % 3 is 1 or 2


def shapes_vocabulary() -> Vocabulary:
    """The 16 names, 4 of them held out of every training, and the background words."""
    names = [f"{texture} {form}" for texture in TEXTURES for form in FORMS]
    return Vocabulary(
        name="shapes",
        classes=tuple(
            ForegroundClass(name, code=name.replace(" ", "_"), held_out=name in HELD_OUT) for name in names
        ),
        background=(*BACKGROUNDS["train"], "background"),
        templates=("a photo of a %s",),
    )


@dataclass(frozen=True)
class Surface:
    """Filling of an object or of the background.

    Attributes:
        kind: a texture of ``TEXTURES`` or a background kind.
        colors: (2, 3) RGB in [0, 1], the main colour and the second one.
        period: of the pattern, pixels.
        angle: of the pattern, radians.
        seed: of the noise fields.
    """

    kind: str
    colors: np.ndarray
    period: float
    angle: float
    seed: int


@dataclass(frozen=True)
class SceneObject:
    """An object and its straight, turning, growing path.

    Attributes:
        class_id: in [1, 16].
        form: of ``FORMS``.
        surface: what fills it; moves and turns with the object.
        center: (x, y) at frame 0, pixels; may lie outside the frame (entering).
        velocity: pixels a frame.
        radius: circumradius at frame 0, pixels.
        growth: factor a frame.
        angle, spin: radians, radians a frame.
    """

    class_id: int
    form: str
    surface: Surface
    center: tuple[float, float]
    velocity: tuple[float, float]
    radius: float
    growth: float
    angle: float
    spin: float


@dataclass(frozen=True)
class Scene:
    """A video before rendering: objects from back to front, and the background's drift.

    Attributes:
        background: the surface behind all objects.
        drift: (x, y) pixels a frame.
        objects: back to front; the position is the track id.
        frames: number of frames.
    """

    background: Surface
    drift: tuple[float, float]
    objects: tuple[SceneObject, ...]
    frames: int


def video_id(split: Split, index: int) -> str:
    """Name of a video in results and folders."""
    return f"shapes_{split}_{index:08d}"


def class_names(split: Split) -> list[str]:
    """Names that may appear in a split: training and validation never show a held-out one."""
    names = [c.name for c in shapes_vocabulary().classes]
    return names if split == "test" else [n for n in names if n not in HELD_OUT]


def draw_scene(split: Split, index: int, seed: int = 0, frames: int = FRAMES) -> Scene:
    """Draw video ``index`` of a split; the same arguments always give the same scene."""
    # The order of the draws decides the scene: change none without raising WORLD_VERSION.
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    speed, heading = rng.uniform(0.2, 1.5), rng.uniform(0, 2 * np.pi)
    count = int(rng.integers(1, MOST_OBJECTS + 1))
    dark, light = rng.uniform(0.15, 0.45), rng.uniform(0.5, 0.8)
    colors = [_color(rng, split, value, rng.uniform(0.1, 0.6)) for value in (dark, light)]
    kind = str(rng.choice(BACKGROUNDS[split]))
    period, angle = 10 + 14 * _bin(rng, split), np.pi * _bin(rng, split)
    return Scene(
        background=Surface(kind, np.stack(colors), period, angle, int(rng.integers(2**31))),
        drift=(float(speed * np.cos(heading)), float(speed * np.sin(heading))),
        objects=tuple(_object(rng, split, frames) for _ in range(count)),
        frames=frames,
    )


def _bin(rng: np.random.Generator, split: Split) -> float:
    """Draw a number in [0, 1) from the split's own bins."""
    wanted = SPLITS.index(split)
    chosen = int(rng.integers(_BINS // 3)) * 3 + wanted
    return float((chosen + rng.uniform()) / _BINS)


def _color(rng: np.random.Generator, split: Split, value: float, saturation: float) -> np.ndarray:
    hue = 6 * _bin(rng, split)
    ramp = np.clip(np.abs((hue + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    return np.asarray(value * (1 - saturation + saturation * ramp))


def _object(rng: np.random.Generator, split: Split, frames: int) -> SceneObject:
    names = class_names(split)
    name = names[int(rng.integers(len(names)))]
    texture, form = name.split()
    radius = rng.uniform(15, 27)
    # The path is fixed by where it passes the middle of the video, so that every object is seen; the
    # speed then decides whether it enters or leaves on the way.
    speed, heading = rng.uniform(0.3, 3.0), rng.uniform(0, 2 * np.pi)
    velocity = (float(speed * np.cos(heading)), float(speed * np.sin(heading)))
    middle = (rng.uniform(0.1, 0.9) * WIDTH, rng.uniform(0.1, 0.9) * HEIGHT)
    when = rng.uniform(0.2, 0.8) * frames
    return SceneObject(
        class_id=TEXTURES.index(texture) * len(FORMS) + FORMS.index(form) + 1,
        form=form,
        surface=_texture(rng, split, texture),
        center=(middle[0] - when * velocity[0], middle[1] - when * velocity[1]),
        velocity=velocity,
        radius=float(radius),
        growth=float(np.exp(rng.uniform(-0.012, 0.012))),
        angle=float(rng.uniform(0, 2 * np.pi)),
        spin=float(rng.uniform(-0.08, 0.08)),
    )


def _texture(rng: np.random.Generator, split: Split, texture: str) -> Surface:
    bright = _color(rng, split, rng.uniform(0.8, 1.0), rng.uniform(0.4, 1.0))
    dark = _color(rng, split, rng.uniform(0.1, 0.4), rng.uniform(0.2, 1.0))
    colors = [bright, dark] if rng.uniform() < 0.5 else [dark, bright]
    if texture == "plain":
        colors = [_color(rng, split, rng.uniform(0.4, 1.0), rng.uniform(0.5, 1.0)), bright]
    period = {"striped": 7.0, "dotted": 8.0, "checkered": 10.0, "plain": 1.0}[texture]
    period *= 0.85 + 0.4 * _bin(rng, split)
    return Surface(texture, np.stack(colors), period, np.pi * _bin(rng, split), int(rng.integers(2**31)))
