"""Imports run downwards only, and what answers at once imports nothing heavy at its top."""

from __future__ import annotations

import ast
import re
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from goldfish.config import registry

SOURCE = Path(__file__).parents[1] / "src" / "goldfish"
# Lowest first; a part may import from parts before it, and from itself.
LAYERS = [
    {"errors", "faults", "files", "threads", "ambient"},
    {"config"},
    {"cells"},
    {"inits", "optimizers"},
    {"engines"},
    {"recurrent"},
    {"data"},
    {"tasks"},
    {"models", "probes", "theory"},
    {"instrument"},
    {"training"},
    {"figures"},
    {"tracking"},
    {"sweep"},
    {"composing"},
    {"papers"},
    {"inspect"},
    {"cli"},
    {"__main__"},
]
RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}
LIGHT = ["cli", "inspect", "papers", "composing", "sweep", "tracking", "config", "data", "errors", "faults", "files"]
ALLOWED = {"data/text.py": {"torch"}, "papers/figure.py": {"matplotlib"}}  # imported where they are used
HEAVY = {"torch", "numba", "pytorch_lightning", "torchmetrics", "mlflow", "datasets", "sklearn", "matplotlib"}


def modules() -> list[Path]:
    return sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def part(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> set[str]:
    """Every module that an import statement names, wherever it stands, annotations' imports aside."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {
                f"{node.module}.{alias.name}" for alias in node.names if node.module == "goldfish"
            }
    return found


def without_type_checking(tree: ast.Module) -> ast.Module:
    kept = [n for n in tree.body if not (isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")]
    return ast.Module(body=kept, type_ignores=[])


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_run_downwards(path: Path) -> None:
    tree = without_type_checking(ast.parse(path.read_text(encoding="utf-8")))
    for name in imported(tree):
        match = re.match(r"goldfish\.(\w+)", name)
        if match and match[1] in RANK:
            assert RANK[match[1]] <= RANK[part(path)], f"{part(path)} may not import {name}"
            assert RANK[match[1]] < RANK[part(path)] or match[1] == part(path), name


@pytest.mark.parametrize("path", [p for p in modules() if part(p) in LIGHT], ids=lambda p: str(p.relative_to(SOURCE)))
def test_what_answers_at_once_imports_nothing_heavy_at_its_top(path: Path) -> None:
    tree = without_type_checking(ast.parse(path.read_text(encoding="utf-8")))
    top = ast.Module(body=[n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom))], type_ignores=[])
    # the parts of tracking that talk to MLflow are imported where they are used
    allowed = {"mlflow"} if part(path) == "tracking" else ALLOWED.get(str(path.relative_to(SOURCE)), set())
    assert not {name.partition(".")[0] for name in imported(top)} & HEAVY - allowed


def test_no_module_is_imported_by_what_it_imports() -> None:
    names = {".".join(path.relative_to(SOURCE.parent).with_suffix("").parts): path for path in modules()}
    edges = {}
    for name, path in names.items():
        tree = without_type_checking(ast.parse(path.read_text(encoding="utf-8")))
        top = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module]
        reached = {item for node in top for item in (node.module, *(f"{node.module}.{a.name}" for a in node.names))}
        edges[name] = reached & names.keys() - {name}
    assert list(TopologicalSorter(edges).static_order())  # raises CycleError


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_stay_readable(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    assert path.name != "utils.py"
    functions = [
        node for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    long = [node.name for node in functions if node.end_lineno and node.end_lineno - node.lineno >= 60]
    assert long == []


def test_folders_stay_readable() -> None:
    """At most sixteen modules, but for the folders whose files are one choice each: those hold as many as there are."""
    counts = Counter(str(path.parent.relative_to(SOURCE)) for path in SOURCE.rglob("*.py"))
    choices = set(registry.GROUPS.values())
    assert {folder: count for folder, count in counts.items() if count > 16 and folder not in choices} == {}
