"""Ways to read clips of 224 x 400 pixels from 720p JPEGs and mp4s: the harness's and other libraries'.

A way opens a folder or file and gives a function from positions to (T, 224, 400, 3) frames, uint8 or float32.
Those of the harness resize as the reference does, on float values; others in the quick way of their library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from moving_scenes import frames

from ovvol_bench.data.imagenet_vid.prepare import Encoding, encode_mp4
from ovvol_bench.data.readers import FrameFolder
from ovvol_bench.data.video import Probe, VideoFile, decoding_worker

STORED, SIZE = (720, 1280), (224, 400)
QUALITY = 85
GOPS = (250, 12)
T, STRIDE, RANDOM_CLIPS = 8, 4, 25

Read = Callable[[Sequence[int]], np.ndarray]


def write_inputs(folder: Path, count: int, stored: tuple[int, int] = STORED) -> dict[str, Path]:
    """A folder of JPEGs and an mp4 with few and with many key frames, of the same frames; kept if there."""
    inputs = {"jpeg": folder / "jpeg", **{f"gop {gop}": folder / f"gop{gop}.mp4" for gop in GOPS}}
    if all(path.exists() for path in inputs.values()):
        return inputs
    inputs["jpeg"].mkdir(parents=True, exist_ok=True)
    pixels = list(frames(count, stored))
    for t, frame in enumerate(pixels):
        file = inputs["jpeg"] / f"{t:06d}.JPEG"
        cv2.imwrite(str(file), frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    for gop in GOPS:
        encoding = Encoding(short_side=stored[0], multiple=2, gop=gop)
        inputs[f"gop {gop}"].write_bytes(encode_mp4(pixels, stored, encoding))
    return inputs


def clips(pattern: str, count: int) -> list[range]:
    """``sequential``: a video as clips; ``random``: 25 clips of every fourth frame."""
    if pattern == "sequential":
        return [range(start, start + T) for start in range(0, count - T + 1, T)]
    span = (T - 1) * STRIDE + 1
    starts = np.random.default_rng(0).integers(0, count - span + 1, RANDOM_CLIPS).tolist()
    return [range(start, start + span, STRIDE) for start in starts]


@dataclass(frozen=True)
class Way:
    """A way to read.

    Attributes:
        name: in tables.
        of_jpegs: whether it reads a folder of JPEGs, else a video file.
        open: gives the function that reads; called once a worker.
        needs: module that must be there.
        shared: one decoding process serves all workers, as in a run.
    """

    name: str
    of_jpegs: bool
    open: Callable[[Path, int], Read]
    needs: str = "cv2"
    shared: bool = False

    @property
    def installed(self) -> bool:
        return find_spec(self.needs) is not None


def _own_jpegs(scaled: bool) -> Callable[[Path, int], Read]:
    return lambda path, count: (
        lambda places: FrameFolder(_files(path), _stored(path)).read(places, SIZE, scaled)
    )


def _own_video(backend: str, scaled: bool) -> Callable[[Path, int], Read]:
    def opened(path: Path, count: int) -> Read:
        reader = VideoFile(path, Probe(backend, count, STORED), decoding_worker())
        return lambda places: reader.read(places, SIZE, scaled)

    return opened


@cache
def _files(path: Path) -> list[Path]:
    return sorted(path.iterdir())


def _stored(path: Path) -> tuple[int, int]:
    return FrameFolder(_files(path)[:1]).frame_size


def _jpegs(one: Callable[[Path], np.ndarray]) -> Callable[[Path, int], Read]:
    return lambda path, count: lambda places: np.stack([one(_files(path)[place]) for place in places])


def _resized(pixels: np.ndarray) -> np.ndarray:
    return cv2.resize(pixels, SIZE[::-1], interpolation=cv2.INTER_LINEAR)


def _opencv(file: Path, flags: int = cv2.IMREAD_COLOR_RGB) -> np.ndarray:
    return _resized(cv2.imread(str(file), flags))


def _opencv_reduced(file: Path) -> np.ndarray:
    return _opencv(file, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_REDUCED_GRAYSCALE_2)


def _pillow(file: Path, draft: bool = False) -> np.ndarray:
    from PIL import Image

    with Image.open(file) as image:
        if draft:
            image.draft("RGB", SIZE[::-1])
        return np.asarray(image.resize(SIZE[::-1], Image.Resampling.BILINEAR))


def _torchvision(file: Path) -> np.ndarray:
    from torchvision.io import decode_jpeg, read_file
    from torchvision.transforms.v2.functional import resize

    return resize(decode_jpeg(read_file(str(file))), list(SIZE)).permute(1, 2, 0).numpy()


def _simplejpeg(file: Path, scaled: bool = False) -> np.ndarray:
    import simplejpeg

    height, width = SIZE if scaled else (0, 0)
    smallest = {"min_height": height, "min_width": width, "min_factor": 1} if scaled else {}
    return _resized(simplejpeg.decode_jpeg(file.read_bytes(), **smallest))


def _decord(path: Path, count: int) -> Read:
    import decord

    video = decord.VideoReader(str(path), height=SIZE[0], width=SIZE[1], num_threads=1)
    return lambda places: video.get_batch(list(places)).asnumpy()


def _opencv_video(path: Path, count: int) -> Read:
    def read(places: Sequence[int]) -> np.ndarray:
        capture, wanted = state["capture"], set(places)
        if places[0] < state["next"]:
            capture, state["next"] = cv2.VideoCapture(str(path)), 0
            state["capture"] = capture
        found = []
        while state["next"] <= places[-1]:
            capture.grab()
            if state["next"] in wanted:
                found.append(_resized(cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB)))
            state["next"] += 1
        return np.stack(found)

    state = {"capture": cv2.VideoCapture(str(path)), "next": 0}
    return read


def _pyav(path: Path, count: int) -> Read:
    import av

    container = av.open(str(path))
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    ticks = int(1 / (stream.time_base * stream.average_rate))
    state: dict[str, Iterator[av.VideoFrame] | int] = {"next": count}

    def read(places: Sequence[int]) -> np.ndarray:
        found, wanted = [], set(places)
        if places[0] != state["next"]:
            container.seek(places[0] * ticks, stream=stream)
            state["frames"] = container.decode(stream)
        for frame in state["frames"]:
            place = round(frame.pts / ticks)
            if place in wanted:
                found.append(frame.reformat(SIZE[1], SIZE[0], "rgb24").to_ndarray())
            state["next"] = place + 1
            if place >= places[-1]:
                break
        return np.stack(found)

    return read


def _torchcodec(path: Path, count: int) -> Read:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=1)
    return lambda places: np.stack(
        [_resized(frame) for frame in decoder.get_frames_at(list(places)).data.numpy()]
    )


WAYS = (
    Way("ovvol-bench", True, _own_jpegs(scaled=False)),
    Way("ovvol-bench, scale_at_decode", True, _own_jpegs(scaled=True)),
    Way("OpenCV", True, _jpegs(_opencv)),
    Way("OpenCV, half size", True, _jpegs(_opencv_reduced)),
    Way("simplejpeg", True, _jpegs(_simplejpeg), "simplejpeg"),
    Way("simplejpeg, scaled", True, _jpegs(lambda file: _simplejpeg(file, scaled=True)), "simplejpeg"),
    Way("torchvision", True, _jpegs(_torchvision), "torchvision"),
    Way("Pillow", True, _jpegs(_pillow), "PIL"),
    Way("Pillow, draft", True, _jpegs(lambda file: _pillow(file, draft=True)), "PIL"),
    Way("ovvol-bench, decord", False, _own_video("decord", scaled=False), "decord", shared=True),
    Way("ovvol-bench, decord, scale_at_decode", False, _own_video("decord", True), "decord", shared=True),
    Way("ovvol-bench, pyav", False, _own_video("pyav", scaled=False), "av", shared=True),
    Way("ovvol-bench, pyav, scale_at_decode", False, _own_video("pyav", True), "av", shared=True),
    Way("ovvol-bench, opencv", False, _own_video("opencv", scaled=False), shared=True),
    Way("decord, own resize", False, _decord, "decord"),
    Way("OpenCV + resize", False, _opencv_video),
    Way("PyAV, own resize", False, _pyav, "av"),
    Way("torchcodec + resize", False, _torchcodec, "torchcodec"),
)
