"""CPU seconds a clip of every baseline grouper, on clustered features of two sizes.

OMP_NUM_THREADS=1 python benchmarks/grouper_speed.py [ROUNDS]
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator

import torch
from clip_scenes import draws, features_of
from tabulate import tabulate

from ovvol_bench import Features, Grouper
from ovvol_bench.registry import load_registry

SIZES = {"8 x 12 x 16, D = 192": (8, 12, 16, 192), "8 x 14 x 25, D = 768": (8, 14, 25, 768)}
OTHER_SPAN = {
    "agglomerative": "frame",
    "found": "clip",
    "lost": "clip",
    "maskcut": "frame",
    "spectral": "frame",
    "tokencut": "frame",
}


def groupers(dim: int) -> Iterator[tuple[str, Grouper]]:
    """Every method as it is by default, and over the other span."""
    registry = load_registry()
    for name in ("grid", "kmeans", *OTHER_SPAN, "dinosaur"):
        own = {"feature_dim": dim} if name == "dinosaur" else {}
        yield name, registry.build("grouper", name, own).eval()
        if span := OTHER_SPAN.get(name):
            yield f"{name} span={span}", registry.build("grouper", name, {"span": span})
    yield "agglomerative start=patches", registry.build("grouper", "agglomerative", {"start": "patches"})


def seconds(grouper: Grouper, features: Features, rounds: int) -> float:
    """CPU seconds, which other work on the machine hardly changes: median of rounds after one to warm up."""
    times = []
    for _ in range(rounds + 1):
        start = time.process_time()
        with torch.inference_mode():
            grouper.group(features, draws())
        times.append(time.process_time() - start)
    return statistics.median(times[1:])


def main(rounds: str = "3") -> None:
    """Print the table; on one thread CPU time is what the clip takes."""
    torch.set_num_threads(1)
    table: dict[str, dict[str, str]] = {}
    for title, shape in SIZES.items():
        features = features_of(shape[:3], shape[3])
        for name, grouper in groupers(shape[-1]):
            found = seconds(grouper, features, int(rounds))
            table.setdefault(name, {"grouper": name})[title] = f"{found:.3f}"
    sys.stdout.write(tabulate(list(table.values()), headers="keys", disable_numparse=True) + "\n")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
