"""A pack that is broken off and resumed ends with the bits of one that was not, at whatever step, in whatever pack."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.training.exactness import essence, interrupt

from goldfish.config import registry
from goldfish.config.config import Config
from goldfish.probes import spectral_radius
from goldfish.probes.base import Measurement, numbers
from goldfish.training.data import TrainingStream
from goldfish.training.state import checkpoint
from goldfish.training.state.checkpoint import Checkpointing, Interrupted, find
from goldfish.training.train import train_pack

STEPS = 8  # validations after 3, 6 and 8; halfway is 4
DATA = {"online": {"name": "recall", "length": 6}, "fixed": {"name": "recall", "length": 6, "train_size": 12}}
RATES = [0.01, 0.02, 0.01]  # two parameter groups, neither of neighbours


def pack(small: Callable[..., Config], cell: str, **others: Any) -> list[Config]:
    optimizer = others.pop("optimizer", {"name": "adam"})
    return [
        small(cell, steps=STEPS, seed=seed, optimizer=optimizer | {"lr": rate}, **others)
        for seed, rate in enumerate(RATES)
    ]


def names(configs: list[Config]) -> tuple[str, ...]:
    return tuple(f"run {config['seed']}" for config in configs)


def compare(found: list[Any], expected: list[Any]) -> None:
    assert [essence(outcome) for outcome in found] == [essence(outcome) for outcome in expected]


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("engine", ["cpu", "stepwise", "eager"])
@pytest.mark.parametrize("cell", registry.names("cell"))
def test_broken_off_at_every_step(
    small: Callable[..., Config], tmp_path: Path, cell: str, engine: str, data: str, dropout: float
) -> None:
    """Each attempt makes one step; at a validation and in the last evaluation, too, it is broken off."""
    configs = pack(small, cell, engine=engine, task=DATA[data], model={"dropout": dropout})
    settings = Checkpointing(tmp_path, names(configs))
    interrupt(configs, settings, 0)
    assert interrupt(configs, settings, 1) == [3]
    for step in range(2, STEPS + 1):
        assert interrupt(configs, settings, step) == [3 * (step - 1), 3]  # resumed, then one step
    seen: list[int] = []
    compare(train_pack(configs, seen.append, checkpointing=settings), train_pack(configs))
    assert seen == [3 * STEPS]


@pytest.mark.parametrize("step", range(STEPS + 1))
def test_broken_off_once(small: Callable[..., Config], tmp_path: Path, step: int) -> None:
    """The rest is trained in one go, over several validations."""
    configs = pack(small, "gru")
    settings = Checkpointing(tmp_path, names(configs))
    interrupt(configs, settings, step)
    seen: list[int] = []
    compare(train_pack(configs, seen.append, checkpointing=settings), train_pack(configs))
    assert seen == [3 * step] * (step > 0) + [3] * (STEPS - step)


@pytest.mark.parametrize("name", ["sgd", "rmsprop"])
def test_other_optimisers(small: Callable[..., Config], tmp_path: Path, name: str) -> None:
    configs = pack(small, "gru", optimizer={"name": name, "momentum": 0.9})
    settings = Checkpointing(tmp_path, names(configs))
    for step in (2, 5):
        interrupt(configs, settings, step)
    compare(train_pack(configs, checkpointing=settings), train_pack(configs))


@pytest.mark.parametrize("chosen", [[1], [2, 0], [2, 1, 0]])
@pytest.mark.parametrize("step", [1, 4, 6])
def test_in_another_pack(small: Callable[..., Config], tmp_path: Path, chosen: list[int], step: int) -> None:
    """Some of the runs alone, in another order, broken off once more."""
    configs = pack(small, "lstm", model={"dropout": 0.4})
    interrupt(configs, Checkpointing(tmp_path, names(configs)), step)
    some = [configs[index] for index in chosen]
    settings = Checkpointing(tmp_path, names(some))
    assert interrupt(some, settings, step + 1) == [len(some) * step, len(some)]
    whole = train_pack(configs)
    compare(train_pack(some, checkpointing=settings), [whole[index] for index in chosen])


def test_a_larger_pack_starts_anew(small: Callable[..., Config], tmp_path: Path) -> None:
    configs = pack(small, "rnn")
    interrupt(configs[:2], Checkpointing(tmp_path, names(configs[:2])), 5)
    seen: list[int] = []
    outcomes = train_pack(configs, seen.append, checkpointing=Checkpointing(tmp_path, names(configs)))
    assert seen == [3] * STEPS
    compare(outcomes, train_pack(configs))


def test_the_checkpoints_of_an_uninterrupted_run(
    small: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every second step: at each of them, half and validation done, a copy of the file resumes to the same bits."""
    written: dict[int, bytes] = {}
    save = checkpoint.save

    def spy(*arguments: Any) -> Path:
        path = save(*arguments)
        written[int(path.stem[-10:])] = path.read_bytes()
        return path

    monkeypatch.setattr(checkpoint, "save", spy)
    configs = pack(small, "gru", trainer={"validate_every": 2})
    settings = Checkpointing(tmp_path / "first", names(configs), every_steps=2)
    expected = train_pack(configs)
    compare(train_pack(configs, checkpointing=settings), expected)
    assert list(written) == [2, 4, 6, 8]
    assert sorted(int(path.stem[-10:]) for path in settings.folder.iterdir()) == [6, 8]  # the last two are kept
    for step, data in dict(written).items():
        folder = tmp_path / str(step)
        folder.mkdir()
        (folder / f"{'0' * 16}-{step:010d}.ckpt").write_bytes(data)
        seen: list[int] = []
        compare(train_pack(configs, seen.append, checkpointing=Checkpointing(folder, names(configs))), expected)
        assert seen == [3 * step, *[3] * (STEPS - step)]


