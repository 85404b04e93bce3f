"""The one reader of YAML files: plain values alone, damaged and hostile ones refused in one line."""

from __future__ import annotations

from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from ovvol_bench.errors import DataError
from ovvol_bench.files import read_text

_MOST_VALUES = 1_000_000


def read_yaml(path: Path | Traversable) -> Any:
    """Values of a YAML file: mappings, lists, text, numbers; a tag that would make anything else is refused.

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
    """Refuse keys that are twice in a mapping, of which YAML's readers take the last in silence."""
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
    """Values in a document with every alias written out; ``known``: of what was counted, by identity."""
    if not isinstance(value, (dict, list)):
        return 1
    if id(value) not in known:
        known[id(value)] = _MOST_VALUES + 1  # until it is counted: one that holds itself is refused
        children = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_count(child, known) for child in children)
    if known[id(value)] > _MOST_VALUES:
        raise ValueError(f"over {_MOST_VALUES} values, aliases written out")
    return known[id(value)]
