from __future__ import annotations

import pickle

import numpy as np
import pytest

from ovvol_bench import DataError, SettingError
from ovvol_bench.data.shapes.dataset import Shapes, open_shapes
from ovvol_bench.data.shapes.storage import World, render_world
from ovvol_bench.data.shapes.training import SOURCES, PictureSettings, ShapesImages, ShapesVideos, blend
from ovvol_bench.data.shapes.world import BACKGROUNDS, HELD_OUT, draw_scene, render, shapes_vocabulary

VIDEOS = 6


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return render_world(World("train", VIDEOS), tmp_path_factory.mktemp("cache"))


def pictures(stored, count, empty, **settings):
    return ShapesImages(stored, count, PictureSettings(empty, **settings))


def places(stored, pixels):
    """(video, frame, top, left) of all places where a picture may be from, as it is or mirrored."""
    found, side = [], len(pixels)
    for image in (pixels, pixels[:, ::-1]):
        corners = (stored.frames[:, :, : 97 - side, : 129 - side] == image[0, 0]).all(-1)
        for video, time, top, left in np.argwhere(corners).tolist():
            window = stored.frames[video, time, top : top + side, left : left + side]
            if np.array_equal(window, image):
                found.append((video, time, top, left))
    return found


def true_captions(stored, place):
    """What may be said of a place: the names of objects that fill it, or its background."""
    video, time, top, left = place
    seen, pixels = np.unique(stored.masks[video, time, top : top + 64, left : left + 64], return_counts=True)
    tracks = dict(zip(seen.tolist(), pixels.tolist(), strict=True))
    objects = {track: count for track, count in tracks.items() if track > 0}
    if sum(objects.values()) <= 60:
        words = [str(stored.backgrounds[video]), "background"]
    else:
        biggest = max(objects, key=objects.__getitem__)
        assert sum(objects.values()) <= 1.25 * objects[biggest], "one object, and little of others"
        name = shapes_vocabulary().names[stored.classes[video, biggest]]
        words = [name, name.split()[1], f"{name.split()[0]} thing"]
    return tuple(f"a photo of a {word}" for word in words)


def test_videos_give_frames_by_position(stored):
    videos = ShapesVideos(stored)
    assert (len(videos), videos.length(2), videos.name(2)) == (VIDEOS, 24, "shapes_train_00000002")
    frames = videos.frames(2, [0, 5, 23])
    assert np.array_equal(frames, render(draw_scene("train", 2)).frames[[0, 5, 23]])
    frames += 1  # a copy: the next reader sees the original
    assert not np.array_equal(frames, videos.frames(2, [0, 5, 23]))


def test_captions_are_true(stored):
    images = pictures(stored, 40, 0.5)
    for index in range(len(images)):
        image = images.image(index)
        assert image.pixels.shape == (64, 64, 3)
        (place,) = places(stored, image.pixels)
        assert image.captions == true_captions(stored, place)


def test_pictures_depend_on_world_and_index_alone(stored, tmp_path):
    first = pictures(stored, 8, 0.4)
    again = pickle.loads(pickle.dumps(pictures(stored, 20, 0.4)))
    for index in reversed(range(8)):
        assert np.array_equal(first.image(index).pixels, again.image(index).pixels)
        assert first.image(index).captions == again.image(index).captions
    other = pictures(render_world(World("train", 2, seed=1), tmp_path), 8, 0.4)
    assert not np.array_equal(other.image(0).pixels, first.image(0).pixels)
    assert len({first.name(index) for index in range(8)}) == 8
    with pytest.raises(IndexError):
        first.image(8)


@pytest.mark.parametrize("empty", [0.0, 0.25, 1.0])
def test_a_share_of_pictures_shows_the_background(stored, empty):
    images = pictures(stored, 300, empty)
    backgrounds = [images.image(i).captions[-1] == "a photo of a background" for i in range(300)]
    assert np.mean(backgrounds) == pytest.approx(empty, abs=0.08)


def test_captions_name_backgrounds_if_asked_to(stored):
    plain, more = pictures(stored, 60, 0.3), pictures(stored, 60, 0.3, name_backgrounds=True)
    assert plain.fingerprint() != more.fingerprint()
    for index in range(60):
        captions, longer = plain.image(index).captions, more.image(index).captions
        assert longer[: len(captions)] == captions
        kind, whole = (caption.removeprefix("a photo of a ") for caption in longer[-2:])
        assert kind in BACKGROUNDS["train"]
        assert whole == "background"
        assert len(longer) == (2 if captions[-1].endswith("background") else 5)


def test_objects_stay_on_blended_backgrounds(stored):
    known, blended = (pictures(stored, 40, 0.3, name_backgrounds=True, blended=share) for share in (0, 1))
    for index in range(40):
        before, after = known.image(index), blended.image(index)
        kinds = {f"a photo of a {kind}" for kind in BACKGROUNDS["train"]}
        assert after.captions == tuple(caption for caption in before.captions if caption not in kinds)
        ((video, time, top, left),) = places(stored, before.pixels)
        window = stored.frames[video, time, top : top + 64, left : left + 64]
        objects = stored.masks[video, time, top : top + 64, left : left + 64] > 0
        objects = objects if np.array_equal(window, before.pixels) else objects[:, ::-1]
        assert np.array_equal(after.pixels[objects], before.pixels[objects])
        assert np.abs(after.pixels[~objects].astype(int) - before.pixels[~objects]).mean() > 2


