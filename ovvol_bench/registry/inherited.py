"""Settings that a class hands on to its base: ``def __init__(self, *, rounds: int = 3, **base: Any)``.

The keyword-only parameters of the base's ``__init__`` are then settings of the class as well, documented
where the base documents them.
"""

from __future__ import annotations

import inspect
import re

_ENTRY = re.compile(r"^ {4}(\w[\w, ]*):", re.MULTILINE)


def hands_on(signature: inspect.Signature) -> bool:
    """True if a signature ends in ``**``."""
    return any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values())


def joined(own: inspect.Signature, inherited: inspect.Signature) -> inspect.Signature:
    """Put the keyword-only parameters of a base, but for those declared anew, in the place of ``**``.

    Args:
        own: ends in ``**``.
        inherited: of the base; its own ``**`` stays.
    """
    known = [each for each in own.parameters.values() if each.kind is not each.VAR_KEYWORD]
    names = {each.name for each in known}
    handed = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
    more = [each for each in inherited.parameters.values() if each.kind in handed and each.name not in names]
    return own.replace(parameters=[*known, *more])


def joined_documentation(own: str, base: str, name: str) -> str:
    """Add what a base's docstring says of the arguments that the class's own leaves out.

    Args:
        own: docstring of the class, indentation removed.
        base: of the base, indentation removed.
        name: of the base.
    """
    known = {name.strip() for names in re.findall(_ENTRY, own) for name in names.split(",")}
    lines: list[str] = []
    is_new = False
    for line in (base.partition("\nArgs:\n")[2] + "\nEnd").splitlines():
        if line and not line.startswith(" "):
            break
        if entry := _ENTRY.match(line):
            is_new = entry[1] not in known and entry[1] not in ("self", "task")
        if is_new and line:
            lines.append(line)
    return "\n".join([own, "", f"Args of {name}:", *lines]) if lines else own
