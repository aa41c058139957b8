"""What every section is told: the device, the threads, how long to measure; and what sections share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch

from benchmarks import rows as rows_of
from benchmarks.interleave import Entrant, NotRun, Ratio, Timed, interleave, ratio
from benchmarks.peers.processes import Library, Processes
from benchmarks.problem import LENGTH, Shape
from benchmarks.rows import Row


@dataclass(frozen=True)
class Job:
    """A piece of a section: its name in the progress bar, and what measures it."""

    name: str
    run: Callable[[], list[Row]]


@dataclass
class Bench:
    """One run of the benchmark.

    Attributes:
        device: "cpu" or "cuda".
        threads: torch's threads.
        quick: a look at everything, at smaller sizes and with fewer rounds.
        stack: closes what was opened on the way.
    """

    device: str = "cpu"
    threads: int = 2
    quick: bool = False
    stack: ExitStack = field(default_factory=ExitStack)
    _processes: dict[tuple[int, int], Processes] = field(default_factory=dict)
    _libraries: dict[tuple[str, int, int], Library] = field(default_factory=dict)

    @property
    def rounds(self) -> int:
        """How often each contestant has its turn."""
        return 2 if self.quick else 5

    @property
    def hidden(self) -> tuple[int, ...]:
        """H of the targets' geometric means."""
        return (32,) if self.quick else (32, 128)

    @property
    def batch(self) -> tuple[int, ...]:
        """B of the targets' geometric means."""
        return (32,) if self.quick else (32, 128)

    def shape(self, cell: str, hidden: int, batch: int, replicas: int = 1) -> Shape:
        """T = 200, or 20 for a quick look."""
        return Shape(cell, hidden, batch, LENGTH // 10 if self.quick else LENGTH, replicas)

    @property
    def seconds(self) -> float:
        """How long one measurement lasts at least."""
        return 0.02 if self.quick else 0.25

    def time(self, entrants: Mapping[str, Entrant], rounds: int | None = None) -> dict[str, Timed | NotRun]:
        """Time the contestants in turn."""
        wait = torch.cuda.synchronize if self.device == "cuda" else lambda: None
        return interleave(entrants, rounds=rounds or self.rounds, seconds=self.seconds, synchronise=wait)

    def compare(self, section: str, case: str, entrants: Mapping[str, Entrant], ours: str) -> list[Row]:
        """Time the contestants in turn; each one's ratio is its time over that of `ours`."""
        results = self.time(entrants)
        mine = results[ours]
        ratios: dict[str, Ratio] = {}
        if isinstance(mine, Timed):
            ratios = {peer: ratio(found, mine) for peer, found in results.items() if isinstance(found, Timed)}
        return rows_of.timed(section, case, results, ratios)

    def processes(self, count: int, threads: int) -> Processes:
        """`count` processes that run torch.nn.* without goldfish, started when they are first asked for."""
        if (count, threads) not in self._processes:
            self._processes[count, threads] = self.stack.enter_context(Processes(count, threads))
        return self._processes[count, threads]

    def matrix_library(self, which: str, threads: int, side: int) -> Library:
        """A process that multiplies by one of the matrix libraries, started when it is first asked for."""
        key = which, threads, side
        if key not in self._libraries:
            self._libraries[key] = self.stack.enter_context(Library(*key))
        return self._libraries[key]
