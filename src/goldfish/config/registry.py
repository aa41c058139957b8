"""What there is to choose from: models, cells, initialisations, tasks and optimisers, and other packages' own.

Each is one file. Another package adds things through the entry-point group `goldfish`: the entry's name is
`<group>.<name>`, such as `cell.mgu`, and its value is the module that holds the function or class of that name. Probes
come the same way, `probe.<name>`; there is nothing to choose about them, every one that is installed is measured.
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

GROUPS = {"model": "models", "cell": "cells", "init": "inits", "task": "tasks", "optimizer": "optimizers"}
_HERE = Path(__file__).parents[1]  # the package


@cache
def modules(group: str) -> dict[str, str]:
    """Return name → module for one group: our own files first, then other packages' entry points."""
    folder = GROUPS[group]
    paths = sorted((_HERE / folder).glob("*.py"))
    found = {path.stem: f"goldfish.{folder}.{path.stem}" for path in paths if path.stem not in ("__init__", "base")}
    return _installed(group) | found


@cache
def _installed(group: str) -> dict[str, str]:
    """name → module of what other packages add to a group."""
    entries = importlib.metadata.entry_points(group="goldfish")
    return {entry.name.partition(".")[2]: entry.value for entry in entries if entry.name.startswith(f"{group}.")}


def probes() -> dict[str, Any]:
    """name → function of every probe that other packages add."""
    return {name: getattr(importlib.import_module(module), name) for name, module in _installed("probe").items()}


def names(group: str) -> list[str]:
    """The names of one group, sorted."""
    return sorted(modules(group))


@cache
def signature(group: str, name: str) -> Signature:
    """The signature of one thing, read without importing its module. Raises ConfigError for an unknown name."""
    if name not in modules(group):
        raise ConfigError(f"{group}={name}: {nearest(name, modules(group))}")
    return signatures.read(source(group, name), name)


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
