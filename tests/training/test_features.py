"""Cached features: what names them, resuming a fill, the limit on their size."""

import logging
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from ovvol_bench import DecodeError, Encoder, Features, SettingError
from ovvol_bench.training.features import GB, CachePlan, FixedClips, FrozenEncoder, cached_features

CLIPS, FRAMES, SIZE, DIM = 12, 4, (8, 12), 5
BYTES = CLIPS * 2 * 2 * 3 * DIM * 2


class PatchEncoder(Encoder):
    patch_size, tubelet_size, dim = 4, 2, DIM

    def __init__(self, seed=0, gain=1.0):
        super().__init__()
        torch.manual_seed(seed)
        self.gain = gain
        self.prepared, self.seen = None, []
        self.patches = nn.Conv3d(3, DIM, (2, 4, 4), stride=(2, 4, 4))

    def prepare(self, precision):
        self.prepared = precision

    def encode(self, video):
        self.seen.append(self.prepared)
        return Features(self.gain * self.patches(video.transpose(1, 2)).permute(0, 2, 3, 4, 1))


class NumberedClips(FixedClips):
    """Clips of noise; reading some of them may fail."""

    frame_count, size = FRAMES, SIZE

    def __init__(self, content="a", count=CLIPS, broken=()):
        self.content, self.count, self.broken = content, count, broken
        self.read = []

    def __len__(self):
        return self.count

    def frames(self, index):
        if index in self.broken:
            raise DecodeError(f"clip {index} is gone")
        self.read.append(index)
        return np.random.default_rng(index).integers(0, 256, (FRAMES, *SIZE, 3), np.uint8)

    def fingerprint(self):
        return self.content


def frozen(**settings):
    return FrozenEncoder(PatchEncoder(**settings))


@pytest.fixture
def report(caplog):
    """The last line that was logged about features."""
    caplog.set_level(logging.INFO)
    return lambda: [r.getMessage() for r in caplog.records if r.name.endswith("features")][-1]


class TestFrozenEncoder:
    def test_it_normalises_and_keeps_no_gradients(self):
        encoder = frozen()
        frames = torch.from_numpy(NumberedClips().frames(0))[None]
        found = encoder.features(frames)
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (PatchEncoder.mean, PatchEncoder.std))
        want = encoder.encoder.encode((frames.permute(0, 1, 4, 2, 3) / 255 - mean) / std).grid
        assert torch.allclose(found, want, atol=1e-5)
        assert found.shape[1:] == encoder.shape(FRAMES, SIZE)
        assert not any(value.requires_grad for value in (found, *encoder.encoder.parameters()))

    def test_a_copy_is_prepared_once_for_bfloat16_alone(self):
        encoder = frozen()
        before = encoder.digest()
        frames = torch.from_numpy(NumberedClips().frames(0))[None]
        plain = encoder.features(frames)
        assert encoder.encoder.seen == [None]
        with torch.autocast("cpu", torch.bfloat16):
            quick = [encoder.features(frames) for _ in range(2)]
        assert encoder.encoder.seen == [None], "training looks at the encoder as it is, too"
        assert encoder._quick.seen == [None, torch.bfloat16, torch.bfloat16]
        assert torch.allclose(quick[0], plain, atol=0.05)
        assert encoder.digest() == before

    def test_digest_tells_weights_and_settings_apart(self):
        digests = {frozen(**some).digest() for some in ({}, {"seed": 1}, {"gain": 2.0})}
        assert len(digests) == 3
        assert frozen().digest() == frozen().digest()


class TestContent:
    def test_features_are_the_encoders(self, tmp_path):
        encoder, clips = frozen(), NumberedClips()
        cached = cached_features(encoder, clips, CachePlan(tmp_path))
        assert len(cached) == CLIPS
        for index in (0, CLIPS - 1):
            want = encoder.features(torch.from_numpy(clips.frames(index))[None])[0]
            assert cached[index].dtype == torch.float16
            assert torch.allclose(cached[index].float(), want, atol=0.05, rtol=0.01)

    def test_a_second_time_nothing_is_computed(self, tmp_path, report):
        cached_features(frozen(), NumberedClips(), CachePlan(tmp_path))
        assert report().startswith("features: 12 clips, 0 found, 12 computed, ")
        again = NumberedClips()
        cached_features(frozen(), again, CachePlan(tmp_path))
        assert report().startswith("features: 12 clips, 12 found, 0 computed, ")
        assert report().endswith(" of 20 GB")
        assert not again.read

    @pytest.mark.parametrize(
        ("encoder", "clips"), [({"seed": 1}, {}), ({"gain": 2.0}, {}), ({}, {"content": "b"})]
    )
    def test_another_encoder_or_other_clips_are_computed_anew(self, tmp_path, report, encoder, clips):
        cached_features(frozen(), NumberedClips(), CachePlan(tmp_path))
        cached_features(frozen(**encoder), NumberedClips(**clips), CachePlan(tmp_path))
        assert "0 found, 12 computed" in report()

    def test_workers_read_the_same(self, tmp_path):
        alone = cached_features(frozen(), NumberedClips(), CachePlan(tmp_path / "alone"))
        helped = cached_features(frozen(), NumberedClips(), CachePlan(tmp_path / "helped", workers=1))
        assert all(torch.equal(alone[index], helped[index]) for index in range(CLIPS))

    def test_worker_processes_open_the_file_themselves(self, tmp_path):
        cached = cached_features(frozen(), NumberedClips(count=200), CachePlan(tmp_path))
        packed = pickle.dumps(cached)
        assert len(packed) < 1000
        assert torch.equal(pickle.loads(packed)[150], cached[150])


