"""Read and write files: atomically, by safe names, as text, JSON or YAML.

Damaged and hostile files are refused in one line. Locks are in ``locks``.
"""

from __future__ import annotations

import errno
import gc
import hashlib
import json
import math
import os
import re
import shutil
import socket
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from importlib.resources.abc import Traversable
from pathlib import Path
from tempfile import NamedTemporaryFile, mkdtemp
from typing import Any

from ovvol_bench.errors import DataError, OutputError

HEARTBEAT = 30.0  # seconds between signs of life of a lock file's holder
SILENCE = 10 * HEARTBEAT  # after which a holder on another machine counts as gone: clocks differ by less
_LONGEST = 240  # bytes of a part of a path, with room for an ending: file systems take 255
_LEFTOVER = ".unfinished-"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EIO}
_NUMBERS = re.compile(r"\[\s+-?\d[-+\d.eE,\s]*\]")  # lists of them in indented JSON
_ESCAPED = re.compile(r"\\u(?:[dD][89a-fA-F]|0000)")  # may be half a character, or NUL
_MOST_VALUES = 1_000_000  # of a YAML file


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write into one line that names the file.

    Only failures of writing: a full disk wherever it shows, and what the system refuses at ``path``, above it
    or where it is being written. An input that can't be read inside of the body stays an error of its own.

    Raises:
        OutputError: names ``path``, the system's reason and what to do.
    """
    try:
        yield
    except OSError as error:
        names = [Path(os.fsdecode(name)) for name in (error.filename, error.filename2) if name is not None]
        own = any(name in (path, *path.parents) or is_leftover(name) for name in names)
        if error.errno not in _NO_ROOM and not own:
            raise
        raise OutputError(unwritable(path, error)) from error


def unwritable(path: Path, error: OSError) -> str:
    """Return the message of an output that can't be written."""
    advice = {
        errno.ENOSPC: "Free some space there, or choose another folder.",
        errno.EDQUOT: "Free some of your quota, or choose another folder.",
        errno.EMFILE: "Raise the limit of open files (ulimit -n).",
        errno.ENFILE: "Raise the system's limit of open files.",
    }
    what = advice.get(error.errno or 0, "Choose another folder.")
    return f"can't write {path}: {error.strerror or error}. {what}"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path whose file replaces ``path`` at the end.

    It has the same name, from which encoders tell the format, in a folder of its own. If the body raises,
    ``path`` stays as it was. Leftovers of killed processes beside ``path`` are removed.

    Raises:
        OutputError: if it can't be written: the disk is full, the folder read-only or a file.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        folder = Path(mkdtemp(dir=path.parent, prefix=f"{_LEFTOVER}{socket.gethostname()}-{os.getpid()}-"))
        try:
            temporary = folder / path.name
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@cache  # a folder is searched once a process: shards are added to it by the thousand
def remove_leftovers(folder: Path) -> None:
    """Remove unfinished files that killed processes left in a folder."""
    for found in folder.glob(f"{_LEFTOVER}*"):
        made = re.fullmatch(rf"{re.escape(_LEFTOVER)}(.+)-(\d+)-\w+", found.name)
        if made and not is_alive(made[1], int(made[2]), found):  # else it is somebody else's
            shutil.rmtree(found, ignore_errors=True)


def is_leftover(path: Path) -> bool:
    """Return whether a path lies in an unfinished folder, where nothing is a result."""
    return any(part.startswith(_LEFTOVER) for part in path.parts)


def is_alive(host: str, pid: int, trace: Path) -> bool:
    """Return whether a process lives; on another machine, whether its trace was touched lately."""
    if host == socket.gethostname():
        try:
            os.kill(pid, 0)  # asks, and sends nothing
        except ProcessLookupError:
            return False
        except PermissionError:  # of another user
            pass
        return True
    with suppress(FileNotFoundError):
        return time.time() - trace.stat().st_mtime < SILENCE
    return False


