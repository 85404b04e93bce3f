"""The errors that a user can mend: shown as one message, exit code 2, no traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib.util import find_spec


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
