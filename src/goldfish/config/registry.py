"""The registry of models, cells, initialisations, tasks, optimisers and probes, our own and other packages'.

Each is one file. Another package adds things through the entry-point group `goldfish`: the entry's name is
`<group>.<name>`, such as `cell.mgu` or `probe.sharpness`, and its value is the module that holds the function or class
of that name; a probe's function is called `measure`, so that its file may hold the instrument under its own name.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

from goldfish.config import signatures
from goldfish.config.signatures import Signature
from goldfish.errors import ConfigError, nearest

GROUPS = {
    "model": "models",
    "cell": "cells",
    "init": "inits",
    "task": "tasks",
    "optimizer": "optimizers",
    "probe": "probes",
    "callback": "callbacks",  # of Lightning; there are none but other packages' own
    "logger": "loggers",
}
_FUNCTIONS = {"probe": "measure"}  # where it is not called like its file
_HERE = Path(__file__).parents[1]  # the package


@cache
def modules(group: str) -> dict[str, str]:
    """Return name → module for one group: our own files first, then other packages' entry points."""
    folder = GROUPS[group]
    paths = [path for path in sorted((_HERE / folder).glob("*.py")) if path.stem not in ("__init__", "base")]
    if group in _FUNCTIONS:  # a file without it holds what others measure with
        paths = [path for path in paths if f"\ndef {_FUNCTIONS[group]}(" in path.read_text(encoding="utf-8")]
    own = {path.stem: f"goldfish.{folder}.{path.stem}" for path in paths}
    others = {name.partition(".")[2]: module for name, module in _entries().items() if name.startswith(f"{group}.")}
    return others | own


@cache
def _entries() -> dict[str, str]:
    """The entry points of other packages, read once: it takes milliseconds, for it looks at every package."""
    return {entry.name: entry.value for entry in importlib.metadata.entry_points(group="goldfish")}


def names(group: str) -> list[str]:
    """The names of one group, sorted."""
    return sorted(modules(group))


@cache
def signature(group: str, name: str) -> Signature:
    """The signature of one thing, read without importing its module. Raises ConfigError for an unknown name."""
    if name not in modules(group):
        raise ConfigError(f"{group}={name}: {nearest(name, modules(group))}")
    return signatures.read(source(group, name), _FUNCTIONS.get(group, name))


def source(group: str, name: str) -> Path:
    """The file that defines a thing."""
    module = modules(group)[name]
    own = _HERE / GROUPS[group] / f"{name}.py"
    if module == f"goldfish.{GROUPS[group]}.{name}":
        return own
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ConfigError(f"{group}={name}: its entry point names the module '{module}', which is not installed")
    return Path(spec.origin)


def load(group: str, name: str) -> Any:
    """Import a thing and return its function or class."""
    return getattr(importlib.import_module(modules(group)[name]), signature(group, name).name)
