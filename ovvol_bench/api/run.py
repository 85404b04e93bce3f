"""``run``: localize with one combination of components, or with a matrix of them, and score the result."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, get_args, overload

from ovvol_bench.errors import SettingError, UnknownNameError, nearest
from ovvol_bench.fidelity import Fidelity, Precision
from ovvol_bench.progress import quiet
from ovvol_bench.registry import KINDS, Registry, load_registry
from ovvol_bench.tuning import spin_briefly

if TYPE_CHECKING:
    from ovvol_bench.api.result import Result, Results
    from ovvol_bench.data.base import Dataset
    from ovvol_bench.runs.selection import Selection

Names = str | Sequence[str] | None
"""Components by name; None for those of the preset."""
Places = str | Path | Sequence[str | Path]
Settings = dict[str, dict[str, Any]]
"""Values by kind of component, then by setting."""

Overwrite = Literal["never", "missing", "always"]
OnError = Literal["fail", "skip"]
Device = Literal["auto", "cpu", "cuda"]

SETTING_KINDS = (*KINDS, "naming")
"""What ``KIND.SETTING`` can address: the components, and the harness's own naming."""


class RunOptions(TypedDict, total=False):
    """Further keywords of ``run``, for type checkers."""

    options: Mapping[str, Any] | None
    preset: str | Path
    matrix: str | Path | None
    weights_from: str | Path | None
    metrics: Names
    limit: int | None
    consensus: tuple[int, int] | None
    fidelity: Fidelity | None
    precision: Precision
    output: str | Path
    overwrite: Overwrite
    on_error: OnError
    soft_masks: bool
    device: Device
    batch_size: int | None
    workers: int | None
    plugins: Places
    progress: bool


@overload
def run(
    *,
    encoder: str | None = None,
    grouper: str | None = None,
    labeler: str | None = None,
    dataset: str | Dataset | None = None,
    seeds: int | None = None,
    **others: Unpack[RunOptions],
) -> Result: ...
@overload
def run(
    *,
    encoder: Names = None,
    grouper: Names = None,
    labeler: Names = None,
    dataset: Names | Dataset = None,
    seeds: int | Sequence[int] | None = None,
    **others: Unpack[RunOptions],
) -> Results: ...
def run(  # noqa: PLR0913 - a keyword an option of the command
    *,
    encoder: Names = None,
    grouper: Names = None,
    labeler: Names = None,
    dataset: Names | Dataset = None,
    seeds: int | Sequence[int] | None = None,
    options: Mapping[str, Any] | None = None,
    preset: str | Path = "shapes",
    matrix: str | Path | None = None,
    weights_from: str | Path | None = None,
    metrics: Names = None,
    limit: int | None = None,
    consensus: tuple[int, int] | None = None,
    fidelity: Fidelity | None = None,
    precision: Precision = "auto",
    output: str | Path = "runs",
    overwrite: Overwrite = "missing",
    on_error: OnError = "fail",
    soft_masks: bool = False,
    device: Device = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    plugins: Places = (),
    progress: bool = True,
) -> Result | Results:
    """Localize and name objects in the videos of a dataset, and score the result.

    Lists of components or seeds make a matrix, which takes one pass over the data. Run folders are those of
    ``ovvol-bench run``: a run that was cut off goes on when it is asked for again; a complete one is read.

    Args:
        encoder: video to features, by name; a list, or ``all``, for several.
        grouper: features to slots, as ``encoder``.
        labeler: patches and text to embeddings, as ``encoder``.
        dataset: what to run on, by name or as opened by ``dataset``; a list of names for several.
        seeds: a run for each.
        options: settings by component and name, as in ``{"grouper.num_slots": 8}``.
        preset: that says what is left out here, by name or as a YAML file.
        matrix: YAML file that lists components, seeds and settings.
        weights_from: folder of official checkpoints.
        metrics: what to score with; ``+NAME`` adds to the preset's.
        limit: only the first so many clips.
        consensus: lowest and highest number of groups to merge the seeds into.
        fidelity: ``reference`` for float32 and no shortcuts; None for the preset's.
        precision: of the arithmetic; ``auto``: bfloat16 for ``fast`` where the hardware has it.
        output: folder of the run folders, made if it is missing.
        overwrite: if the run is there: refuse it if complete, compute what is missing, or start anew.
        on_error: a clip that can't be read or gives NaN ends the run, or is left out and counted.
        soft_masks: keep soft masks with the predictions.
        device: ``auto`` is CUDA where there is a device.
        batch_size: clips at a time; None for as many as fit.
        workers: threads that read frames ahead; None for one a processor, up to 16.
        plugins: Python files to load plugins from.
        progress: show on standard error how far it is.

    Returns:
        The result; for lists, or several seeds, all results in order, failed ones too.

    Raises:
        UnknownNameError, SettingError: if a component isn't installed or a setting is wrong.
        DataError: if the data can't be read.
        Exception: what ended the run, if none of its combinations came to an end.

    >>> result = run(grouper="kmeans", options={"grouper.num_slots": 6}, limit=2, progress=False)
    >>> result.name, result.coverage.done, 0 <= result.metrics["corloc_any"] <= 1
    ('videomae+kmeans+pacl', 2, True)
    """
    from ovvol_bench.api.evaluate import chosen_as

    registry = registry_of(plugins)
    settings = settings_of(options, weights_from)
    if dataset is not None and not isinstance(dataset, str | Sequence):
        # The run opens it again by name: so can whoever scores or reproduces it later.
        name, chosen = chosen_as(dataset)
        dataset, settings["dataset"] = name, {**chosen, **settings.get("dataset", {})}
    parts = {"encoder": encoder, "grouper": grouper, "labeler": labeler, "dataset": dataset}
    selection = make_selection(
        registry,
        {kind: listed(names) for kind, names in {**parts, "metric": metrics}.items() if names},
        settings,
        preset=preset,
        matrix=matrix,
        seeds=None if seeds is None else (seeds,) if isinstance(seeds, int) else _plain(seeds),
        consensus=consensus and _plain(consensus),
        fidelity=fidelity,
        precision=precision,
        limit=limit,
    )
    results = run_selection(
        registry,
        selection,
        output=output,
        device=device,
        batch_size=batch_size,
        workers=workers,
        overwrite=overwrite,
        on_error=on_error,
        soft_masks=soft_masks,
        progress=progress,
    )
    raise_if_none_is_done(results)
    # What was asked for decides, not how many came of it: a loop over a list works for a list of one.
    is_matrix = not all(asked is None or isinstance(asked, str | int) for asked in (*parts.values(), seeds))
    return results if is_matrix or len(results) > 1 else results[0]


