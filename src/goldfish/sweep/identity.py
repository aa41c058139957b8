"""The identity of a run: its fingerprint, which is a SHA-256 of all that defines it, and the hash of its source code.

Paths, devices, worker counts, pack size, scale and tracking are no part of the fingerprint; real data enters by its
content. The hash of the source is recorded so that runs of older code can be told apart. Comments, docstrings and
layout do not count in it: the text compared is what `ast.unparse` prints, which may differ between versions of Python,
so that after an upgrade runs can look stale although nothing changed.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from goldfish.config import registry
from goldfish.config.config import Config, defaults

FORMAT = 1  # a new one makes every recorded run a stranger: change it only when the meaning of a key changes
# settings that recorded runs know nothing of, as they were then
LATER = {"omega": 0.0, "stop_when_solved": False, "probe_at": ["before", "half", "after"], "callbacks": []}
PACKAGE = Path(registry.__file__).parents[1]
Chosen = Mapping[str, Mapping[str, Any]]  # a configuration, or the part of it that names things
SHARED = ("engines", "probes", "training")  # folders that every run goes through
CHOSEN = ("model", "cell", "init", "task", "optimizer")
DESCRIBING = {"errors", "config"}  # what is chosen, not what is done


def fingerprint(config: Config) -> str:
    """Return 64 hex digits that equal those of every other configuration of the same run.

    `config` is resolved (goldfish.config.config), so that 1 and 1.0 have become the same number. Raises
    ConfigError when the run's real data cannot be reached.
    """
    (digest,) = fingerprints([config])
    return digest


def fingerprints(configs: Sequence[Config], known: Sequence[str | None] | None = None) -> list[str]:
    """The fingerprints of several configurations.

    `known` is what `contents` returns for them; without it real data are read anew, once for all configurations.
    """
    known = contents(configs) if known is None else known
    identities = (identity(config.plain(), content) for config, content in zip(configs, known, strict=True))
    return [hashlib.sha256(canonical(own).encode()).hexdigest() for own in identities]


def contents(configs: Sequence[Config]) -> list[str | None]:
    """The content hash of each configuration's real data as they are now; None for synthetic data."""
    from goldfish.data.sources import content_hash, origin

    origins = [origin(config.task) for config in configs]
    tasks = {own: config.task for own, config in zip(origins, configs, strict=True)}
    hashes = {own: content_hash(task) for own, task in tasks.items()}
    return [hashes[own] for own in origins]


def identity(config: dict[str, Any], content: str | None) -> dict[str, Any]:
    """The part of a configuration that the fingerprint covers; real data by its content, not by its folder."""
    task = config["task"]
    if content is not None:
        task = {key: value for key, value in task.items() if key != "data"} | {"content": content}
    trainer = {
        key: value
        for key, value in config["trainer"].items()
        if key not in ("accelerator", "loggers") and not (key in LATER and value == LATER[key])
    }
    rest = {key: value for key, value in config.items() if key != "tracking"}
    for group in ("model", "probe"):  # runs were recorded before there was anything to choose
        if rest.get(group) == defaults()[group]:
            del rest[group]
    return rest | {"task": task, "trainer": trainer, "format": FORMAT}


def canonical(value: Any) -> str:
    """JSON with sorted keys and without spaces; floats as Python's shortest repr. Raises ValueError for NaN and inf."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def source_hash(config: Chosen) -> str:
    """Return 64 hex digits of the code of a run's cell, initialisation, task and optimiser, and of what trains them."""
    return _hash(source_files(config))


def source_hashes(configs: Sequence[Config]) -> list[str]:
    """The source hash of every run, computed once for each combination of choices."""
    choices = [tuple(config[group].name for group in CHOSEN) for config in configs]
    hashes = {choice: source_hash(config) for choice, config in dict(zip(choices, configs, strict=True)).items()}
    return [hashes[choice] for choice in choices]


def _hash(paths: Sequence[Path]) -> str:
    lines = sorted(f"{_label(path)} {_parsed(path)[0]}" for path in paths)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def training_hash(config: Chosen) -> str:
    """The same for any pack that a run may be trained in: it covers every initialisation, not the run's own alone."""
    chosen = [registry.source(group, config[group]["name"]) for group in CHOSEN if group != "init"]
    inits = [registry.source("init", name) for name in registry.names("init")]
    return _hash(_with_imported([*chosen, *inits]))


def source_files(config: Chosen) -> list[Path]:
    """The source files that made a run: what it chose, what trains it, and every module of ours that these import."""
    return _with_imported([registry.source(group, config[group]["name"]) for group in CHOSEN])


def _with_imported(chosen: Sequence[Path]) -> list[Path]:
    waiting = [*chosen, *(path for folder in SHARED for path in (PACKAGE / folder).rglob("*.py"))]
    files: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path not in files:
            files.add(path)
            waiting += _parsed(path)[1]
    return sorted(files)


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
