"""Progress over a sweep: done, failed, total, time left; a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from tqdm import tqdm

from goldfish.config.config import Config
from goldfish.sweep import packs
from goldfish.sweep.report import clock
from goldfish.sweep.workers import Advanced, Event, Finished, Recorded, Restarted, Stopped

LINE_INTERVAL = 10.0  # seconds between two lines where there is no terminal
BAR_INTERVAL = 0.2
SETTLING = 1.0  # seconds of training before the time left is worth telling


class Progress:
    """Shows how far the runs are, each weighted by its estimated cost; a context manager.

    Args:
        configs: the runs.
        stream: where they are shown.
        runs: the numbers that events give them; by default they are counted from 0.
    """

    def __init__(self, configs: Sequence[Config], stream: TextIO, runs: Sequence[int] | None = None) -> None:
        self.done = self.failed = 0
        numbered = dict(zip(range(len(configs)) if runs is None else runs, configs, strict=True))
        self._costs = {run: packs.cost(config) for run, config in numbered.items()}
        self._steps = {run: config.trainer.max_steps for run, config in numbered.items()}
        self._shares = dict.fromkeys(numbered, 0.0)  # how much of each run is done, 0 … 1
        self._waiting = ""
        self._stream = stream
        self._began: float | None = None
        self._shown = time.monotonic()
        self._bar: tqdm | None = None
        self._left_alone = False  # whether nobody can be shown anything any more

    def __enter__(self) -> Progress:
        with self._unheard():
            if self._stream.isatty():
                self._shown = 0.0
                form = "{percentage:3.0f}% |{bar}| {desc}"
                self._bar = tqdm(total=1.0, file=self._stream, bar_format=form, leave=True)
                self._render()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            with self._unheard():
                self._render()
                self._bar.close()
        else:
            self.tell(self.line())

    def tell(self, text: str) -> None:
        """Show a line, beside the bar where there is one."""
        with self._unheard():
            if self._bar is not None:
                self._bar.write(f"goldfish: {text}", file=self._stream)
            elif not self._left_alone:
                self._stream.write(f"goldfish: {text}\n")
                self._stream.flush()

    @contextmanager
    def _unheard(self) -> Iterator[None]:
        """A terminal that is gone, a pipe whose reader has left, a log on a full disk: the runs are trained anyway."""
        try:
            yield
        except (OSError, ValueError):  # ValueError: the stream is closed
            self._left_alone = True
            self._bar = None

    def show(self, event: Event) -> None:
        """Take one event into account."""
        self._waiting = ""
        if isinstance(event, Finished):
            self._shares[event.run] = 1.0
            self.failed += event.outcome.verdict == "failed"
            self.done += event.outcome.verdict != "failed"
        elif isinstance(event, Recorded):
            self._shares |= dict.fromkeys(event.runs, 1.0)
            self.done += len(event.runs)
        elif isinstance(event, (Restarted, Stopped)):
            for run in event.runs:
                self._shares[run] = 0.0
            if isinstance(event, Restarted) and event.told:
                self.tell(event.told)
        elif event.runs:
            self._advance(event)
        self._render_sometimes()

    def wait(self, reason: str) -> None:
        """Nothing happens here; tell at once what is waited for, where it was not told yet."""
        if reason != self._waiting:
            self._shown = 0.0
        self._waiting = reason
        self._render_sometimes()

    def _advance(self, event: Advanced) -> None:
        if self._began is None:
            self._began = time.monotonic()
        for run in event.runs:
            share = event.steps / len(event.runs) / self._steps[run]
            self._shares[run] = min(1.0, self._shares[run] + share)

    @property
    def share(self) -> float:
        """How much of the sweep is done, 0 … 1."""
        done = sum(cost * self._shares[run] for run, cost in self._costs.items())
        return min(1.0, done / sum(self._costs.values()))

    def line(self) -> str:
        """Done, failed, total and time left."""
        return f"{self.done} done, {self.failed} failed, {len(self._costs)} total, {self._waiting or self._left()}"

    def _left(self) -> str:
        if self.done + self.failed == len(self._costs):
            return "nothing left"
        elapsed = 0.0 if self._began is None else time.monotonic() - self._began
        share = self.share
        if elapsed < SETTLING or share == 0:
            return "starting"
        return f"{clock(elapsed * (1 - share) / share)} left"

    def _render_sometimes(self) -> None:
        if time.monotonic() - self._shown < (LINE_INTERVAL if self._bar is None else BAR_INTERVAL):
            return
        self._shown = time.monotonic()
        if self._bar is not None:
            with self._unheard():
                self._render()
        else:
            self.tell(self.line())

    def _render(self) -> None:
        assert self._bar is not None
        self._bar.ncols = os.get_terminal_size(self._stream.fileno()).columns or 80  # some terminals say 0
        self._bar.n = self.share
        self._bar.set_description_str(self.line())