def test_a_run_shorter_than_the_minutes_writes_none(small: Callable[..., Config], tmp_path: Path) -> None:
    configs = pack(small, "rnn")
    train_pack(configs, checkpointing=Checkpointing(tmp_path / "none", names(configs), minutes=10.0))
    assert not (tmp_path / "none").exists()
    train_pack(configs, checkpointing=Checkpointing(tmp_path / "some", names(configs), minutes=0.0))
    assert len(list((tmp_path / "some").iterdir())) == 2


def test_stopping_without_checkpoints(small: Callable[..., Config]) -> None:
    assert interrupt([small()], None, 2) == [1, 1]


def test_stopping_while_the_last_evaluation_runs(small: Callable[..., Config], tmp_path: Path) -> None:
    """All is trained, validated and measured; only recall is measured again."""
    configs = pack(small, "rnn")
    settings = Checkpointing(tmp_path, names(configs))
    trained, asked = 0, 0

    def progress(steps: int) -> None:
        nonlocal trained
        trained += steps

    def stop() -> bool:
        nonlocal asked
        asked += trained == 3 * STEPS
        return asked == 5

    with pytest.raises(Interrupted) as caught:
        train_pack(configs, progress, checkpointing=settings, stop=stop)
    assert caught.value.step == STEPS
    compare(train_pack(configs, checkpointing=settings), train_pack(configs))


def test_solved_stays_solved(small: Callable[..., Config], tmp_path: Path) -> None:
    task = {"name": "recall", "length": 2, "symbols": 3}
    trainer = {"validate_every": 2, "evaluation_size": 64}
    configs = [small("gru", hidden=16, steps=40, batch=16, task=task, trainer=trainer)]
    (expected,) = train_pack(configs)
    solved = int(expected.metrics["time_to_solve"])
    assert 2 < solved < 38
    settings = Checkpointing(tmp_path, ("a",))
    for step in (solved - 1, solved, solved + 1):  # at the step itself, before its validation
        interrupt(configs, settings, step)
    compare(train_pack(configs, checkpointing=settings), [expected])