class TestInterruption:
    def test_a_fill_that_was_cut_off_goes_on(self, tmp_path, report):
        with pytest.raises(DecodeError, match="clip 9"):
            cached_features(frozen(), NumberedClips(broken=[9]), CachePlan(tmp_path))
        clips = NumberedClips()
        cached = cached_features(frozen(), clips, CachePlan(tmp_path))
        assert "8 found, 4 computed" in report()
        assert clips.read == [8, 9, 10, 11]
        whole = cached_features(frozen(), NumberedClips(), CachePlan(tmp_path / "other"))
        assert all(torch.equal(cached[index], whole[index]) for index in range(CLIPS))

    def test_files_that_were_begun_and_not_finished_are_made_anew(self, tmp_path, report):
        cached_features(frozen(), NumberedClips(), CachePlan(tmp_path))
        (features,) = tmp_path.glob("*/features.npy")
        features.write_bytes(b"")
        cached_features(frozen(), NumberedClips(), CachePlan(tmp_path))
        assert "0 found, 12 computed" in report()

    def test_one_fills_while_the_others_wait(self, tmp_path):
        clips = [NumberedClips() for _ in range(3)]
        encoders = [frozen() for _ in clips]
        with ThreadPoolExecutor(3) as pool:
            plans = [CachePlan(tmp_path)] * 3
            found = list(pool.map(cached_features, encoders, clips, plans))
        assert sum(len(each.read) for each in clips) == CLIPS
        assert all(torch.equal(each[3], found[0][3]) for each in found)


class TestLimit:
    def plan(self, folder, files):
        return CachePlan(folder, limit_gb=files * (BYTES + 500) / GB)

    def test_the_ones_used_longest_ago_make_room(self, tmp_path, report):
        plan = self.plan(tmp_path, 2.5)
        for content in "abac":
            cached_features(frozen(), NumberedClips(content), plan)
        cached_features(frozen(), NumberedClips("a"), plan)
        assert "12 found" in report()
        cached_features(frozen(), NumberedClips("b"), plan)
        assert "12 computed" in report()

    def test_features_in_use_are_kept(self, tmp_path):
        plan = self.plan(tmp_path, 1.5)
        cached = cached_features(frozen(), NumberedClips("a"), plan)
        with pytest.raises(SettingError, match=r"need 1\.44e-06 GB.*1\.\d+e-06 GB are in use by others"):
            cached_features(frozen(), NumberedClips("b"), plan)
        assert cached[0].isfinite().all()

    def test_what_cannot_fit_is_refused_with_the_numbers(self, tmp_path):
        with pytest.raises(SettingError, match=r"need 1\.44e-06 GB; recipe\.cache_limit_gb=1e-09\. Raise"):
            cached_features(frozen(), NumberedClips(), CachePlan(tmp_path, limit_gb=1e-9))

    def test_a_full_disk_is_refused_with_the_numbers(self, tmp_path, monkeypatch):
        usage = type("Usage", (), {"free": 10})
        monkeypatch.setattr("ovvol_bench.training.features.shutil.disk_usage", lambda path: usage)
        with pytest.raises(SettingError, match=r"the disk of .* has 1e-08 GB left"):
            cached_features(frozen(), NumberedClips(), CachePlan(tmp_path))

    def test_a_limit_below_zero_is_refused(self, tmp_path):
        with pytest.raises(SettingError, match="cache_limit_gb=-1"):
            CachePlan(tmp_path, limit_gb=-1)


def test_values_that_float16_cannot_hold_are_refused_by_name(tmp_path):
    with pytest.raises(SettingError, match=r"PatchEncoder reach .*65504"):
        cached_features(frozen(gain=1e6), NumberedClips(), CachePlan(tmp_path))


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="can't write cached features to"):
        cached_features(frozen(), NumberedClips(), CachePlan(tmp_path / "file" / "features"))
