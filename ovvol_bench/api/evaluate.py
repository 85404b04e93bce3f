"""``evaluate``: score stored predictions against the truth of a dataset, without any model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ovvol_bench.api.result import Result
from ovvol_bench.api.run import (
    Names,
    OnError,
    Places,
    Settings,
    check_values,
    listed,
    registry_of,
    settings_of,
)
from ovvol_bench.data.base import Dataset
from ovvol_bench.errors import SettingError
from ovvol_bench.files import below, file_stem
from ovvol_bench.results.schema import parse_result
from ovvol_bench.runs.build import build_dataset
from ovvol_bench.runs.rescore import Source, rescore_run, score_file
from ovvol_bench.runs.score import Wanted
from ovvol_bench.runs.selection import Choice, load_preset, pick_metrics, with_settings
from ovvol_bench.runs.spec import PartSpec
from ovvol_bench.runs.store import RunFolder

if TYPE_CHECKING:
    from ovvol_bench.api.localize import LocalizedVideo
    from ovvol_bench.registry import Registry

CUT_OFF = "The run was cut off: these are the clips so far, and no result was written."


def dataset(name: str, /, *, plugins: Places = (), **settings: Any) -> Dataset:
    """Open a dataset.

    Args:
        name: as registered, see ``ovvol-bench plugins --kind dataset``.
        plugins: Python files to load plugins from.
        settings: of the dataset, see ``ovvol-bench show dataset NAME``.

    Raises:
        UnknownNameError, SettingError: if the name or a setting is wrong.
        DataError: if it can't be read.

    >>> videos = dataset("shapes", split="val", videos=2)
    >>> len(videos), videos.clip(0).frames.shape, videos.vocabulary.names[1]
    (6, (8, 96, 128, 3), 'striped circle')
    """
    spec, built = build_dataset(registry_of(plugins), Choice(name, settings))
    object.__setattr__(built, "_spec", spec)  # so that results say what they are on; datasets may be frozen
    return built


def spec_of(truth: Dataset) -> PartSpec:
    """Return what a dataset is: as ``dataset`` opened it, else named after its class."""
    known: PartSpec | None = getattr(truth, "_spec", None)
    if known is not None:
        return known
    kind = type(truth)
    return PartSpec(kind.__name__, plugin=kind.__module__, digest=truth.fingerprint())


def chosen_as(opened: Dataset) -> tuple[str, Mapping[str, Any]]:
    """Return name and settings of a dataset that ``dataset`` opened.

    Raises:
        SettingError: if it was made in another way, so that no later run could find it.
    """
    spec = spec_of(opened)
    if not spec.code:
        raise SettingError(
            f"dataset {spec.name} was not opened by name, so that no later run could find it. Open it with "
            "ovvol_bench.dataset, or register it in a plugin"
        )
    return spec.name, spec.options


def evaluate(  # noqa: PLR0913 - a keyword an option of the command
    predictions: str | Path | Result | LocalizedVideo,
    truth: Dataset | str | None = None,
    *,
    metrics: Names = None,
    protocol: str | None = None,
    options: Mapping[str, Any] | None = None,
    name: str | None = None,
    format: str | None = None,  # as the option is called
    on_error: OnError = "fail",
    plugins: Places = (),
) -> Result:
    """Score predictions against the truth of a dataset.

    Args:
        predictions: file or folder of any program, see docs/formats.md; what ``localize`` found; or a run or
            its folder, whose ``result.json`` is written anew.
        truth: dataset that a file is scored against, or its name; a run knows its own.
        metrics: what to compute, by default what is usual and fits; ``all``: everything that fits.
        protocol: conventions for all metrics, as in ``vid-devkit``.
        options: settings of metrics and dataset, as in ``{"metric.protocol": "vid-devkit"}``.
        name: of the method that made a file; by default the file's.
        format: of a file that doesn't say.
        on_error: what can't be scored is refused, or left out and counted.
        plugins: Python files to load plugins from.

    Returns:
        The result; its notes say which metrics were left out and why.

    Raises:
        DataError: if the predictions can't be read, or they and the dataset don't belong together.
        SettingError: if a setting is wrong, or a metric that was named doesn't fit.
        UnknownNameError: if a dataset, metric or format is unknown.
    """
    with _stored(predictions) as path:
        return score(
            registry_of(plugins),
            path,
            truth,
            names=listed(metrics),
            protocol=protocol,
            settings=settings_of(options),
            name=name,
            form=format,
            on_error=on_error,
        )


@contextmanager
def _stored(predictions: str | Path | Result | LocalizedVideo) -> Iterator[Path]:
    """Give the file or folder of predictions; those in memory are written for as long as it is read."""
    if isinstance(predictions, str | Path):
        yield Path(predictions)
    elif not isinstance(predictions, Result):  # what ``localize`` found goes the way of any program's file
        with TemporaryDirectory() as folder:
            yield predictions.save(below(Path(folder), f"{file_stem(predictions.name)}.json"))
    elif predictions.path is None:
        raise SettingError("the result was not written, so that no predictions are stored")
    else:
        yield predictions.path


def score(  # noqa: PLR0913 - see evaluate
    registry: Registry,
    path: Path,
    truth: Dataset | str | None,
    *,
    names: Sequence[str] = (),
    added: Sequence[str] = (),
    protocol: str | None = None,
    settings: Settings,
    name: str | None = None,
    form: str | None = None,
    on_error: OnError = "fail",
) -> Result:
    """Score a file, or a run again; as ``evaluate``.

    Args:
        registry: builds dataset and metrics.
        path: of the file or run folder.
        truth: see ``evaluate``.
        names: of metrics.
        added: further metrics, with their usual settings.
        protocol: see ``evaluate``.
        settings: by kind.
        name: see ``evaluate``.
        form: format of a file.
        on_error: see ``evaluate``.
    """
    check_values({"on_error": on_error})
    folder = RunFolder(path)
    is_run = folder.spec_file.is_file()
    usual = folder.read_spec().metrics if is_run else load_preset("shapes").metrics
    for kind in sorted(settings.keys() - {"metric", "dataset"}):
        raise SettingError(f"{kind}.*: scoring runs no {kind}; only metric and dataset settings count")
    own = [Choice(metric.name, metric.options) for metric in usual]
    every = [*(choice.name for choice in own), *registry.names("metric")] if list(names) == ["all"] else names
    chosen = pick_metrics(own, list(dict.fromkeys(every)))
    # Those that pictures need; a metric that was chosen keeps the settings it was chosen with.
    chosen += [Choice(each) for each in added if each not in {choice.name for choice in chosen}]
    common = {"protocol": protocol} if protocol else {}
    chosen = with_settings(registry, "metric", chosen, common | settings.get("metric", {}))
    # Metrics that don't fit are left out, unless they were named one by one.
    wanted = Wanted(tuple(chosen), lenient=list(names) in ([], ["all"]) or on_error == "skip")
    places = settings.get("dataset", {})
    if not is_run:
        source = Source(path, form, on_error)
        spec, built = _truth_of(registry, path, truth, places)
        record = score_file(source, (spec, built), registry, wanted, name)
        return Result(parse_result(record, str(path)), None, _left_out(record["left_out"]))
    for what, flag, value in (
        ("dataset", "--truth", truth),
        ("format", "--input-format", form),
        ("name", "--name", name),
    ):
        if value is not None:
            raise SettingError(f"{path} is a run and knows its {what}; drop {flag}")
    # Nothing but where the data lie: all that the run has is computed again, and replaced.
    asked = names or added or protocol or settings.keys() - {"dataset"}
    record, left_out = rescore_run(folder, registry, wanted if asked else None, places)
    cut_off = () if folder.complete else (CUT_OFF,)
    return Result(parse_result(record, str(path)), path, (*cut_off, *_left_out(left_out)))


def _truth_of(
    registry: Registry, path: Path, truth: Dataset | str | None, settings: Mapping[str, Any]
) -> tuple[PartSpec, Dataset]:
    if truth is None:
        raise SettingError(f"{path} is no run folder; say what its truth is with --truth DATASET")
    if isinstance(truth, str):
        return build_dataset(registry, Choice(truth, settings))
    if settings:
        raise SettingError(f"dataset.{next(iter(settings))}: the truth is open already; set it there")
    return spec_of(truth), truth


def _left_out(reasons: Mapping[str, str]) -> Iterator[str]:
    for metric, reason in reasons.items():
        yield f"left out: {reason if metric in reason else f'{metric}: {reason}'}"
