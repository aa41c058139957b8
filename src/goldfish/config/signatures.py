"""Typed signatures, read from source without importing it: they are the configuration's schema.

A file `inits/chrono.py` holds one public function or class `chrono`; its keyword-only arguments, with literal defaults,
`Literal` choices and bounds in `Annotated`, are the keys `init.<argument>`. Reading them must not import torch.
"""

from __future__ import annotations

import ast
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from goldfish.config import bounds, moments
from goldfish.config.bounds import Bound
from goldfish.errors import ConfigError, nearest

Names = Sequence[str]  # of things that the registry has
TYPES: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool, "Moments": list, "Names": tuple}
_WORDS = {**TYPES, **bounds.KINDS, "Annotated": Annotated, "Literal": Literal}  # of an annotation


@dataclass(frozen=True)
class Parameter:
    """One configuration key: its type, whether it may be null, its choices and bounds, and its default."""

    name: str
    type: type
    default: Any = None
    optional: bool = False
    choices: tuple[str, ...] | None = None
    bound: Bound | None = None
    required: bool = False

    def expected(self) -> str:
        """The valid values, in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        bound = f" {bounds.told(self.bound)}" if self.bound else ""
        return f"{self.type.__name__}{bound}{' or null' if self.optional else ''}"

    def check(self, key: str, value: Any) -> Any:
        """Return the value as Python has it, an int as a float where one is wanted; raise ConfigError otherwise.

        A number of numpy or torch is that number, and -0.0 is 0.0: the same run has one fingerprint.
        """
        if value is None and self.optional:
            return None
        value = _plain(value)
        if self.type is list:
            return moments.checked(key, value)
        if self.type is tuple:
            return _names(key, value)
        if self.choices is not None:
            if value not in self.choices:
                raise ConfigError(f"{key}={value}: {nearest(value, self.choices)}")
            return value
        if self.type is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            value = self._float(key, value)
        if not isinstance(value, self.type) or (self.type is int and isinstance(value, bool)):
            raise ConfigError(f"{key}={value}: expected {self.expected()}")
        if isinstance(value, str) and not value.strip():
            raise ConfigError(f"{key}={value}: expected a text that is not empty")
        if isinstance(value, int) and abs(value) >= 2**63:
            raise ConfigError(f"{key}={_shown(value)}: expected {self.expected()} of at most 64 bits")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{key}={value}: expected a finite {self.expected()}")
        if isinstance(value, (int, float)) and self.bound is not None and not bounds.holds(self.bound, value):
            raise ConfigError(f"{key}={value}: expected {self.expected()}")
        return value

    def _float(self, key: str, value: float) -> float:
        """A number as a float, never a negative zero."""
        try:
            return float(value) + 0.0
        except OverflowError as error:
            raise ConfigError(f"{key}={_shown(value)}: expected a finite {self.expected()}") from error


def _names(key: str, value: Any) -> list[str]:
    """Names as a list, each once."""
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, Sequence) or not all(isinstance(name, str) for name in given):
        raise ConfigError(f"{key}={value}: expected a list of names")
    return list(dict.fromkeys(given))


def _plain(value: Any) -> Any:
    """Return a number of numpy or torch as Python's own, and a path as its text."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value


def _shown(value: float) -> str:
    """A number for a message: Python does not write out an integer of thousands of digits."""
    return str(value) if not isinstance(value, int) or value.bit_length() < 10_000 else f"{hex(value)[:20]}…"


@dataclass(frozen=True)
class Signature:
    """The keyword-only arguments of a function or class, and the module's constants.

    `attributes` are a class's own literal ones, such as `readout = "every"`; those it inherits are not among them.
    """

    name: str
    path: Path
    parameters: dict[str, Parameter]
    constants: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)


@cache
def read(path: Path, name: str) -> Signature:
    """Read the signature of the function or class in `path` whose name equals `name`, case and underscores aside.

    Raises ConfigError when there is none, or when an annotation is not one that a configuration can hold.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    wanted = name.replace("_", "").lower()
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name.replace("_", "").lower() == wanted:
            arguments = _fields(node) if isinstance(node, ast.ClassDef) else _keywords(node)
            parameters = {name: _parameter(name, *argument, path) for name, argument in arguments.items()}
            attributes = _literals(node.body) if isinstance(node, ast.ClassDef) else {}
            return Signature(node.name, path, parameters, _constants(tree), attributes)
    raise ConfigError(f"{path} defines no public '{name}': a thing's file name is its name, and a probe's is 'measure'")


def _fields(node: ast.ClassDef) -> dict[str, tuple[ast.expr | None, ast.expr | None]]:
    """Annotation and default of each keyword of `__init__`, or of each field with a default of a dataclass."""
    functions = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
    if functions:
        return _keywords(functions[0])
    if not any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        return {}
    items = [item for item in node.body if isinstance(item, ast.AnnAssign) and item.value is not None]
    return {item.target.id: (item.annotation, item.value) for item in items if isinstance(item.target, ast.Name)}


def _keywords(function: ast.FunctionDef) -> dict[str, tuple[ast.expr | None, ast.expr | None]]:
    given = function.args
    return {
        arg.arg: (arg.annotation, default) for arg, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)
    }


def _parameter(name: str, annotation: ast.expr | None, default: ast.expr | None, path: Path) -> Parameter:
    if annotation is None:
        raise ConfigError(f"{path}: argument '{name}' has no type")
    try:
        code = compile(ast.Expression(annotation), str(path), "eval")
        described = _described(eval(code, {"__builtins__": {}}, _WORDS))
    except (NameError, TypeError, AttributeError) as error:
        head = f"{path}: argument '{name}': '{ast.unparse(annotation)}'"
        raise ConfigError(f"{head} is no type that a configuration can hold") from error
    return Parameter(name, required=default is None, default=default and ast.literal_eval(default), **described)


def _described(kind: Any) -> dict[str, Any]:
    """Type, optional, choices and bound of an annotation. Raises TypeError for any other one."""
    arguments = get_args(kind)
    if type(None) in arguments:
        return _described(arguments[0]) | {"optional": True}
    if get_origin(kind) is Literal:
        return {"type": str, "choices": arguments}
    if get_origin(kind) is Annotated:
        inner, bound = arguments
        return _described(inner) | {"bound": bound}
    if kind not in TYPES.values():
        raise TypeError(kind)
    return {"type": kind}


def _constants(tree: ast.Module) -> dict[str, Any]:
    """Module-level constants with literal values, such as `CELLS = ("lstm", "gru")`."""
    return {name: value for name, value in _literals(tree.body).items() if name.isupper()}


def _literals(body: Sequence[ast.stmt]) -> dict[str, Any]:
    """Return name → value of every literal that is assigned there, annotated or not."""
    literals = {}
    for node in body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
        if isinstance(target, ast.Name) and value is not None:
            try:
                literals[target.id] = ast.literal_eval(value)
            except ValueError:  # not a literal: no concern of the configuration
                continue
    return literals
