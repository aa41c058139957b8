"""What a sweep comes to: how many runs ended how, and which failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from goldfish.config.config import Config
from goldfish.tracking.names import NO_INIT, flatten
from goldfish.tracking.names import kind as kind_of
from goldfish.training.outcome import Outcome, Verdict


@dataclass
class Report:
    """The counts of a sweep.

    Attributes:
        total: configurations asked for.
        verdicts: runs trained now, by outcome: solved, unsolved, diverged, failed.
        skipped: runs that the store held already.
        waiting: runs that were trained before and still wait to be recorded.
        duplicates: configurations equal to another one of the sweep.
        stale: runs that the store held and whose code has changed since; they count as skipped unless they were rerun.
        fingerprints: one for each configuration, in their order.
        interrupted: runs whose training a signal broke off.
        failures: name and reason of each failed run.
        unrecorded: name and reason of each run that was trained but could not be recorded.
        seconds: wall time.
    """

    total: int
    fingerprints: tuple[str, ...] = ()
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    skipped: int = 0
    waiting: int = 0
    duplicates: int = 0
    stale: int = 0
    interrupted: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    unrecorded: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0

    def count(self, name: str, outcome: Outcome) -> None:
        """Take one trained run into account."""
        self.verdicts[outcome.verdict] += 1
        if outcome.verdict == "failed":
            self.failures.append((name, outcome.reason))

    @property
    def solved(self) -> int:
        """Runs that met their task's criterion."""
        return self.verdicts["solved"]

    @property
    def unsolved(self) -> int:
        """Runs that did not."""
        return self.verdicts["unsolved"]

    @property
    def diverged(self) -> int:
        """Runs whose loss or gradient became NaN or infinite: a result."""
        return self.verdicts["diverged"]

    @property
    def failed(self) -> int:
        """Runs that a fault ended."""
        return self.verdicts["failed"]

    @property
    def done(self) -> int:
        """Runs trained to an outcome now."""
        return self.solved + self.unsolved + self.diverged

    @property
    def exit_code(self) -> int:
        """0, or 1 when a run failed or could not be recorded."""
        return 1 if self.failed or self.unrecorded or self.waiting else 0

    def summary(self) -> str:
        """One line."""
        trained = f"{self.solved} solved, {self.unsolved} unsolved, {self.diverged} diverged, {self.failed} failed"
        parts = [f"{_count(self.total, 'run')}: trained {self.done + self.failed} ({trained})"]
        if self.interrupted:
            parts.append(f"{self.interrupted} interrupted")
        if self.skipped:
            parts.append(f"{self.skipped} recorded already")
        if self.waiting:
            parts.append(f"{self.waiting} trained before and still NOT recorded")
        if self.duplicates:
            parts.append(_count(self.duplicates, "duplicate"))
        if self.stale:
            parts.append(f"{self.stale} made by older code (--rerun stale repeats them)")
        if self.unrecorded:
            parts.append(f"{len(self.unrecorded)} NOT recorded")
        return ", ".join(parts) + f"; {clock(self.seconds)}"


def clock(seconds: float) -> str:
    """Seconds as "42 s", "3 min 05 s" or "2 h 07 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def names(configs: Sequence[Config]) -> list[str]:
    """A short name for each run: its cell, initialisation, task, length and seed, and every other key that varies."""
    flat = [_flat(config) for config in configs]
    keys = {key: None for values in flat for key in values}
    shown = ("cell", "init", "task", "task.length", "seed")
    varying = [key for key in keys if key not in shown and len({repr(values.get(key)) for values in flat}) > 1]
    return [" ".join(f"{key}={values[key]}" for key in (*shown, *varying) if key in values) for values in flat]


def _flat(config: Config) -> dict[str, object]:
    """Flat keys; a model that is not made of cells has neither cell nor initialisation."""
    flat = flatten(config)
    if kind_of(config)[1] != NO_INIT:
        return flat
    return {"cell": flat["model"]} | {k: v for k, v in flat.items() if k.partition(".")[0] not in ("cell", "init")}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