def make_selection(
    registry: Registry,
    names: Mapping[str, Sequence[str]],
    settings: Settings,
    *,
    preset: str | Path = "shapes",
    matrix: str | Path | None = None,
    **fields: Any,
) -> Selection:
    """Change a preset by a matrix file and by what was asked for, which counts before both.

    Args:
        registry: knows the components.
        names: by kind, where any were asked for.
        settings: that were asked for.
        preset: by name, or a YAML file.
        matrix: YAML file, see ``runs.matrix_file``.
        fields: further fields of the selection; None leaves the preset's.

    Raises:
        UnknownNameError: if a component isn't installed; names the file that asks for it.
        SettingError: if a setting is wrong.
    """
    from ovvol_bench.runs.selection import ALL, PARTS, load_matrix, load_preset, select

    check_values(fields)
    base, listed_names = load_preset(str(preset), registry), {}
    files: dict[str, str | Path] = dict.fromkeys(PARTS, preset)
    if matrix:
        file = load_matrix(Path(matrix))
        base, listed_names = file.over(base), file.names()
        files |= dict.fromkeys(listed_names, matrix)
    for kind in (kind for kind in PARTS if kind not in names):
        for name in listed_names.get(kind, [getattr(base, kind).name]):
            try:
                if name != ALL:
                    registry.find(kind, name)
            except UnknownNameError as error:
                raise UnknownNameError(f"{files[kind]}: {error}") from error
    return select(base, registry, {**listed_names, **names}, settings, **fields)  # type: ignore[dict-item]


def run_selection(  # noqa: PLR0913 - a keyword an option of the commands
    registry: Registry,
    selection: Selection,
    *,
    output: str | Path = "runs",
    device: Device = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    overwrite: Overwrite = "missing",
    on_error: OnError = "fail",
    soft_masks: bool = False,
    progress: bool = True,
) -> Results:
    """Run a selection; keywords are those of ``run``.

    Returns:
        One result a combination, failed ones too.
    """
    spin_briefly(os.environ)  # before anything loads torch
    from ovvol_bench.api.result import Result, Results
    from ovvol_bench.progress import progress_bars
    from ovvol_bench.results.schema import parse_result
    from ovvol_bench.runs import store
    from ovvol_bench.runs.plan import pick_device
    from ovvol_bench.runs.session import Conduct, run_all
    from ovvol_bench.tuning import keep_freed_memory

    check_values({"device": device, "overwrite": overwrite, "on_error": on_error})
    check_values({"batch_size": batch_size, "workers": workers})
    keep_freed_memory()
    with quiet(not progress), progress_bars("clips") as bars:
        conduct = Conduct(
            Path(output),
            pick_device(device),
            batch_size,
            workers,
            store.Overwrite(overwrite),
            on_error,
            bars,
            soft_masks,
        )
        finished = run_all(selection, registry, conduct)
    return Results(
        Result(parse_result(each.result, "this run"), each.folder.path, each.remarks, each.error)
        for each in finished
    )


