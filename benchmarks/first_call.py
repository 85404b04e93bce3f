"""What scoring a predictions file costs a process that does it for the first time.

    python benchmarks/synthetic_vid.py 176126 /tmp/vid
    OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/first_call.py /tmp/vid [PROCESSES [CASE ...]]

Each case runs in fresh processes; medians over them are printed. Seconds of the processor are printed beside
those of the clock, as other work on the machine disturbs them less. Truth is a file of columns; its columns
are in memory before the clock starts. ``third`` is the third call of the same process.
"""

import json
import resource
import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

from tabulate import tabulate

CASES = ("ap50", "motion", "sweep")
COLUMNS = ("import", "read", "score", "first", "first CPU", "third CPU", "MB imports", "MB truth", "MB peak")


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(folder, extent):
    """One process: seconds and megabytes by the names of ``COLUMNS``."""
    start = perf_counter()
    import numpy as np

    from ovvol_bench.metrics.corloc import CorLoc
    from ovvol_bench.metrics.detrate import DetectionRate
    from ovvol_bench.metrics.evaluation import evaluate
    from ovvol_bench.metrics.truth import TruthTable
    from ovvol_bench.metrics.vid_ap import VidAP
    from ovvol_bench.runs.predictions import read_predictions
    from ovvol_bench.types import ClipInfo, FrameRows, FrameTable

    costs = {"import": perf_counter() - start, "MB imports": peak()}
    with np.load(folder / "truth.npz") as stored:
        columns = dict(stored)
    clips = {clip: place for place, clip in enumerate(columns.pop("clips").tolist())}
    table = FrameTable(**columns)

    def info(clip):
        video, first = clip.rsplit("/", 1)
        rows, numbers = (range(at, at + 8) for at in (8 * clips[clip], int(first)))
        return ClipInfo(clip, video, tuple(numbers), (224, 400), FrameRows(table, rows))

    truth = TruthTable.of([info(clip) for clip in clips])
    costs["MB truth"] = peak()
    shards, name = folder / "predictions", "vid-reference"
    for call in ("first", "second", "third"):
        metrics = [
            VidAP(protocol=name, ties="group", motion=extent != "ap50", sweep=extent == "sweep"),
            CorLoc(protocol=name),
            DetectionRate(protocol=name),
        ]
        start, cpu = perf_counter(), process_time()
        predictions = read_predictions(shards, masks=False)
        read = perf_counter()
        evaluate(predictions, truth, metrics)
        costs |= {call: perf_counter() - start, f"{call} CPU": process_time() - cpu}
        if call == "first":
            costs |= {"read": read - start, "score": perf_counter() - read, "MB peak": peak()}
    return costs


def main():
    if sys.argv[1] == "--one":
        json.dump(measure(Path(sys.argv[2]), *sys.argv[3:]), sys.stdout)
        return
    folder, processes = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5
    rows = []
    for case in sys.argv[3:] or CASES:
        command = [sys.executable, __file__, "--one", folder, case]
        runs = [
            json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            for _ in range(processes)
        ]
        values = {name: median(run[name] for run in runs) for name in COLUMNS}
        rows.append([case, *(round(value, 0 if "MB" in name else 3) for name, value in values.items())])
    sys.stdout.write(tabulate(rows, [f"median of {processes}", *COLUMNS]) + "\n")


if __name__ == "__main__":
    main()
