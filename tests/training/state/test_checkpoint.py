"""Checkpoint files: which is found, which is resumed, which are kept, and what is in them."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from goldfish.config.config import Config
from goldfish.training.state import checkpoint
from goldfish.training.state.checkpoint import Checkpointing, discard, find


@pytest.fixture
def write(small: Callable[..., Config], tmp_path: Path) -> Callable[..., Path]:
    """Write a checkpoint whose state says which it is."""

    def write(step: int, names: Sequence[str] = ("a", "b"), made: str = "here", **state: Any) -> Path:
        configs = [small(seed=index) for index in range(len(names))]
        return checkpoint.save(Checkpointing(tmp_path, tuple(names)), configs, made, step, {"step": step} | state)

    return write


@pytest.fixture
def newest(small: Callable[..., Config], tmp_path: Path) -> Callable[..., Any]:
    """What is resumed by runs that are rows of the pack written."""

    def newest(names: Sequence[str] = ("a", "b"), rows: Sequence[int] = (0, 1), made: str = "here") -> Any:
        configs = [small(seed=row) for row in rows]
        return checkpoint.newest(Checkpointing(tmp_path, tuple(names)), configs, made)

    return newest


def test_every_kind_of_value_comes_back(write: Callable[..., Path], newest: Callable[..., Any]) -> None:
    tensors = [torch.tensor([math.nan, math.inf, -0.0, 5e-324], dtype=torch.float64), torch.arange(3)]
    write(7, tensors=tensors, plain={"text": "ü", "none": None, "list": [1, 2.5, True]})
    state, rows = newest()
    assert rows == [0, 1]
    assert state["plain"] == {"text": "ü", "none": None, "list": [1, 2.5, True]}
    for found, expected in zip(state["tensors"], tensors, strict=True):
        assert found.dtype == expected.dtype
        assert found.numpy().tobytes() == expected.numpy().tobytes()


def test_rows_are_picked_by_name(write: Callable[..., Path], newest: Callable[..., Any]) -> None:
    write(7, names="abc")
    assert newest("ca", [2, 0])[1] == [2, 0]
    assert newest("b", [1])[1] == [1]
    assert newest("bd", [1, 2]) is None
    assert newest("b", [0]) is None  # under this name, another seed
    assert newest("b", [1], made="elsewhere") is None


def test_the_last_step_of_any_pack_counts(write: Callable[..., Path], newest: Callable[..., Any]) -> None:
    write(30, names="abc")
    write(40, names="ab")
    assert newest("a", [0])[0] == {"step": 40}
    assert newest("c", [2])[0] == {"step": 30}


def test_two_are_kept_and_one_that_was_not_resumed_goes(
    write: Callable[..., Path], newest: Callable[..., Any], tmp_path: Path
) -> None:
    for step in (100, 20, 99, 9):
        write(step, names="xy")
    last = [write(step) for step in (8, 9, 10, 100)][-2:]
    other = {path for path in tmp_path.iterdir() if path.name[:16] != last[0].name[:16]}
    assert [int(path.stem[17:]) for path in other] == [9]  # steps go down only where what is later was not resumed
    assert {*tmp_path.iterdir()} == {*last, *other}
    assert newest()[0] == {"step": 100}


def test_finding(write: Callable[..., Path], tmp_path: Path) -> None:
    assert find(tmp_path / "missing") == []
    write(10)
    newest = write(20)
    other = write(5, names=("c",))
    (tmp_path / "notes.txt").write_text("not ours")
    (tmp_path / f"{newest.stem}.tmp").write_bytes(b"half")
    assert sorted(find(tmp_path)) == sorted([(newest, ("a", "b"), 20), (other, ("c",), 5)])


def test_a_missing_folder_is_made_when_it_is_first_written_to(small: Callable[..., Config], tmp_path: Path) -> None:
    settings = Checkpointing(tmp_path / "deep" / "down", ("a",))
    assert checkpoint.newest(settings, [small()], "here") is None
    discard(settings.folder, {"a"})
    assert not settings.folder.parent.exists()
    checkpoint.save(settings, [small()], "here", 1, {})
    assert find(settings.folder)[0].step == 1


def test_discarding(write: Callable[..., Path], tmp_path: Path) -> None:
    gone = write(10)
    write(20).write_bytes(b"damaged")
    left = write(20, names=("c", "d"))
    (tmp_path / f"{left.stem}.tmp").write_bytes(b"half")
    (tmp_path / f"{gone.stem}.tmp").write_bytes(b"half")
    discard(tmp_path, {"a", "c"})
    assert len(list(tmp_path.iterdir())) == 5
    discard(tmp_path, ["b", "c", "a"])
    assert {path.name for path in tmp_path.iterdir()} == {left.name, f"{left.stem}.tmp"}


def test_the_parent_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from goldfish.training.state.checkpoint import find, discard\n"
        f"find(Path({str(tmp_path)!r})); discard(Path({str(tmp_path)!r}), set()); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