def test_seconds_are_those_of_all_attempts(
    small: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = [small(steps=STEPS)]
    settings = Checkpointing(tmp_path, ("a",))
    interrupt(configs, settings, 4)
    state, rows = checkpoint.newest(settings, configs, _made()) or ({}, [])
    assert rows == [0]
    monkeypatch.setattr(checkpoint, "newest", lambda *_: (state | {"spent_per_run": 1000.0}, rows))
    (outcome,) = train_pack(configs, checkpointing=settings)
    assert 1000 < outcome.metrics["train/seconds"] < 1500
    assert outcome.seconds < 500  # of this attempt: when it began and ended is recorded
    assert outcome.metrics["train/steps_per_second"] == STEPS / outcome.metrics["train/seconds"]


def _made() -> str:
    return f"torch {torch.__version__}, cpu, {checkpoint.LAYOUT}"


def test_what_decides_bits_decides_which_checkpoint_is_resumed(small: Callable[..., Config], tmp_path: Path) -> None:
    """Another configuration under the same name, other source: training starts anew."""
    config = small(steps=STEPS)
    settings = Checkpointing(tmp_path, ("a",), source="one")
    interrupt([config], settings, 3)

    def attempt(config: Config, settings: Checkpointing) -> list[int]:
        seen: list[int] = []
        train_pack([config], seen.append, checkpointing=settings)
        return seen

    anew, resumed = [1] * STEPS, [3, *[1] * (STEPS - 3)]
    assert attempt(config | {"seed": 1}, settings) == anew
    assert attempt(config, Checkpointing(tmp_path, ("b",), source="one")) == anew
    assert attempt(config, Checkpointing(tmp_path, ("a",), source="two")) == anew
    assert attempt(config, settings) == resumed
    assert attempt(config | {"tracking": {"experiment_name": "other"}}, settings) == resumed


def test_global_generators_are_restored(
    small: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A probe that draws from torch's, NumPy's and Python's own generators sees the same numbers."""

    def draw(pack: Any) -> list[Measurement]:
        drawn = [random.gauss(), float(np.random.normal()), float(torch.randn(()))]
        return numbers({"draw/sum": torch.tensor([sum(drawn)] * 3, dtype=torch.float64)})

    def seed(value: int) -> None:
        random.seed(value)
        np.random.seed(value)
        torch.manual_seed(value)

    monkeypatch.setattr(spectral_radius, "measure", draw)
    configs = pack(small, "rnn")
    seed(0)
    expected = train_pack(configs)
    values = [expected[0].metrics[f"draw/sum{moment}"] for moment in ("_before", "_half", "")]
    assert len(set(values)) == 3
    settings = Checkpointing(tmp_path, names(configs))
    seed(0)
    interrupt(configs, settings, 2)
    seed(1)
    interrupt(configs, settings, 6)
    seed(2)
    compare(train_pack(configs, checkpointing=settings), expected)


@pytest.mark.parametrize("task", [DATA["fixed"], DATA["online"], {"name": "recall", "length": 3000}])
def test_a_stream_that_starts_late_is_the_rest_of_the_stream(
    small: Callable[..., Config], task: dict[str, Any]
) -> None:
    """A fixed set of 12 in batches of 5; blocks of 64 batches; long sequences: blocks of fewer."""
    configs = [small(task=task, seed=seed) for seed in (0, 1)]
    arguments = {key: value for key, value in task.items() if key != "name"}
    settings = (registry.load("task", "recall")(**arguments), configs, torch.device("cpu"), torch.float32)
    whole = iter(TrainingStream(*settings))
    batches = [next(whole) for _ in range(70)]
    for start in (0, 1, 2, 3, 11, 63, 64, 65, 69):
        assert torch.equal(next(iter(TrainingStream(*settings, start))).inputs, batches[start].inputs)
    late = iter(TrainingStream(*settings, 62))
    assert all(torch.equal(next(late).inputs, batch.inputs) for batch in batches[62:])


def test_find_names_what_was_interrupted(small: Callable[..., Config], tmp_path: Path) -> None:
    configs = pack(small, "rnn")
    interrupt(configs, Checkpointing(tmp_path, names(configs)), 4)
    (found,) = find(tmp_path)
    assert (found.names, found.step) == (names(configs), 4)
