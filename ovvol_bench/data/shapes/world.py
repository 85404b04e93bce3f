"""Names of the `shapes` world, and its scenes, drawn at random.

A name is a texture and a form ("striped star"), so that a name held out of training is still made of
known words. Objects move, turn, grow and cross each other before a moving textured background. The
splits differ in seeds and in everything that fills a surface: hues, texture periods and angles come
from interleaved bins, and half of the test backgrounds are of kinds that training never shows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from ovvol_bench.data.motion import motion_iou
from ovvol_bench.naming.vocabulary import ForegroundClass, Vocabulary
from ovvol_bench.types import FrameTruth

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


Array = npt.NDArray[np.float64]

MIN_VISIBLE_PIXELS = 60
MIN_VISIBLE_SHARE = 0.15
OCCLUDED_BELOW = 0.7
JPEG_QUALITY = 95

_REACH = 1.01  # of the radius: the corners of a cross lie a little outside of it
_SOFT_EDGE = 2.0  # pixels; the sharpest tip, a star's, is soft for 1.3


@dataclass(frozen=True)
class Video:
    """A rendered scene.

    Attributes:
        source: (T, H, W, 3) uint8 RGB as rendered.
        frames: the same as they come back from JPEG files, which is what datasets hand out.
        masks: (T, H, W) uint8, 0 background, else 1 + track id of the front-most object.
        truth: one entry a frame.
    """

    source: npt.NDArray[np.uint8]
    frames: npt.NDArray[np.uint8]
    masks: npt.NDArray[np.uint8]
    truth: tuple[FrameTruth, ...]


def render(scene: Scene) -> Video:
    """Render all frames of a scene at 96 x 128 pixels."""
    ys, xs = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    backdrop = _backdrop(scene)
    frames, masks, truths = [], [], []
    for t in range(scene.frames):
        image = _window(backdrop, scene, t)
        owner = np.zeros((HEIGHT, WIDTH), np.uint8)
        whole = np.zeros(len(scene.objects))
        for track, thing in enumerate(scene.objects):
            window = _reach(thing, t)
            alpha, color = _paint(thing, t, xs[window], ys[window])
            image[window] += alpha[..., None] * (color - image[window])
            owner[window][alpha > 0.5] = track + 1
            whole[track] = (alpha > 0.5).sum()
        frames.append(np.round(np.clip(image, 0, 1) * 255).astype(np.uint8))
        masks.append(owner)
        truths.append(_truth(scene, owner, whole))
    # as they read back from their files: rendered and stored datasets are then equal
    stored = [cv2.imdecode(np.frombuffer(encode_jpeg(frame), np.uint8), cv2.IMREAD_COLOR) for frame in frames]
    read_back = np.stack([np.asarray(frame, np.uint8)[..., ::-1] for frame in stored])
    return Video(np.stack(frames), read_back, np.stack(masks), _with_motion_iou(truths))


def encode_jpeg(frame: npt.NDArray[np.uint8]) -> bytes:
    """JPEG bytes of an RGB frame, as the prepared folders hold them."""
    data = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    return bytes(data.tobytes())


# --- surfaces ---------------------------------------------------------------------------------------


def _noise(shape: tuple[int, int], cell: float, rng: np.random.Generator) -> Array:
    """Smooth noise in [0, 1] whose blotches are about ``cell`` pixels wide."""
    small = rng.uniform(size=(max(2, round(shape[0] / cell)), max(2, round(shape[1] / cell))))
    field = cv2.resize(small, shape[::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray((field - field.min()) / (field.max() - field.min() + 1e-9))


def _edge(wave: Array, sharpness: float) -> Array:
    """Turn a wave in [-1, 1] into a pattern in [0, 1] with soft edges."""
    return np.asarray(0.5 + 0.5 * np.clip(sharpness * wave, -1, 1))


def _pattern(surface: Surface, u: Array, v: Array) -> Array:  # noqa: PLR0911 - a case a kind
    """(H, W) share of the second colour at turned coordinates in pixels."""
    rng, period = np.random.default_rng(surface.seed), surface.period
    noise = partial(_noise, u.shape, rng=rng)
    match surface.kind:
        case "clouds":
            return 0.65 * noise(2 * period) + 0.35 * noise(period / 2)
        case "gravel":
            return 0.8 * noise(period / 4) + 0.2 * noise(2 * period)
        case "marble":
            return np.asarray(0.5 + 0.5 * np.sin((u + v) / period + 6 * noise(2 * period))) ** 2
        case "bricks":
            row = np.floor(v / period)
            along = (u / (2 * period) + 0.5 * (row % 2)) % 1
            mortar = np.minimum(np.minimum(along, 1 - along) * 2 * period, (v / period % 1) * period)
            return np.clip(mortar - 0.8, 0, 1) * (0.7 + 0.3 * noise(period))
        case "ripples":
            ripple = np.sin(2.2 * v / period + 10 * noise(3 * period))
            return np.asarray(0.5 + 0.35 * ripple) + 0.15 * noise(4)
        case "fog":
            return 0.8 * noise(4 * period) + 0.2 * noise(3)
        case "striped":
            return _edge(np.sin(2 * np.pi * u / period), period / 3)
        case "dotted":
            return _edge(0.31 - np.hypot(u / period % 1 - 0.5, v / period % 1 - 0.5), period)
        case "checkered":
            return _edge(np.sin(2 * np.pi * u / period) * np.sin(2 * np.pi * v / period), period / 2)
        case _:  # plain, with a faint gradient
            return np.asarray(np.clip(0.15 + (u + v) / 400, 0, 0.3))


def _fill(surface: Surface, x: Array, y: Array) -> Array:
    """(H, W, 3) colours of a surface at pattern coordinates in pixels."""
    cos, sin = np.cos(surface.angle), np.sin(surface.angle)
    blend = _pattern(surface, cos * x + sin * y, cos * y - sin * x)[..., None]
    return np.asarray(surface.colors[0] * (1 - blend) + surface.colors[1] * blend)


def _backdrop(scene: Scene) -> npt.NDArray[np.float32]:
    """Background of the whole video: as large as the drift takes the window."""
    margin = [int(np.ceil(abs(d) * scene.frames)) + 2 for d in scene.drift]
    ys, xs = np.mgrid[: HEIGHT + margin[1], : WIDTH + margin[0]].astype(float)
    return _fill(scene.background, xs, ys).astype(np.float32)


def _window(backdrop: npt.NDArray[np.float32], scene: Scene, t: int) -> Array:
    """Part of the background that frame ``t`` sees, at sub-pixel position."""
    start = [d * t if d >= 0 else -d * (scene.frames - t) for d in scene.drift]
    shift = np.array([[1.0, 0.0, start[0]], [0.0, 1.0, start[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    window = cv2.warpAffine(backdrop, shift, (WIDTH, HEIGHT), flags=flags, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(window, float)


# --- objects ----------------------------------------------------------------------------------------


def _distance(form: str, u: Array, v: Array) -> Array:
    """Signed distance, or a field that behaves like it, from the edge of a form of circumradius 1."""
    if form == "circle":
        return np.asarray(np.hypot(u, v)) - 0.92
    if form == "cross":
        a, b = np.abs(u), np.abs(v)
        return np.minimum(np.maximum(a - 0.95, b - 0.33), np.maximum(a - 0.33, b - 0.95))
    # triangle and star: fold all corners onto one, then measure from the line to its neighbouring notch
    corners, inner = (3, 0.5) if form == "triangle" else (5, 0.45)
    half = np.pi / corners
    angle = np.abs((np.arctan2(v, u) + half) % (2 * half) - half)
    r = np.hypot(u, v)
    x, y = r * np.cos(angle), r * np.sin(angle)
    edge = np.array([inner * np.cos(half) - 1, inner * np.sin(half)])
    edge /= np.hypot(*edge)
    return np.asarray(edge[1] * (x - 1) - edge[0] * y)


def _reach(thing: SceneObject, t: int) -> tuple[slice, slice]:
    """Rows and columns that an object can cover in frame ``t``; coverage is 0 elsewhere."""
    # Most of a frame is far from any one object, and painting costs by the pixel.
    reach = _REACH * thing.radius * thing.growth**t + _SOFT_EDGE
    x, y = (start + speed * t for start, speed in zip(thing.center, thing.velocity, strict=True))
    rows, columns = (
        slice(max(0, int(place - reach)), min(side, max(0, int(place + reach) + 2)))
        for place, side in ((y, HEIGHT), (x, WIDTH))
    )
    return rows, columns


def _paint(thing: SceneObject, t: int, xs: Array, ys: Array) -> tuple[Array, Array]:
    """Coverage (H, W) in [0, 1] and colours (H, W, 3) of an object in frame ``t``, at some pixels."""
    size = thing.growth**t
    angle = thing.angle + thing.spin * t
    cos, sin = np.cos(angle), np.sin(angle)
    dx = (xs - thing.center[0] - thing.velocity[0] * t) / size
    dy = (ys - thing.center[1] - thing.velocity[1] * t) / size
    u, v = cos * dx + sin * dy, cos * dy - sin * dx
    distance = _distance(thing.form, u / thing.radius, v / thing.radius) * thing.radius * size
    return np.clip(0.5 - distance, 0, 1), _fill(thing.surface, u, v)


# --- truth ------------------------------------------------------------------------------------------


def _truth(scene: Scene, owner: npt.NDArray[np.uint8], whole: Array) -> FrameTruth:
    """Boxes around the visible parts; slivers are left out, as an annotator would."""
    tracks, boxes, occluded, masks = [], [], [], []
    for track in range(len(scene.objects)):
        mask = owner == track + 1
        visible = int(mask.sum())
        if visible < max(MIN_VISIBLE_PIXELS, MIN_VISIBLE_SHARE * whole[track]):
            continue
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        tracks.append(track)
        boxes.append((columns[0], rows[0], columns[-1], rows[-1]))
        occluded.append(visible < OCCLUDED_BELOW * whole[track])
        masks.append(mask)
    ids = [scene.objects[track].class_id for track in tracks]
    return FrameTruth(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        class_ids=np.array(ids, np.int64),
        track_ids=np.array(tracks, np.int64),
        occluded=np.array(occluded, bool),
        generated=np.zeros(len(tracks), bool),
        motion_iou=np.full(len(tracks), np.nan, np.float32),
        masks=np.stack(masks) if masks else np.zeros((0, HEIGHT, WIDTH), bool),
    )


def _with_motion_iou(truths: list[FrameTruth]) -> tuple[FrameTruth, ...]:
    """Add every box's motion IoU, from the tracks of the whole video."""
    counts = [len(truth) for truth in truths]
    values = motion_iou(
        videos=np.zeros(sum(counts), np.int64),
        frames=np.repeat(np.arange(len(truths)), counts),
        tracks=np.concatenate([truth.track_ids for truth in truths]),
        boxes=np.concatenate([truth.boxes for truth in truths]),
    )
    parts = np.split(values, np.cumsum(counts)[:-1])
    return tuple(replace(truth, motion_iou=part) for truth, part in zip(truths, parts, strict=True))
