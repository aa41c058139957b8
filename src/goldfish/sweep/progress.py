"""The progress of a sweep while it runs, and the report on its runs when it has ended.

On a terminal, and in a notebook that has ipywidgets, a bar is kept up to date; elsewhere a line is shown now and then.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from goldfish.config.config import Config
from goldfish.sweep import packs
from goldfish.sweep.pool import Advanced, Finished, Recorded, Restarted, Started
from goldfish.tracking.names import NO_INIT, flatten
from goldfish.tracking.names import kind as kind_of
from goldfish.training.outcome import Outcome, Verdict

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

    from goldfish.sweep.packs import Pack, Run
    from goldfish.sweep.pool import Event

LINE_INTERVAL = 10.0  # seconds between two lines where there is no bar
BAR_INTERVAL = 0.2
SETTLING = 1.0  # seconds of training before the time left is worth telling
COLOURS: dict[Verdict, str] = {"solved": "green", "unsolved": "yellow", "diverged": "magenta", "failed": "red"}


class Progress:
    """Shows on `stream` how far runs are, each weighted by its estimated cost; a context manager."""

    def __init__(self, runs: Sequence[Run], stream: TextIO) -> None:
        self.verdicts: Counter[Verdict] = Counter()
        self.elsewhere = 0  # runs that another process has recorded
        self._costs = {run: packs.cost(run.config) for run in runs}
        self._shares = dict.fromkeys(runs, 0.0)  # how much of each run is done, 0 … 1
        self._training: dict[Run, Pack] = {}
        self._waiting = ""
        self._stream = stream
        self._began: float | None = None
        self._shown = time.monotonic()
        self._live: Live | None = None
        self._left_alone = False  # whether nobody can be shown anything any more

    def __enter__(self) -> Progress:
        with self._unheard():
            if (console := _console(self._stream)) is not None:
                from rich.live import Live

                self._shown = 0.0
                self._live = Live(
                    self._drawn(), console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
                )
                self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            with self._unheard():
                self._live.update(self._drawn())
                self._live.stop()
        else:
            self.tell(self.line())

    def tell(self, text: str) -> None:
        """Show a line, beside the bar where there is one."""
        with self._unheard():
            if self._live is not None:
                self._live.console.print(f"goldfish: {text}", markup=False, highlight=False)
            elif not self._left_alone:
                self._stream.write(f"goldfish: {text}\n")
                self._stream.flush()

    @contextmanager
    def _unheard(self) -> Iterator[None]:
        """Go on without output when the terminal or the pipe's reader is gone, or the log's disk is full."""
        try:
            yield
        except (OSError, ValueError):  # ValueError: the stream is closed
            self._left_alone = True
            self._live = None

    def show(self, event: Event) -> None:
        """Take one event into account."""
        self._waiting = ""
        if isinstance(event, Finished):
            self._shares[event.run] = 1.0
            self._training.pop(event.run, None)
            self.verdicts[event.outcome.verdict] += 1
        elif isinstance(event, Recorded):
            self._shares |= dict.fromkeys(event.runs, 1.0)
            self.elsewhere += len(event.runs)
        elif isinstance(event, Started):
            self._training |= dict.fromkeys(event.runs, event.runs)
        elif isinstance(event, Advanced):
            self._advance(event)
        else:
            for run in event.runs:
                self._shares[run] = 0.0
                self._training.pop(run, None)
            if isinstance(event, Restarted) and event.told:
                self.tell(event.told)
        self._render_sometimes()

    def wait(self, reason: str) -> None:
        """Say at once what is being waited for, unless that was said already."""
        if reason != self._waiting:
            self._shown = 0.0
        self._waiting = reason
        self._render_sometimes()

    def _advance(self, event: Advanced) -> None:
        if event.runs and self._began is None:
            self._began = time.monotonic()
        for run in event.runs:
            share = event.steps / len(event.runs) / run.config.trainer.max_steps
            self._shares[run] = min(1.0, self._shares[run] + share)

    @property
    def share(self) -> float:
        """How much of the sweep is done, 0 … 1."""
        done = sum(cost * self._shares[run] for run, cost in self._costs.items())
        return min(1.0, done / sum(self._costs.values()))

    @property
    def ended(self) -> int:
        """The number of runs that are done or have failed."""
        return self.verdicts.total() + self.elsewhere

    def counts(self) -> list[tuple[str, str]]:
        """The runs by outcome and the packs in training, counted: each text with its colour on a terminal."""
        counts = [(f"{self.verdicts[verdict]} {verdict}", colour) for verdict, colour in COLOURS.items()]
        if self.elsewhere:
            counts.append((f"{self.elsewhere} recorded by others", ""))
        return [*counts, (f"{_count(len(set(self._training.values())), 'pack')} running", "")]

    def line(self) -> str:
        """The line "5 of 96 runs: 3 solved, 1 unsolved, 1 diverged, 0 failed, 2 packs running, 4 min 10 s left"."""
        return f"{self._ratio()}: {', '.join([*(text for text, _ in self.counts()), self._left()])}"

    def _ratio(self) -> str:
        return f"{self.ended} of {_count(len(self._costs), 'run')}"

    def _left(self) -> str:
        if self._waiting:
            return self._waiting
        if self.ended == len(self._costs):
            return "nothing left"
        elapsed = 0.0 if self._began is None else time.monotonic() - self._began
        share = self.share
        if elapsed < SETTLING or share == 0:
            return "starting"
        return f"{clock(elapsed * (1 - share) / share)} left"

    def _render_sometimes(self) -> None:
        if time.monotonic() - self._shown < (LINE_INTERVAL if self._live is None else BAR_INTERVAL):
            return
        self._shown = time.monotonic()
        if self._live is not None:
            with self._unheard():
                self._live.update(self._drawn(), refresh=True)
        else:
            self.tell(self.line())

    def _drawn(self) -> RenderableType:
        """A bar with the time left, and below it what the line says."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        row = Table.grid(padding=(0, 1))
        row.add_row(ProgressBar(total=1.0, completed=self.share, width=40), f"{self.share:.0%}", self._left())
        counts = Text(", ").join(Text(*count) for count in self.counts())
        return Group(row, Text(f"{self._ratio()}: ").append_text(counts))


def _console(stream: TextIO) -> Console | None:
    """A console that a bar can be drawn on; None where `stream` allows none."""
    notebook = "ipykernel" in sys.modules and stream is sys.stderr and importlib.util.find_spec("ipywidgets")
    if not stream.isatty() and not notebook:
        return None
    from rich.console import Console

    console = Console(file=stream)
    return console if console.is_interactive or console.is_jupyter else None


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
    def failed(self) -> int:
        """Runs that a fault ended."""
        return self.verdicts["failed"]

    @property
    def done(self) -> int:
        """Runs trained to an outcome now."""
        return self.verdicts.total() - self.failed

    @property
    def exit_code(self) -> int:
        """0, or 1 when a run failed or could not be recorded."""
        return 1 if self.failed or self.unrecorded or self.waiting else 0

    def summary(self) -> str:
        """The report in one line."""
        trained = ", ".join(f"{self.verdicts[verdict]} {verdict}" for verdict in COLOURS)
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
