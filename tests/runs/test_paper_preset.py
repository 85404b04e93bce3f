"""What a user with the real data and checkpoints types, at full size, on files in the official layouts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ovvol_bench.naming.vocabulary import load_vocabulary

pytestmark = pytest.mark.slow

VIDEOS, FRAMES, SIZE = 2, 17, (180, 320)  # 17 frames: two clips by the reference's sampling rule


def save_encoder(path: Path) -> None:
    from ovvol_plugins.videomae.model import VideoMAE
    from ovvol_plugins.videomae.pretraining import VideoMAEPretraining
    from ovvol_plugins.videomae.settings import VideoMAESettings

    model = VideoMAEPretraining(VideoMAE(VideoMAESettings(final_norm=True)))
    torch.save({"model": model.state_dict(), "epoch": 799}, path)


def save_grouper(path: Path) -> None:
    from ovvol_plugins.slot_attention.model import SlotAttentionGrouper
    from ovvol_plugins.videomae.model import VideoMAE

    frozen = {f"model.{name}": value for name, value in VideoMAE().state_dict().items()}
    head = {"model.head.weight": torch.zeros(174, 768), "model.head.bias": torch.zeros(174)}
    torch.save({**frozen, **head, **SlotAttentionGrouper().state_dict()}, path)


def save_labeler(pacl: Path, clip: Path) -> None:
    from ovvol_bench.nn.clip.towers import build_towers, clip_config
    from ovvol_plugins.pacl.model import PaclLabeler

    labeler = PaclLabeler(build_towers(clip_config("ViT-B-16-quickgelu", {})))
    trained = {f"module.{k}": v for k, v in labeler.state_dict().items() if not k.startswith("text.")}
    torch.save({"epoch": 200, "state_dict": trained}, pacl)
    image = {f"visual.{name}": value for name, value in labeler.model.state_dict().items()}
    torch.save({**image, **labeler.text.state_dict(), "logit_scale": torch.tensor(4.6)}, clip)


def write_tree(root: Path) -> None:
    """A small ILSVRC-VID tree: one moving block a video, named by official WordNet ids."""
    rng = np.random.default_rng(0)
    codes = [c.code for c in load_vocabulary("imagenet-vid").classes]
    for video in range(VIDEOS):
        name = f"val/ILSVRC2015_val_{video:08d}"
        images, labels = root / "Data/VID" / name, root / "Annotations/VID" / name
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for t in range(FRAMES):
            frame = rng.integers(90, 110, (*SIZE, 3)).astype(np.uint8)
            x = 20 + 5 * t
            frame[60:120, x : x + 80] = (40, 180, 240)
            cv2.imwrite(str(images / f"{t:06d}.JPEG"), frame)
            (labels / f"{t:06d}.xml").write_text(
                f"<annotation><folder>{name}</folder><filename>{t:06d}</filename>"
                f"<size><width>{SIZE[1]}</width><height>{SIZE[0]}</height></size>"
                f"<object><trackid>0</trackid><name>{codes[8 + video]}</name><bndbox><xmax>{x + 79}</xmax>"
                f"<xmin>{x}</xmin><ymax>119</ymax><ymin>60</ymin></bndbox><occluded>0</occluded>"
                "<generated>0</generated></object></annotation>"
            )
    lists = root / "ImageSets/VID"
    lists.mkdir(parents=True)
    lines = [f"val/ILSVRC2015_val_{video:08d} {1 + video * FRAMES} 0 {FRAMES}" for video in range(VIDEOS)]
    (lists / "val.txt").write_text("\n".join(lines) + "\n")


def test_paper_preset_runs_end_to_end(tmp_path):
    torch.manual_seed(0)
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    save_encoder(checkpoints / "videomae.pth")
    save_grouper(checkpoints / "grouping.pth")
    save_labeler(checkpoints / "pacl.pth", checkpoints / "clip.pt")
    write_tree(tmp_path / "ILSVRC2015")
    command = [
        *(
            sys.executable,
            "-m",
            "ovvol_bench",
            "run",
            "--preset",
            "paper",
            "--weights-from",
            str(checkpoints),
        ),
        *("-o", f"dataset.path={tmp_path / 'ILSVRC2015'}", "--output", str(tmp_path / "runs")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "runs").rglob("result.json")
    result = json.loads(file.read_text())
    assert result["status"] == "done"
    dropped = {"frames after a video's last clip": 2}  # one a video, as in the reference
    assert result["coverage"] == {"clips": 4, "done": 4, "frames": 32, "unread": [], "skipped": dropped}
    assert result["seed"] == 287
    assert (result["fidelity"], result["precision"]) == ("reference", "float32")
    assert set(result["metrics"]) >= {
        "corloc_any@vid-reference",
        "detrate@vid-reference",
        "ap50@vid-reference",
    }
    assert all(result[part]["weights_sha256"] for part in ("encoder", "grouper", "labeler"))
