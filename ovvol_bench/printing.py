"""Text from data, made fit to be printed: nobody's file moves the cursor, opens a link or runs a formula."""

from __future__ import annotations

import html
import re

_UNPRINTABLE = re.compile(  # control characters, direction overrides, lone surrogates, the marks of tables
    r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ue000-\ue00f]"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_FORMULA = ("=", "+", "-", "@")
_MAX = 200  # characters of one cell; longer names would fill the screen


def printable(text: str) -> str:
    r"""Put text on one line and escape characters that a terminal acts on.

    >>> printable("a\x1b[2J\nb")
    'a\\x1b[2J b'
    """
    return _UNPRINTABLE.sub(_escaped, text)


def control_problem(text: str) -> str | None:
    r"""Return the fault of a name with control characters or half a character, or None.

    >>> control_problem("ca\x1bt")
    "'ca\\x1bt' holds control characters; expected letters, digits, spaces and signs."
    """
    if _CONTROL.search(text) is None:
        return None
    return f"{ascii(text)[:_MAX]} holds control characters; expected letters, digits, spaces and signs."


def shortened(text: str, longest: int = _MAX) -> str:
    """Make text ``printable``, and cut it to so many characters."""
    text = printable(text)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def printable_lines(text: str) -> str:
    """Make each line of a text ``printable``."""
    return "\n".join(map(printable, text.split("\n")))


def json_printable(text: str) -> str:
    """Replace such characters in JSON text by its escapes: it reads the same."""
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def for_markdown(text: str) -> str:
    r"""Escape text so that Markdown shows it as it is, in a cell of a table too.

    >>> for_markdown("<b>|x")
    '&lt;b&gt;\\|x'
    """
    escaped = html.escape(text, quote=False).replace("\\", "&#92;").replace("](", "]&#40;")
    return escaped.replace("`", "&#96;").replace("*", "&#42;").replace("|", "\\|")


def for_csv(text: str) -> str:
    """Put an apostrophe before what a spreadsheet would take for a formula.

    >>> for_csv("=1+1"), for_csv("kmeans")
    ("'=1+1", 'kmeans')
    """
    text = printable(text)
    return f"'{text}" if text.startswith(_FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if found[0] in "\t\n\r":
        return " "
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
