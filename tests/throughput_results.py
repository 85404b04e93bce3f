"""Throughput results as the harness writes them, for tables and charts to read."""

from ovvol_bench.files import sealed

MACHINE = {"cpu": "Xeon", "cores": 2, "gpu": None, "torch": "2.15", "python": "3.11", "threads": 2}
STAGES = ("wait", "encode", "group", "label", "name", "store", "decode", "transform", "boxes", "metrics")


def part(name, options=None, weights=None):
    return {"name": name, "options": options or {}, "weights_sha256": weights}


def spread(median):
    return {"median": median, "low": 0.9 * median, "high": 1.1 * median, "samples": [median]}


def row(speed, grouper="kmeans", batch_size=1, fidelity="fast", **fields):
    stages = {stage: spread(0.1 / speed) for stage in STAGES}
    return {
        "encoder": part("videomae"),
        "grouper": part(grouper),
        "labeler": part("pacl"),
        "size": [96, 128],
        "resized": False,
        "frames": 8,
        "batch_size": batch_size,
        "fidelity": fidelity,
        "precision": "float32" if fidelity == "reference" else "bfloat16",
        "clips_per_s": spread(speed),
        "frames_per_s": spread(8 * speed),
        "seconds": {**stages, "whole": spread(1 / speed)},
        "cores": 1.96,
        "memory": {"loaded": 500_000_000, "host": 1_250_000_000, "device": None},
        "parameters": {"encoder": 1_820_000, "grouper": 0, "labeler": 7_000_000},
        "flops": {"encode": 10**10, "group": 0, "label": 10**9, "whole": 11 * 10**9},
        "matrix_peak": 5e10,
        "share_of_peak": {"encode": 0.723, "group": 0.0, "label": 0.3, "whole": 0.624},
        **fields,
    }


def throughput(rows, machine=(), **fields):
    found = {**MACHINE, **dict(machine)}
    return sealed(
        {
            "throughput": 1,
            "asked": {
                "preset": "shapes",
                "method": "videomae+kmeans+pacl",
                "repeats": 5,
                "warmup": 1,
                "random_weights": False,
            },
            "dataset": {"name": "shapes", "options": {}, "fingerprint": "f00d" * 16},
            "rows": rows,
            "agreement": [],
            "failures": [],
            "machine": found,
            "fingerprint": str(abs(hash(str(found))))[:8],
            "load": 0.5,
            "date": "2026-09-01T00:00:00+00:00",
            **fields,
        }
    )
