"""Classes and functions by name: read from source to list settings, imported only to be called.

`Lazy` stands for the class that a name such as ``my_package.kmeans:KMeans`` gives. Its settings are shown,
completed and checked while the module, and torch with it, stays unloaded: signature and docstring are read
from the parsed source. Annotations become real objects all the same, as every name in one is looked up among
the imports and assignments of its module. Modules that are loaded already or load quickly are imported for
that; of any other the source is read in the same way. Where source can't tell (a decorator, a computed
default), the module is imported and inspected instead.

A class may hand settings on to its base, as in ``def __init__(self, *, rounds: int = 3, **base: Any)``: the
keyword-only parameters of the base's ``__init__`` are then settings of the class as well, documented where
the base documents them.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stdout
from functools import cached_property, lru_cache, partial
from importlib import import_module
from importlib.util import decode_source, resolve_name
from typing import Any, NamedTuple, get_type_hints

from ovvol_bench.errors import PluginError, calling, nearest
from ovvol_bench.registry.code import source_file

_TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_ARGUMENT = re.compile(r"^ {4}(\w[\w, ]*):", re.MULTILINE)
_QUICK = {*sys.stdlib_module_names, "annotated_types"}
"""Top-level packages that load quickly, beside this one's."""

_SETTINGLESS = {"torch", "abc", "typing"}
"""Packages whose classes declare no settings: the search for ``__init__`` ends there."""


class Lazy:
    """A class or function by name, imported when it is called or when its source can't tell its signature.

    >>> Lazy("fractions:Fraction", denominator=4)(numerator=1)
    Fraction(1, 4)

    Args:
        target: ``package.module:Name``.
        defaults: keyword arguments that it is called with unless others are given.
    """

    def __init__(self, target: str, /, **defaults: Any) -> None:
        self.target, self.defaults = target, defaults

    def __repr__(self) -> str:
        return repr(self.target)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Import and call it."""
        return self.load()(*args, **(self.defaults | kwargs))

    @property
    def module(self) -> str:
        """Import name of the module."""
        return self.target.partition(":")[0]

    @property
    def is_valid(self) -> bool:
        """True if the target has the form of one."""
        return isinstance(self.target, str) and bool(_TARGET.fullmatch(self.target))

    def load(self) -> Callable[..., Any]:
        """Import the class or function.

        Raises:
            PluginError: if the module fails to load or has nothing of that name that can be called.
        """
        module, _, name = self.target.partition(":")
        with calling(f"import of {module}"), redirect_stdout(sys.stderr):  # stdout is for what was asked for
            found: Callable[..., Any] | None = getattr(import_module(module), name, None)
        if not callable(found):
            close = nearest(name, vars(sys.modules[module]))
            raise PluginError(f"module {module} has no class or function '{name}'.{close}")
        return found

    @cached_property
    def declaration(self) -> Callable[..., Any]:
        """Something that `inspect` reads like the class or function; it can't be called."""
        module, _, name = self.target.partition(":")
        try:
            found = _Source(module).declaration(name)
        except (_UnreadableError, AttributeError, RecursionError):
            found = self.load()
        return partial(found, **self.defaults) if self.defaults else found


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
    known = {name.strip() for names in re.findall(_ARGUMENT, own) for name in names.split(",")}
    lines: list[str] = []
    is_new = False
    for line in (base.partition("\nArgs:\n")[2] + "\nEnd").splitlines():
        if line and not line.startswith(" "):
            break
        if entry := _ARGUMENT.match(line):
            is_new = entry[1] not in known and entry[1] not in ("self", "task")
        if is_new and line:
            lines.append(line)
    return "\n".join([own, "", f"Args of {name}:", *lines]) if lines else own


class _UnreadableError(Exception):
    """Source can't tell; the module must be imported."""


class _Import(NamedTuple):
    """A name bound by ``import module`` (no attribute) or ``from module import attribute``."""

    module: str
    attribute: str | None


_Init = tuple[inspect.Signature, list[ast.ClassDef]]
"""Signature of an ``__init__`` less ``self``, and the classes whose ``__init__`` declare its parameters."""


_parsed = lru_cache(maxsize=256)(ast.parse)
"""Components of a kind read the same modules: that of the base classes, of limits and of roles."""