def test_a_share_of_backgrounds_is_blended(stored):
    several = [pictures(stored, 200, 0.4, name_backgrounds=True, blended=share) for share in (0.0, 0.25, 1.0)]
    kinds = {f"a photo of a {kind}" for kind in BACKGROUNDS["train"]}
    shares = [np.mean([not kinds & {*p.image(i).captions} for i in range(200)]) for p in several]
    assert shares == pytest.approx([0, 0.25, 1], abs=0.08)
    assert len({p.fingerprint() for p in several}) == 3


def test_captions_of_crowded_pictures_name_every_object(stored):
    alone, crowded = (pictures(stored, 60, 0.0, side=96, crowded=crowded) for crowded in (False, True))
    assert alone.fingerprint() != crowded.fingerprint()
    names, several = shapes_vocabulary().names, 0
    for index in range(60):
        image = crowded.image(index)
        assert image.pixels.shape == (96, 96, 3)
        ((video, time, top, left),) = places(stored, image.pixels)
        tracks, pixels = np.unique(
            stored.masks[video, time, top : top + 96, left : left + 96], return_counts=True
        )
        seen = {
            names[stored.classes[video, track]]
            for track, n in zip(tracks, pixels, strict=True)
            if track and n >= 250
        }
        told = [caption.removeprefix("a photo of a ") for caption in image.captions]
        assert set(told[: len(seen)]) == seen, "names come first, each once"
        forms, things = {name.split()[1] for name in seen}, {f"{name.split()[0]} thing" for name in seen}
        assert sorted(told[len(seen) :]) == sorted(forms | things)
        several += len(seen) > 1
    assert several > 10


def test_training_never_says_a_held_out_name(stored):
    images = pictures(stored, 200, 0.4)
    said = {caption.removeprefix("a photo of a ") for i in range(200) for caption in images.image(i).captions}
    assert not said & HELD_OUT
    assert said & set(BACKGROUNDS["train"])


def test_the_dataset_offers_both_from_one_rendering(tmp_path):
    dataset = open_shapes(split="train", videos=2, cache=str(tmp_path), empty_images=0.0)
    videos, images = dataset.training_videos(), dataset.training_images()
    assert (len(videos), len(images)) == (2, 40)
    assert images.image(0).captions
    assert len(list(tmp_path.iterdir())) == 1
    more = open_shapes(split="train", videos=2, cache=str(tmp_path), images=7)
    assert len(more.training_images()) == 7
    assert more.training_images().fingerprint() != images.fingerprint()
    assert more.training_videos().fingerprint() == videos.fingerprint()


def test_settings_out_of_range_are_refused():
    with pytest.raises(SettingError, match=r"dataset\.images=0: expected at least 1"):
        Shapes("train", 1, images=0)
    with pytest.raises(SettingError, match=r"dataset\.empty_images=1\.5: expected a share"):
        open_shapes(split="train", videos=1, empty_images=1.5)
    with pytest.raises(SettingError, match=r"dataset\.blended_backgrounds=-0\.1: expected a share"):
        open_shapes(split="train", videos=1, blended_backgrounds=-0.1)
    for side in (63, 97):
        with pytest.raises(SettingError, match=rf"dataset\.image_side={side}: expected 64 to 96 pixels"):
            open_shapes(split="train", videos=1, image_side=side)


def test_too_few_videos_for_a_picture_are_an_error(stored):
    class Covered:
        world, frames, classes = stored.world, stored.frames, stored.classes
        masks = np.ones_like(stored.masks)

    with pytest.raises(DataError, match=r"6 videos show no such picture\. Raise dataset\.videos"):
        pictures(Covered(), 1, 1.0).image(0)


def test_a_dataset_is_trained_on_by_default_settings(monkeypatch, tmp_path):
    monkeypatch.setattr("ovvol_bench.data.shapes.dataset.cache_folder", lambda setting: tmp_path)
    assert len(Shapes("train", 1).training_images()) == 20


@pytest.fixture(scope="module")
def windows():
    found = []
    for index in range(30):
        video = render(draw_scene("train", index, frames=1))
        if not video.masks[0, :48, :48].any():
            found.append(video.frames[0, :48, :48])
    return found[:SOURCES]


def test_draws_alone_decide(windows):
    first, again, other = (blend(windows, np.random.default_rng(seed), 72) for seed in (3, 3, 4))
    assert first.shape == (72, 72, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_blends_are_new_and_vary(windows):
    blends = [blend(windows, np.random.default_rng(seed), 48) for seed in range(24)]
    for picture in blends:
        assert all(np.abs(picture.astype(int) - window).mean() > 4 for window in windows)
    roughness = [np.abs(np.diff(picture.astype(int), axis=0)).mean() for picture in blends]
    known = [np.abs(np.diff(window.astype(int), axis=0)).mean() for window in windows]
    assert min(roughness) < min(known)
    assert max(roughness) > max(known), "calmer and busier ones than there were"


def test_windows_of_one_colour_stay_of_one_colour():
    plain = [np.full((16, 20, 3), 100 + 20 * i, np.uint8) for i in range(SOURCES)]
    for seed in range(24):
        assert not blend(plain, np.random.default_rng(seed), 18).std(axis=(0, 1)).any()
