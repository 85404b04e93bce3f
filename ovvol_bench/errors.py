"""The errors that a user can mend: shown as one message, exit code 2, no traceback."""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

_BETWEEN = ("pluggy", "click", "torch", "accelerate", "deepspeed")  # what calls plugins for us


class OvvolError(Exception):
    """Base of every error caused by input: names the culprit, what was expected, what to do."""


class SettingError(OvvolError):
    """A setting has an unknown name or a value outside its range."""


class MissingSettingError(SettingError):
    """A setting without a default was not given."""


class OutputError(SettingError):
    """A place that was chosen for an output can't take it: full, read-only, or of another kind."""


class UnknownNameError(OvvolError):
    """A name was asked for that nothing is registered under."""


class PluginError(OvvolError):
    """A plugin is broken, misspells a hook, or takes a name that is taken."""


class ContractError(OvvolError):
    """A component returned something other than its contract promises."""


class WeightsError(OvvolError):
    """A weights file is missing, truncated, unsafe, or of another architecture."""


class CheckpointError(OvvolError):
    """A training checkpoint can't be written, is damaged, or belongs to another training."""


class TrainingError(OvvolError):
    """A training can't go on: its loss or gradients are no longer finite."""


class DataError(OvvolError):
    """A dataset, annotation, list or prediction file is missing or malformed."""


class DecodeError(DataError):
    """Frames of one clip could not be read; other clips are not affected."""


@contextlib.contextmanager
def calling(what: str) -> Iterator[None]:
    """Make whatever a plugin's code raises, or an attempt of it to end the process, one line that names it.

    Errors for users come through as they are, and so does an interrupt by the user.

    Args:
        what: is called, as in ``grouper 'kmeans'``.

    Raises:
        PluginError: with the file and line where the plugin failed; what it raised is the cause.
    """
    try:
        yield
    except (OvvolError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise PluginError(f"{what} failed: {reason_of(error)}") from error


def reason_of(error: BaseException) -> str:
    """Tell on one line what happened in foreign code: kind and text of an error, file and line."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = "its text can't be had"
    if isinstance(error, SystemExit):
        text = f"it tried to end the process with {error.code!r}"
    return f"{type(error).__name__}{': ' if text else ''}{text}{place_of(error)}"


def place_of(error: BaseException) -> str:
    """Locate where foreign code failed, as `` (FILE, line N)``: its own last line, not one that it called.

    Its own are the files of the folder of the first that is neither ours nor calls plugins for us.
    """
    between = [sys.modules[name].__file__ for name in _BETWEEN if name in sys.modules]
    folders = (
        Path(traceback.__file__).parent / "importlib",
        *(Path(file).parent for file in between if file),
    )
    callers = (*(f"{folder}{os.sep}" for folder in folders), traceback.__file__, contextlib.__file__)
    frames = [
        each
        for each in traceback.extract_tb(error.__traceback__)
        if not each.filename.startswith(("<", *callers))
    ]
    foreign = [each for each in frames if not each.filename.startswith(str(Path(__file__).parent))]
    if not foreign:
        return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    folder = str(Path(foreign[0].filename).parent)
    last = [each for each in foreign if each.filename.startswith(folder)][-1]
    return f" ({last.filename}, line {last.lineno})"


def error_text(error: BaseException) -> str:
    """Return one line for a result: the message of an error made for users, else type and message."""
    return str(error) if isinstance(error, OvvolError) else f"{type(error).__name__}: {error}"


def nearest(name: str, known: Iterable[str]) -> str:
    """A ready sentence " Did you mean 'x'?" for the closest known name, or an empty string.

    >>> nearest("slot_atention", ["kmeans", "slot_attention"])
    " Did you mean 'slot_attention'?"
    >>> nearest("zebra", ["kmeans"])
    ''
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean '{close[0]}'?" if close else ""


def check_installed(package: str, what: str, extra: str) -> None:
    """Refuse what needs an optional package that isn't there.

    Args:
        package: its import name.
        what: what needs it, for the message.
        extra: the extra of this project that installs it.

    Raises:
        SettingError: if the package is not installed.
    """
    if find_spec(package) is None:
        raise SettingError(
            f"{what} needs the package {package}, which is not installed: pip install 'ovvol-bench[{extra}]'"
        )