class _Source:
    """A module's parsed source.

    Args:
        module: its import name.

    Raises:
        _UnreadableError: if there is no such module, or none in Python.
    """

    def __init__(self, module: str) -> None:
        try:
            file = source_file(module)
            tree = _parsed(decode_source(file.read_bytes())) if file else None
        except (OSError, ValueError, SyntaxError) as error:
            raise _UnreadableError(module) from error
        if file is None or tree is None:
            raise _UnreadableError(module)
        self._package = module if file.name == "__init__.py" else module.rpartition(".")[0]
        self._bound = dict(self._bindings(tree.body))

    def _bindings(self, body: Iterable[ast.stmt]) -> Iterator[tuple[str, ast.stmt | ast.expr | _Import]]:
        """Names that statements bind, each with its definition, those within ``if`` and ``try`` too."""
        for node in body:
            match node:
                case ast.Import(names=names):
                    for alias in names:
                        top = alias.name.partition(".")[0]
                        yield alias.asname or top, _Import(alias.name if alias.asname else top, None)
                case ast.ImportFrom(module=module, names=names, level=level):
                    origin = resolve_name("." * level + (module or ""), self._package)
                    for alias in names:
                        yield alias.asname or alias.name, _Import(origin, alias.name)
                case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                    yield name, node
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    yield name, value
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    yield name, value
                case ast.If() | ast.Try():
                    yield from self._bindings([*node.body, *node.orelse])

    def declaration(self, name: str) -> Callable[..., Any]:
        """Make a stub of a class or function: its name, docstring and signature, types resolved."""
        owners: list[ast.ClassDef] = []
        match self._bound.get(name):
            case _Import(module=module, attribute=str() as attribute):
                return _Source(module).declaration(attribute)
            case ast.FunctionDef() as node:
                signature = self._signature(node)
            case ast.ClassDef() as node:
                signature, owners = self._init_of(node) or (inspect.Signature(), [])
            case _:
                raise _UnreadableError(name)

        def stub() -> None: ...

        text = ast.get_docstring(node) or ""
        for owner in owners:
            if owner is not node:
                text = joined_documentation(text, ast.get_docstring(owner) or "", owner.name)
        stub.__name__, stub.__doc__ = name, text
        stub.__signature__ = signature  # type: ignore[attr-defined]
        return stub

    def _init_of(self, node: ast.ClassDef) -> _Init | None:
        """Find the first ``__init__`` in a class and its bases, and those that it hands settings on to."""
        if node.decorator_list:  # a dataclass, for example, writes its own
            raise _UnreadableError(node.name)
        for item in node.body:
            if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                signature = self._signature(item)
                signature = signature.replace(parameters=list(signature.parameters.values())[1:])
                inherited = self._init_of_bases(node) if hands_on(signature) else None
                if inherited is None:
                    return signature, [node]
                return joined(signature, inherited[0]), [node, *inherited[1]]
        return self._init_of_bases(node)

    def _init_of_bases(self, node: ast.ClassDef) -> _Init | None:
        found = (self._init_of_base(base) for base in node.bases)
        return next((init for init in found if init is not None), None)

    def _init_of_base(self, base: ast.expr) -> _Init | None:
        plain = base.value if isinstance(base, ast.Subscript) else base  # Base of Base[int]
        first = plain.value if isinstance(plain, ast.Attribute) else plain  # nn of nn.Module
        match self._bound.get(first.id) if isinstance(first, ast.Name) else None:
            case None if isinstance(base, ast.Name) and base.id in vars(builtins):
                return None
            case ast.ClassDef() as node:
                return self._init_of(node)
            case _Import(module=module) if module.partition(".")[0] in _SETTINGLESS:
                return None
            case _Import(module=module, attribute=str() as attribute) if first is plain:
                return _Source(module)._init_of_base(ast.Name(attribute))
        raise _UnreadableError(ast.unparse(base))

    def _signature(self, node: ast.FunctionDef) -> inspect.Signature:
        if node.decorator_list:  # which may replace the signature
            raise _UnreadableError(node.name)
        given, kinds = node.args, inspect.Parameter
        positional = [*given.posonlyargs, *given.args]
        defaults = [None] * (len(positional) - len(given.defaults)) + given.defaults
        declared: list[tuple[Any, ast.arg | None, ast.expr | None]] = [
            *((kinds.POSITIONAL_OR_KEYWORD, *each) for each in zip(positional, defaults, strict=True)),
            (kinds.VAR_POSITIONAL, given.vararg, None),
            *((kinds.KEYWORD_ONLY, *each) for each in zip(given.kwonlyargs, given.kw_defaults, strict=True)),
            (kinds.VAR_KEYWORD, given.kwarg, None),
        ]
        parameters = [self._parameter(kind, arg, value) for kind, arg, value in declared if arg is not None]
        return inspect.Signature(parameters)

    def _parameter(self, kind: Any, node: ast.arg, default: ast.expr | None) -> inspect.Parameter:
        # Only keyword-only parameters are settings; of the others the source is enough for messages.
        is_setting = kind is inspect.Parameter.KEYWORD_ONLY
        value: Any = inspect.Parameter.empty
        annotation: Any = inspect.Parameter.empty
        if node.annotation is not None:
            annotation = self._type(node.annotation) if is_setting else ast.unparse(node.annotation)
        if default is not None:
            value = self._constant(default) if is_setting else ast.unparse(default)
        return inspect.Parameter(node.arg, kind, default=value, annotation=annotation)

    def _constant(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Name):
            return self._value(node.id)
        try:
            return ast.literal_eval(node)
        except ValueError as error:
            raise _UnreadableError(ast.unparse(node)) from error

    def _type(self, node: ast.expr) -> Any:
        """Object that an annotation stands for."""
        used = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
        plain_builtins = vars(builtins).keys() - self._bound.keys()
        names = {name: self._value(name) for name in used - plain_builtins}
        holder = types.SimpleNamespace(__annotations__={"it": ast.unparse(node)})
        try:
            return get_type_hints(holder, names, include_extras=True)["it"]
        except Exception as error:  # anything may stand in an annotation
            raise _UnreadableError(ast.unparse(node)) from error

    def _value(self, name: str) -> Any:
        """Object that a name of the module stands for."""
        match self._bound.get(name):
            case _Import(module=module, attribute=attribute):
                # An import of anything else could load torch only to read a range or a role.
                if module in sys.modules or module.partition(".")[0] in _QUICK:
                    found = import_module(module)
                    return found if attribute is None else getattr(found, attribute)
                if attribute is not None:
                    return _Source(module)._value(attribute)
            case ast.expr() as value:
                try:
                    return ast.literal_eval(value)
                except ValueError:
                    return self._type(value)
        raise _UnreadableError(name)
