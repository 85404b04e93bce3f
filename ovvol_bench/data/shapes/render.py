"""Scenes to pixels, masks and truth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt

from ovvol_bench.data.motion import motion_iou
from ovvol_bench.data.shapes.world import HEIGHT, WIDTH, Scene, SceneObject, Surface
from ovvol_bench.types import FrameTruth

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