def require_file(path: Path) -> Path:
    """Return the path if it is a regular file: reading a pipe or a device may never end.

    Raises:
        OSError: if there is nothing, or something else than a file.
        ValueError: if the name can't be one.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(code, "Is a directory" if stat.S_ISDIR(mode) else "Not a regular file", str(path))
    return path


def read_text(path: Path) -> str:
    """Read UTF-8 text, without the byte order mark that some programs begin it with.

    Raises:
        OSError: if it can't be read, or is no regular file.
        ValueError: if it is no UTF-8, or the name can't be one.
    """
    return require_file(path).read_text(encoding="utf-8-sig")


def in_utf8(name: str) -> str:
    r"""Return a name as files and results can hold it: bytes that are no UTF-8 are written out.

    >>> in_utf8("caf\udce9")
    'caf\\xe9'
    """
    if name.isascii():
        return name
    try:
        content = name.encode(errors="surrogateescape")
    except UnicodeEncodeError:  # half a character, which is no byte of a file's name
        content = name.encode(errors="backslashreplace")
    return content.decode(errors="backslashreplace")


def require_utf8(names: Iterable[str], folder: Path) -> None:
    """Refuse names of videos that results, digests and files of other programs can't hold.

    Args:
        names: of files or folders.
        folder: that they lie in, for messages.

    Raises:
        DataError: says how many names are not UTF-8, and the first.
    """
    if odd := [name for name in names if in_utf8(name) != name]:
        raise DataError(
            f"{in_utf8(str(folder))}: {len(odd)} names there are not UTF-8, first: {in_utf8(odd[0])}. Rename "
            "them; a video is called by its name in results."
        )


def is_utf8(path: Path) -> bool:
    """Return whether C libraries can take a path: OpenCV ends the process over one that is no UTF-8."""
    try:
        os.fspath(path.absolute()).encode()
    except UnicodeEncodeError:
        return False
    return True


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically.

    Raises:
        OutputError: if it can't be written.
    """
    with replacing(path) as temporary:
        # Bytes of names that are no UTF-8 are lone surrogates: written out, with a backslash that JSON keeps.
        plain = re.sub("[\ud800-\udfff]", lambda found: f"\\\\u{ord(found[0]):04x}", text)
        temporary.write_text(plain, encoding="utf-8")


def below(root: Path, *names: str) -> Path:
    """Join a folder and names that come from data, as the names of videos do.

    Args:
        root: the folder, chosen by the user.
        names: from data; each may have several parts with "/" between.

    Raises:
        OutputError: if a name would lead out of ``root``, or can't be a file's: it is absolute, has empty,
            ".", ".." or overlong parts, or characters that can't be printed.
    """
    parts = [part for name in names for part in name.split("/")]
    for part in parts:
        if part in ("", ".", "..") or not part.isprintable() or len(os.fsencode(part)) > _LONGEST:
            shown = ascii("/".join(names))[:80]
            raise OutputError(
                f"can't write below {root}: {shown} is no name of a file there; "
                "expected parts without '..', of printable characters, at most 240 bytes each. Rename it in "
                "the data."
            )
    return root.joinpath(*parts)


def file_stem(name: str) -> str:
    """Make one part of a path from a name; all but letters, digits, ".", "-", "@" and "_" become "_".

    >>> file_stem("../a b")
    '.._a_b'
    """
    stem = re.sub(r"[^\w.@-]+", "_", name)
    if len(stem.encode()) <= 200:  # bytes; leaves room for an ending
        return stem
    return f"{stem.encode()[:180].decode(errors='ignore')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def make_folder(path: Path) -> None:
    """Make a folder to write into, and those above it.

    Raises:
        OutputError: if it can't be made.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)


def ensure_writable(folder: Path) -> None:
    """Make the folder and try it, before hours of work end in a file that can't be written.

    Raises:
        OutputError: if it can't be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"can't write to the output folder {folder}: {error.strerror or error}. "
            "Choose another one with --output."
        ) from error


