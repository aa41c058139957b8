"""A trainer and a store that stand in for the real ones; imported by tests and, as a module of its own, by workers."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

from goldfish.config.config import Config, resolve
from goldfish.errors import ConfigError
from goldfish.tracking.store import Store
from goldfish.training.outcome import Outcome, Point, Verdict
from goldfish.training.state.checkpoint import Checkpointing, Interrupted

RAISES, EXITS, IS_KILLED, HANGS, DIVERGES, LEAVES, REFUSES = 101, 102, 103, 104, 105, 106, 107


def config(seed: int = 0, log: Path | str = "none", **values: Any) -> Config:
    """A run; the file `log` gets a line each time it is trained."""
    wanted = {"task": {"name": "recall", "length": 10}, "trainer": {"max_steps": 20}, "cell": "rnn", **values}
    return resolve(wanted | {"seed": seed, "tracking": {"experiment_name": str(log)}})


def trained(log: Path) -> list[tuple[int, int, int]]:
    """(seed, runs in the pack, process) of each time a run was trained."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [(int(seed), int(packed), int(pid)) for seed, packed, pid in (line.split() for line in lines)]


def train(
    configs: Sequence[Config],
    progress: Callable[[int], None],
    *,
    checkpointing: Checkpointing | None = None,
    stop: Callable[[], bool] | None = None,
) -> list[Outcome]:
    """Train nothing; a run's seed says how it goes wrong."""
    seeds = [item["seed"] for item in configs]
    _note(configs)
    progress(len(configs))
    if REFUSES in seeds:
        raise ConfigError("task.data: row 3\nis bad")
    if RAISES in seeds:
        raise ValueError("a bad run\nwith a second line")
    if LEAVES in seeds:
        raise SystemExit(3)
    if EXITS in seeds:
        os._exit(0)
    if IS_KILLED in seeds:
        os.kill(os.getpid(), signal.SIGKILL)
    while HANGS in seeds:
        time.sleep(0.05)
        progress(1)
        if stop and stop():
            raise Interrupted(7)
    return [outcome(item, len(configs)) for item in configs]


def outcome(item: Config, packed: int = 1) -> Outcome:
    """What a run comes to."""
    verdict: Verdict = "diverged" if item["seed"] == DIVERGES else "solved" if item["seed"] % 2 else "unsolved"
    curves = [Point("val/loss", "training", 20, 0.5)]
    return Outcome(item, verdict, metrics={"test/loss": 0.5}, curves=curves, steps=20, packed=packed)


def train_with_weights(configs: Sequence[Config], progress: Callable[[int], None], **options: Any) -> list[Outcome]:
    """Outcomes with tensors: each run's weights are a view of the pack's, and its metric is a tensor too."""
    import torch

    weights = torch.arange(10_000.0 * len(configs)).reshape(len(configs), 10_000)
    outcomes = [outcome(item, len(configs)) for item in configs]
    for row, item in zip(weights, outcomes, strict=True):
        item.state_dict = {"w": row[:5]}
        item.metrics["test/loss"] = row[1]
    return outcomes


def train_on_gpu(configs: Sequence[Config], progress: Callable[[int], None], **options: Any) -> list[Outcome]:
    """As `train`, by a torch that has used a GPU; a file beside the log gets the GPU that each run saw."""
    sys.modules["torch"] = cast(ModuleType, SimpleNamespace(cuda=SimpleNamespace(is_initialized=lambda: True)))
    with Path(configs[0]["tracking"]["experiment_name"]).with_suffix(".gpus").open("a") as log:
        log.writelines(f"{os.environ.get('CUDA_VISIBLE_DEVICES')}\n" for _ in configs)
    time.sleep(0.3)  # so that every worker gets some
    return train(configs, progress, **options)


def train_in_little_memory(configs: Sequence[Config], progress: Callable[[int], None], **options: Any) -> list[Outcome]:
    """The kernel kills whoever trains more than two runs together."""
    if len(configs) > 2:
        _note(configs)
        os.kill(os.getpid(), signal.SIGKILL)
    return train(configs, progress, **options)


def train_where_memory_was_short(
    configs: Sequence[Config], progress: Callable[[int], None], **options: Any
) -> list[Outcome]:
    """Whatever is trained first runs out of memory, as torch tells it."""
    first = not trained(Path(configs[0]["tracking"]["experiment_name"]))
    if first:
        _note(configs)
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory")
    return train(configs, progress, **options)


def _note(configs: Sequence[Config]) -> None:
    with Path(configs[0]["tracking"]["experiment_name"]).open("a") as log:
        log.writelines(f"{item['seed']} {len(configs)} {os.getpid()}\n" for item in configs)


def too_few(configs: Sequence[Config], progress: Callable[[int], None], **options: Any) -> list[Outcome]:
    """Lose a run."""
    return [outcome(item) for item in configs[1:]]


def on_other_data(configs: Sequence[Config], progress: Callable[[int], None], **options: Any) -> list[Outcome]:
    """Whatever the sweep has seen, this is what was there to be trained on."""
    return [replace(outcome(item), content="0" * 64) for item in configs]


class FakeStore(Store):
    """A store in memory.

    `faults`: how often recording a seed fails, -1: whenever it is tried. `delay`: seconds that a record takes. Its
    state, such as claims, lies in the working directory.
    """

    state = Path()  # a property of the real one

    def __init__(self, *, faults: Mapping[int, int] | None = None, delay: float = 0.0) -> None:
        self.state = Path("state").absolute()
        self.there = False
        self.delay = delay
        self.prepared = 0
        self.faults = dict(faults or {})
        self.records: list[SimpleNamespace] = []
        self.interrupted: list[tuple[int, str]] = []  # seed and reason
        self.superseded: list[str] = []

    def exists(self) -> bool:
        return self.there

    def check(self) -> None:
        pass

    def prepare(self) -> None:
        self.there = True
        self.prepared += 1

    def experiment(self, name: str) -> str:
        assert self.there
        return name

    def finished(self, experiment_name: str | None, fingerprints: Iterable[str] | None = None) -> dict[str, Any]:
        assert self.there
        wanted = set(fingerprints or [])
        rows = [row for row in self.records if row.experiment_name == experiment_name and row.fingerprint in wanted]
        return {row.fingerprint: row for row in rows if row.outcome.verdict != "failed"}

    def record(self, outcome: Outcome, **details: Any) -> str:
        time.sleep(self.delay)
        seed = outcome.config["seed"]
        if self.faults.get(seed, 0) < 0:
            raise ValueError("no run that can be recorded")
        if self.faults.get(seed, 0):
            self.faults[seed] -= 1
            raise OSError("database is locked")
        run_id = f"run-{len(self.records)}"
        self.records.append(SimpleNamespace(outcome=outcome, run_id=run_id, **details))
        return run_id

    def record_interrupted(self, config: Mapping[str, Any], **details: Any) -> str:
        self.interrupted.append((config["seed"], details["reason"]))
        return "interrupted"

    def supersede(self, experiment_name: str, fingerprints: Iterable[str]) -> int:
        self.superseded += fingerprints
        return 0

    def seeds(self) -> list[int]:
        """Seeds of the recorded runs, sorted."""
        return sorted(row.outcome.config["seed"] for row in self.records)


def alive(pids: Iterable[int]) -> list[int]:
    """Those of the processes that still run."""
    found = []
    for pid in set(pids):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            continue
        if " (zombie)" not in Path(f"/proc/{pid}/status").read_text():
            found.append(pid)
    return found
