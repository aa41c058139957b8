"""Batches drawn ahead in threads: the bits of those drawn in their turn, for every task, and after an interruption."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.exactness import essence, interrupt
from torch import Tensor

from goldfish.config import registry
from goldfish.config.config import Config, resolve
from goldfish.tasks.base import Batch, Task
from goldfish.training import data
from goldfish.training.data import TrainingStream
from goldfish.training.device.ahead import ahead
from goldfish.training.state.checkpoint import Checkpointing
from goldfish.training.train import train_pack

CPU = torch.device("cpu")
SMALL: dict[str, dict[str, Any]] = {
    "adding": {"length": 30},
    "translation": {"dataset": "numerals"},
    "characters": {"dataset": "python_docs", "length": 20},
    "tagging": {"dataset": "wnut_17"},
}
AT_HAND = {"mnist": "mnist", "sentiment": "rotten_tomatoes", "series": "japanese_vowels", "tagging": "wnut_17"}


def task_of(name: str, folder: Path | None) -> tuple[Task, list[Config]]:
    """A task, with the data in a folder where it is given, and three runs of it."""
    chosen = {"name": name} | SMALL.get(name, {}) | ({"data": str(folder)} if folder else {})
    configs = [resolve({"task": chosen, "seed": seed, "trainer": {"batch_size": 12}}) for seed in range(3)]
    arguments = {key: value for key, value in configs[0]["task"].items() if key != "name"}
    task: Task = registry.load("task", name)(**arguments)
    return task, configs


def batches(task: Task, configs: list[Config], dtype: torch.dtype, start: int, steps: int) -> list[Batch]:
    return list(islice(TrainingStream(task, configs, CPU, dtype, start), steps))


def same(found: list[Batch], expected: list[Batch]) -> bool:
    pairs = zip(found, expected, strict=True)
    return all(
        a.dtype == b.dtype and torch.equal(a, b)
        for one, other in pairs
        for a, b in zip(one.tensors, other.tensors, strict=True)
    )


@pytest.mark.parametrize("name", registry.names("task"))
def test_the_bits_of_every_task(name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Across the first block's end, from the middle of a block on, and in float64."""
    folder = request.getfixturevalue("data_folder") / AT_HAND[name] if name in AT_HAND else None
    task, configs = task_of(name, folder)
    expected = batches(task, configs, torch.float32, 0, 70)
    in_double = batches(task, configs, torch.float64, 7, 3)
    before = torch.get_rng_state()
    monkeypatch.setattr(data, "drawn_ahead", lambda device: True)
    assert same(batches(task, configs, torch.float32, 0, 70), expected)
    assert same(batches(task, configs, torch.float32, 61, 9), expected[61:])
    assert same(batches(task, configs, torch.float64, 7, 3), in_double)
    assert torch.equal(torch.get_rng_state(), before)  # nobody draws from the generator that all share


@pytest.mark.parametrize("step", [1, 4, 7])
def test_what_was_drawn_ahead_is_not_in_a_checkpoint(
    small: Callable[..., Config], tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted pack goes on with the batch after the last one that it was trained on."""
    configs = [small("gru", steps=8, seed=seed) for seed in range(3)]
    expected = [essence(outcome) for outcome in train_pack(configs)]
    threads: set[str] = set()
    draw = TrainingStream._draw

    def watched(stream: TrainingStream, *arguments: Any) -> Batch:
        threads.add(threading.current_thread().name.rpartition("_")[0])
        return draw(stream, *arguments)

    monkeypatch.setattr(TrainingStream, "_draw", watched)
    monkeypatch.setattr(data, "drawn_ahead", lambda device: True)
    settings = Checkpointing(tmp_path, tuple(f"run {seed}" for seed in range(3)))
    interrupt(configs, settings, step)
    assert [essence(outcome) for outcome in train_pack(configs, checkpointing=settings)] == expected
    assert threads == {"goldfish-draw"}


def numbers(value: float) -> Batch:
    return Batch(torch.full((2, 1, 3), value), torch.full((2, 1, 3), 7), torch.ones(2, 1, 3, dtype=torch.bool))


def test_so_many_blocks_are_in_the_making() -> None:
    begun: list[int] = []

    def draw(index: int, part: int) -> Batch:
        begun.append(index)
        return numbers(10 * index + part)

    blocks = ([partial(draw, index, part) for part in range(4)] for index in count())
    stream = ahead(blocks, CPU, torch.float64, depth=2)
    for index in range(5):
        block = next(stream)
        expected = 10 * index + torch.arange(4.0, dtype=torch.float64)
        assert torch.equal(block.inputs, expected.view(1, 4, 1).expand(2, 4, 3))
        assert block.targets.dtype == torch.int64
        assert max(begun) <= index + 2


def test_a_failed_draw_is_raised_where_its_block_would_come() -> None:
    def fails() -> Batch:
        raise ValueError("row 3 is damaged")

    blocks: list[list[Callable[[], Batch]]] = [[lambda: numbers(1)], [fails], [lambda: numbers(2)]]
    stream = ahead(iter(blocks), CPU, torch.float32)
    assert float(next(stream).inputs[0, 0, 0]) == 1
    with pytest.raises(ValueError, match="row 3 is damaged"):
        next(stream)


def test_what_nobody_wants_is_not_drawn() -> None:
    """Once the stream is closed, waiting draws are cancelled."""
    gate, begun = threading.Event(), []

    def draw(index: int) -> Batch:
        begun.append(index)
        if index:
            gate.wait()
        return numbers(index)

    stream = ahead(([partial(draw, index)] * 200 for index in count()), CPU, torch.float32)
    assert isinstance(next(stream).inputs, Tensor)
    stream.close()  # type: ignore[attr-defined]
    gate.set()
    assert begun.count(1) < 200
