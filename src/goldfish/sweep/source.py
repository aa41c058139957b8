"""The hash of the source that made a run: recorded beside it, so that runs of older code can be told apart.

Comments, docstrings and layout do not count. The text compared is what `ast.unparse` prints, which may differ between
versions of Python: after an upgrade runs can look stale although nothing changed.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from goldfish.config import registry

PACKAGE = Path(registry.__file__).parents[1]
Chosen = Mapping[str, Mapping[str, Any]]  # a configuration, or the part of it that names things
SHARED = ("engines", "probes", "training")  # folders that every run goes through
CHOSEN = ("model", "cell", "init", "task", "optimizer")
DESCRIBING = {"errors", "config"}  # what is chosen, not what is done


def source_hash(config: Chosen) -> str:
    """Return 64 hex digits of the code of a run's cell, initialisation, task and optimiser, and of what trains them."""
    return _hash(files(config))


def _hash(paths: Sequence[Path]) -> str:
    lines = sorted(f"{_label(path)} {_parsed(path)[0]}" for path in paths)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def training_hash(config: Chosen) -> str:
    """The same for whatever pack a run is trained in: in place of its own initialisation it covers all of them."""
    chosen = [registry.source(group, config[group]["name"]) for group in CHOSEN if group != "init"]
    inits = [registry.source("init", name) for name in registry.names("init")]
    return _hash(_with_imported([*chosen, *inits]))


def files(config: Chosen) -> list[Path]:
    """The source files that made a run: what it chose, what trains it, and every module of ours that these import."""
    return _with_imported([registry.source(group, config[group]["name"]) for group in CHOSEN])


def _with_imported(chosen: Sequence[Path]) -> list[Path]:
    waiting = [*chosen, *(path for folder in SHARED for path in (PACKAGE / folder).rglob("*.py"))]
    found: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _parsed(path)[1]
    return sorted(found)


def _file(module: str) -> Path | None:
    """The file of a module of goldfish, unless it only describes what there is to choose."""
    package, *parts = module.split(".")
    if package != PACKAGE.name or not parts or parts[0] in DESCRIBING:
        return None
    path = PACKAGE.joinpath(*parts).with_suffix(".py")
    return path if path.is_file() else None


def _parsed(path: Path) -> tuple[str, tuple[Path, ...]]:
    state = path.stat()
    return _parse(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1024)
def _parse(path: Path, modified: int, size: int) -> tuple[str, tuple[Path, ...]]:
    """The digest of a file's code, and the files it imports; its time and size only serve as the cache's key."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = tuple(file for name in _imported(tree) if (file := _file(name)) is not None)
    return hashlib.sha256(ast.unparse(_Bare().visit(tree)).encode()).hexdigest(), imported


def _imported(tree: ast.Module) -> tuple[str, ...]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return tuple(sorted(names))


class _Bare(ast.NodeTransformer):
    """Removes strings that stand as statements: docstrings of modules, classes, functions and attributes."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [item for item in body if not _is_text(item)]
            node.body = kept or ([] if isinstance(node, ast.Module) else [ast.Pass()])  # type: ignore[attr-defined]
        return node


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@cache
def _label(path: Path) -> str:
    """A file's name wherever the package is installed; another package's file goes by its bare name."""
    return path.relative_to(PACKAGE).as_posix() if path.is_relative_to(PACKAGE) else path.name
