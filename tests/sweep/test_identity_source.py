"""The source hash: code counts, comments and docstrings do not, and only the code that made the run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from goldfish.config import registry
from goldfish.config.config import resolve
from goldfish.sweep import identity
from goldfish.sweep.identity import PACKAGE, source_hash

CONFIG = resolve({"cell": "lstm", "init": "chrono", "task": "recall"})


CODE = '''"""A cell."""

from torch import tanh

class Cell:
    """Forgets.

    At length.
    """

    gates = ("i", "f")

    def step(self, x, *, scale=2.0):
        """One step."""
        if x > 0:
            return tanh(scale * x)  # bounded
        return "x"
'''


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that stands for all that made a run."""
    path = tmp_path / "cell.py"
    path.write_text(CODE)
    monkeypatch.setattr(identity, "source_files", lambda config: [path])
    return path


def rewrite(path: Path, old: str, new: str) -> None:
    assert old in CODE
    path.write_text(CODE.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("from torch", "# a comment\nfrom torch"),
        ('"""A cell."""\n', ""),
        ("    At length.\n", "    Briefly.\n"),
        ('"""One step."""', '"""Step."""'),
        ("  # bounded", ""),
        ('    gates = ("i", "f")\n', '    gates = (\n        "i",\n\n        "f",  # order\n    )\n    """Both."""\n'),
        ("            return tanh", '            """Positive."""\n            return tanh'),
    ],
)
def test_comments_docstrings_and_layout_do_not_count(file: Path, old: str, new: str) -> None:
    before = source_hash(CONFIG)
    rewrite(file, old, new)
    assert source_hash(CONFIG) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("tanh(scale * x)", "tanh(scale + x)"),
        ('("i", "f")', '("f", "i")'),
        ("scale=2.0", "scale=3.0"),
        ("class Cell", "class Other"),
        ('return "x"', 'return "y"'),
        ("x > 0", "x >= 0"),
        ("        if x > 0:\n            return tanh(scale * x)  # bounded\n", ""),
    ],
)
def test_code_counts(file: Path, old: str, new: str) -> None:
    before = source_hash(CONFIG)
    rewrite(file, old, new)
    assert source_hash(CONFIG) != before


def test_a_function_of_a_docstring_alone(file: Path) -> None:
    file.write_text('def f():\n    """A docstring."""\n')
    before = source_hash(CONFIG)
    file.write_text("def f():\n    pass\n")
    assert source_hash(CONFIG) == before


def test_a_change_that_keeps_the_size_is_seen_by_its_time(file: Path) -> None:
    file.write_text("A = 1\n")
    os.utime(file, ns=(10**18, 10**18))
    before = source_hash(CONFIG)
    file.write_text("A = 2\n")
    os.utime(file, ns=(10**18, 10**18 + 1))
    assert source_hash(CONFIG) != before


def test_a_moved_or_renamed_file_counts(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = source_hash(CONFIG)
    renamed = file.rename(file.with_name("other.py"))
    monkeypatch.setattr(identity, "source_files", lambda config: [renamed])
    assert source_hash(CONFIG) != before


def test_where_the_files_lie_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = []
    for folders in (("a", "b"), ("b", "a")):  # another package's files, sorted by path in two orders
        paths = [tmp_path / folder / f"{name}.py" for folder, name in zip(folders, ("one", "two"), strict=True)]
        for path in paths:
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"NAME = {path.stem!r}")
        monkeypatch.setattr(identity, "source_files", lambda config, paths=paths: sorted(paths))
        hashes.append(source_hash(CONFIG))
    assert hashes[0] == hashes[1]


def names(**values: str) -> set[str]:
    return {path.relative_to(PACKAGE).as_posix() for path in identity.source_files(resolve(values))}


def test_a_run_is_made_by_what_it_chose_and_by_what_trains_it() -> None:
    found = names(cell="lstm", init="chrono", task="recall", optimizer="sgd")
    own = {"cells/lstm.py", "cells/base.py", "inits/chrono.py", "inits/base.py", "tasks/recall.py", "tasks/base.py"}
    shared = {"optimizers/sgd.py", "recurrent.py", "training/train.py", "training/module.py", "probes/gradient_flow.py"}
    assert own | shared <= found
    for folder in identity.SHARED:
        assert {f"{folder}/{path.name}" for path in (PACKAGE / folder).glob("*.py")} <= found


def test_a_run_is_not_made_by_what_it_did_not_choose() -> None:
    found = names(cell="lstm", init="chrono", task="recall", optimizer="sgd")
    assert not found & {"cells/gru.py", "inits/orthogonal.py", "tasks/adding.py", "optimizers/adam.py"}
    assert not {path for path in found if path.split("/")[0] in ("cli", "sweep", "tracking", "figures")}
    assert not found & {f"{name}.py" for name in identity.DESCRIBING}


@pytest.mark.parametrize("group", identity.CHOSEN)
def test_every_thing_is_in_its_run(group: str) -> None:
    for name in registry.names(group):
        config = {**CONFIG, group: {"name": name}}
        assert registry.source(group, name) in identity.source_files(config)


def test_the_hash_tells_choices_apart_and_is_repeatable() -> None:
    cells = [source_hash(resolve({"cell": cell})) for cell in ("rnn", "lstm", "gru")]
    assert len(set(cells)) == 3
    assert cells[0] == source_hash(resolve({"cell": "rnn", "seed": 5}))
    assert all(len(value) == 64 for value in cells)