def json_ready(value: Any) -> Any:
    """Replace values that JSON can't hold, at any depth: NaN and infinity by None, bytes of names by escapes.

    Digests are made of the result, so that they are of what a reader finds in the file.

    >>> json_ready({"ap": float("nan"), "per_class": [0.5, float("inf")]})
    {'ap': None, 'per_class': [0.5, None]}
    """
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str):
        return in_utf8(value)
    if isinstance(value, Mapping):
        return {json_ready(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    return value


def canonical_digest(value: object) -> str:
    """Hash a JSON-able value, whatever the order of its keys.

    Returns:
        SHA-256, 64 hex digits.

    >>> canonical_digest({"a": 1, "b": (2,)}) == canonical_digest({"b": [2], "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def sealed(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy with a ``digest`` of all else in it, which tells files that were edited."""
    content = {name: value for name, value in document.items() if name != "digest"}
    return {**content, "digest": canonical_digest(content)}


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, indented; a list of numbers stands in one line.

    Raises:
        OutputError: if it can't be written.
    """
    text = json.dumps(json_ready(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_text(path, _NUMBERS.sub(lambda found: " ".join(found[0].split()), text))


@contextmanager
def no_collection() -> Iterator[None]:
    """Pause garbage collection, which would look again and again at millions of objects in use."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@no_collection()
def read_json(path: Path, strict: bool = False) -> Any:
    """Read a JSON file in UTF-8, with or without a byte order mark.

    Args:
        path: of the file.
        strict: refuse byte order marks, NaN and infinity, which this program never writes. Elsewhere a number
            that isn't finite is refused where its field is read, by its entry.

    Raises:
        DataError: if it can't be read, is cut off, nested too deeply, holds a key twice in one object, half
            a character (a lone surrogate) or NUL.
    """
    try:
        text = require_file(path).read_bytes().decode("utf-8" if strict else "utf-8-sig")
        numbers: dict[str, Any] = dict.fromkeys(("parse_float", "parse_constant"), _finite) if strict else {}
        content = json.loads(text, object_pairs_hook=_unique, **numbers)
        if _ESCAPED.search(text):
            _check_characters(content)
    except RecursionError:
        raise DataError(f"{path}: can't be read as JSON (it is nested too deeply). Write it again.") from None
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror or error}). Is it the right path?") from None
    except ValueError as error:
        raise DataError(
            f"{path}: can't be read as JSON ({str(error)[:300]}). Was it cut off? Write it again."
        ) from None
    return content


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON object that this program wrote.

    Raises:
        DataError: if the file is missing, malformed or holds something other than an object.
    """
    value = read_json(path, strict=True)
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, found a {type(value).__name__}")
    return value


def shown(value: Any, most: int = 60) -> str:
    """Return a value of a file for a message, as JSON and cut to some characters."""
    try:
        text = "nothing" if value is None else json.dumps(value, default=repr)
    except (RecursionError, ValueError):
        text = f"a deeply nested {type(value).__name__}"
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {shown(twice)} is there twice in one object")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is no finite number")
    return value


def _check_characters(content: Any) -> None:
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, str) and ("\0" in value or any("\ud800" <= c <= "\udfff" for c in value)):
            raise ValueError(f"the text {shown(value)} has half a character (a lone surrogate) or NUL")


def read_yaml(path: Path | Traversable) -> Any:
    """Read a YAML file of mappings, lists, text and numbers; a tag that would make anything else is refused.

    Raises:
        DataError: if it can't be read, isn't YAML in UTF-8, holds a key twice in one mapping, is nested too
            deeply, or aliases make it refer to itself or grow beyond a million values.
    """
    import yaml

    try:
        text = read_text(path) if isinstance(path, Path) else path.read_text(encoding="utf-8-sig")
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        _check_keys(node, set())
        content = None if node is None else loader.construct_document(node)
        _count(content, {})
    except yaml.MarkedYAMLError as error:
        place = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise DataError(f"{path}: not valid YAML ({error.problem}{place}).") from None
    except RecursionError:
        raise DataError(f"{path}: not valid YAML (nested too deeply).") from None
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror or error}).") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: not valid YAML ({reason}).") from None
    return content


def _check_keys(node: Any, known: set[int]) -> None:
    # YAML's readers take the last of two equal keys in silence.
    from yaml import MappingNode, SequenceNode
    from yaml.constructor import ConstructorError

    if not isinstance(node, (MappingNode, SequenceNode)) or id(node) in known:
        return
    known.add(id(node))
    keys: set[tuple[str, str]] = set()
    for item in node.value:
        key, value = item if isinstance(node, MappingNode) else (None, item)
        _check_keys(value, known)
        if key is None or not isinstance(key.value, str):
            continue
        if (key.tag, key.value) in keys:
            problem = f"the key '{key.value}' is there twice in one mapping"
            raise ConstructorError(None, None, problem, key.start_mark)
        keys.add((key.tag, key.value))


def _count(value: Any, known: dict[int, int]) -> int:
    """Count the values of a document, every alias written out; ``known`` holds counts by identity."""
    if not isinstance(value, (dict, list)):
        return 1
    if id(value) not in known:
        known[id(value)] = _MOST_VALUES + 1  # until it is counted: one that holds itself is refused
        children = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_count(child, known) for child in children)
    if known[id(value)] > _MOST_VALUES:
        raise ValueError(f"over {_MOST_VALUES} values, aliases written out")
    return known[id(value)]
