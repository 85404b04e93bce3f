"""Results as the harness writes them, for tables to read."""

from ovvol_bench.results.schema import parse_result
from ovvol_bench.runs.spec import PartSpec, RunSpec
from ovvol_bench.runs.store import Coverage, Outcome, Truth, build_result

MACHINE = {"cpu": "Xeon", "cores": 2, "gpu": None, "torch": "2.15", "python": "3.11"}
SCORES = {"corloc_any": 0.543, "corloc_top1": 0.41, "detrate": 0.2, "ap50": 0.105, "boxes_per_frame": 2.31}


def make_result(
    *, grouper="slot_attention", seed=0, scores=SCORES, protocol="vid-reference", speed=4.56, **fields
):
    error = fields.get("error")
    by_video = fields.pop("by_video", {})
    scores = {**scores, **{name: sum(values) / len(values) for name, values in by_video.items()}}
    spec = RunSpec(
        encoder=PartSpec("videomae"),
        grouper=PartSpec(grouper, fields.pop("options", {})),
        labeler=PartSpec("pacl"),
        dataset=PartSpec("shapes", {"split": "test"}, digest=fields.pop("fingerprint", "f00d" * 16)),
        vocabulary="v",
        naming={"merge": "same_name"},
        metrics=(),
        seeds=(seed,),
    )
    metrics = {
        f"{name}@{protocol}": {"value": value, "count": 384, "higher_is_better": True, "notes": {}}
        for name, value in ({} if error else scores).items()
    }
    terms = {
        f"{name}@{protocol}": {"sums": [12 * value for value in values], "counts": [12] * len(values)}
        for name, values in by_video.items()
    }
    names = [f"video {index:02d}" for index in range(max(map(len, by_video.values()), default=0))]
    outcome = Outcome(
        Coverage(done=48, frames=384),
        metrics,
        {"clips_per_s": speed},
        error,
        videos={"names": names, "terms": terms},
    )
    result = build_result(spec, Truth(48, 384, 900, "shapes"), outcome)
    return result | {"machine": MACHINE, "date": "2026-09-01T00:00:00+00:00"} | fields


def as_read(results):
    """The results as if they were read from files."""
    return [parse_result(result, "made up") for result in results]