def raise_if_none_is_done(results: Results) -> None:
    """Raise what ended the first run if all failed; notes of the error tell what ended the others."""
    errors = [each.error for each in results if each.error]
    if not errors or len(errors) < len(results):
        return
    # Python shows notes below a traceback; the command prints them before its message.
    for text in dict.fromkeys(str(error) for error in errors[1:] if str(error) != str(errors[0])):
        errors[0].add_note(text)
    raise errors[0]


def registry_of(plugins: Places) -> Registry:
    """Load the installed plugins and some files."""
    files = [plugins] if isinstance(plugins, str | Path) else plugins
    return load_registry([Path(file) for file in files])


def listed(names: Names) -> list[str]:
    """Names as a list, of one or several."""
    return [names] if isinstance(names, str) else list(names or ())


def settings_of(options: Mapping[str, Any] | None, weights_from: str | Path | None = None) -> Settings:
    """Sort options by kind of component.

    Args:
        options: ``{"KIND.SETTING": value}``; they count before the weights.
        weights_from: folder of official checkpoints, None for no such weights.

    Raises:
        SettingError: if a key names no kind or no setting.
        WeightsError: if a checkpoint is missing.

    >>> settings_of({"grouper.num_slots": 8, "naming.merge": "none"})
    {'grouper': {'num_slots': 8}, 'naming': {'merge': 'none'}}
    """
    settings: Settings = {}
    for key, value in (options or {}).items():
        kind, setting = kind_and_setting(key)
        settings.setdefault(kind, {})[setting] = value
    return settings if weights_from is None else with_weights(settings, Path(weights_from))


def with_weights(settings: Settings, folder: Path) -> Settings:
    """Add the official checkpoints of a folder to settings, which count before them.

    Raises:
        WeightsError: if a checkpoint is missing.
    """
    from ovvol_bench.runs.plan import weights_from

    files = weights_from(folder)
    return {**settings, **{kind: {**files[kind], **settings.get(kind, {})} for kind in files}}


def kind_and_setting(key: str, kinds: Iterable[str] = SETTING_KINDS) -> tuple[str, str]:
    """Split ``KIND.SETTING``, or ``KIND:NAME.SETTING`` for one component of several.

    Returns:
        Kind, and ``SETTING`` or ``NAME.SETTING``.

    Raises:
        SettingError: if it names an unknown kind, or no setting.

    >>> kind_and_setting("encoder:timm:vit_small.dino.depth")
    ('encoder', 'timm:vit_small.dino.depth')
    """
    kind = key.partition(":")[0].partition(".")[0]
    separator, setting = key[len(kind) :][:1], key[len(kind) + 1 :]
    if kind not in kinds:
        raise SettingError(
            f"'{key}': unknown kind '{kind}'.{nearest(kind, kinds)} Kinds: {', '.join(kinds)}."
        )
    name, _, last = setting.rpartition(".")
    if not last or (separator == ":") != bool(name):
        raise SettingError(
            f"'{key}' names no setting of the {kind}. Expected KIND.SETTING, as in grouper.num_slots, "
            f"or for one of several KIND:NAME.SETTING, as in grouper:kmeans.num_slots."
        )
    return kind, setting


def check_values(values: Mapping[str, Any]) -> None:
    """Refuse what an option can't be, as the command line does when it is read; None is the preset's.

    Raises:
        SettingError: names the option and what is expected.
    """
    choices = {
        "overwrite": Overwrite,
        "on_error": OnError,
        "fidelity": Fidelity,
        "precision": Precision,
        "device": Device,
    }
    for name, value in values.items():
        if value is None:
            continue
        if name in choices and value not in get_args(choices[name]):
            known = get_args(choices[name])
            hint = nearest(str(value), known)
            raise SettingError(f"{name} is {value!r}; expected one of {', '.join(known)}.{hint}")
        if name in ("batch_size", "workers", "limit") and not _is_whole(value, 1):
            raise SettingError(f"{name} is {value!r}; expected a whole number from 1")
        if name == "seeds" and not all(_is_whole(seed, 0) for seed in value):
            raise SettingError(f"seeds are {value!r}; expected whole numbers from 0")


def _plain(numbers: Iterable[Any]) -> tuple[Any, ...]:
    """Return numpy's whole numbers as Python's, which JSON takes; everything else is left to be refused."""
    return tuple(
        each if type(each) is bool or not isinstance(each, Integral) else int(each) for each in numbers
    )


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least  # True is an int, too
