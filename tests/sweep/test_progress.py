"""Progress: how far runs are, weighted by cost, and what a terminal and a log file show of it."""

from __future__ import annotations

import importlib.util
import io
import os
import pty
import re
import sys
from contextlib import suppress
from types import ModuleType

import pytest
import rich.console
from rich.live import Live
from tests.sweep.stand_ins import DIVERGES, config, outcome

from goldfish.sweep import progress as module
from goldfish.sweep.packs import Run
from goldfish.sweep.pool import Advanced, Event, Finished, Recorded, Restarted, Started, Stopped
from goldfish.sweep.progress import Progress


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture(autouse=True)
def costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.packs, "cost", lambda config: config["task"]["length"] / 10)


def runs() -> list[Run]:
    """Three runs of 20 steps; the last costs twice as much as each of the others."""
    configs = [config(0), config(1), config(2, task={"name": "recall", "length": 20})]
    return [Run(item, ("study", ""), "", "", "", "") for item in configs]


def finished(run: Run, verdict: str = "solved") -> Finished:
    made = outcome(run.config)
    made.verdict = verdict  # type: ignore[assignment]
    return Finished(run, made)


def test_share_is_weighted_by_cost(clock: Clock) -> None:
    first, second, third = three = runs()
    shown = Progress(three, io.StringIO())
    shares = []
    events: list[Event] = [
        Advanced((first, second), 20),  # both of them half way
        Advanced((third,), 5),
        Advanced(),
        finished(first),
        finished(second),
        Restarted((third,)),
        Advanced((third,), 10),
        Advanced((third,), 1000),  # never more than all of it
        finished(third),
    ]
    for event in events:
        shown.show(event)
        shares.append(shown.share)
    assert shares == pytest.approx([0.25, 0.375, 0.375, 0.5, 0.625, 0.5, 0.75, 1, 1])


def test_time_left_is_the_time_spent_on_each_share(clock: Clock) -> None:
    first, second, third = three = runs()
    shown = Progress(three, io.StringIO())
    none = "0 solved, 0 unsolved, 0 diverged, 0 failed"
    assert shown.line() == f"0 of 3 runs: {none}, 0 packs running, starting"
    clock.now += 50  # imports do not count
    shown.show(Started((first, second)))
    shown.show(Advanced((first, second), 1))
    assert shown.line().endswith("1 pack running, starting")
    clock.now += 30
    shown.show(Started((third,)))
    shown.show(Advanced((first, second), 19))
    assert shown.line() == f"0 of 3 runs: {none}, 2 packs running, 1 min 30 s left"
    for run, verdict in zip(three, ["failed", "diverged", "solved"], strict=True):
        shown.show(finished(run, verdict))
    told = "1 solved, 0 unsolved, 1 diverged, 1 failed, 0 packs running, nothing left"
    assert shown.line() == f"3 of 3 runs: {told}"


def test_what_is_not_trained_here_any_more_is_no_running_pack() -> None:
    first, second, third = three = runs()
    shown = Progress(three, io.StringIO())
    shown.show(Started((first, second)))
    shown.show(Recorded((third,)))
    assert "0 failed, 1 recorded by others, 1 pack running" in shown.line()
    shown.show(Restarted((first, second)))
    assert "0 packs running" in shown.line()
    shown.show(Started((first,)))
    shown.show(Started((second,)))
    assert "2 packs running" in shown.line()
    shown.show(Stopped((second,), 3, 0.0))
    assert "1 of 3 runs: 0 solved" in shown.line()
    assert "1 pack running" in shown.line()


def test_a_log_file_gets_a_line_now_and_then(clock: Clock) -> None:
    stream, three = io.StringIO(), runs()
    with Progress(three, stream) as shown:
        for _ in range(40):
            clock.now += 1
            shown.show(Advanced((three[0],), 0))
        for run in three:
            shown.show(finished(run))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("goldfish: 0 of 3 runs: 0 solved,")
    assert lines[-1].startswith("goldfish: 3 of 3 runs: 3 solved,")


def test_a_terminal_gets_a_bar_that_changes(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pseudo-terminal of no stated width, as some have."""
    monkeypatch.setenv("TERM", "xterm-256color")
    reading, writing = pty.openpty()
    three = runs()
    with os.fdopen(writing, "w") as stream, Progress(three, stream) as shown:
        for run, verdict in zip(three, ["solved", "failed", "unsolved"], strict=True):
            shown.show(finished(run, verdict))
            clock.now += 1
        shown.tell("a line")
    text = re.sub(r"\x1b\[[0-9;]*m", "", written(reading))
    assert "goldfish: a line\r\n" in text
    states = [(int(share), left) for share, left in re.findall(r"━ +(\d+)% (.*?)\s*\r\n", text)]
    assert states[0] == (0, "starting")
    assert states[-1] == (100, "nothing left")
    assert "1 of 3 runs: 1 solved, 0 unsolved, 0 diverged, 0 failed, 0 packs running" in text
    assert "3 of 3 runs: 1 solved, 1 unsolved, 0 diverged, 1 failed, 0 packs running" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("terminal", ["dumb", "xterm"])
def test_a_terminal_that_is_gone_stops_nothing(terminal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", terminal)
    monkeypatch.setattr(module, "BAR_INTERVAL", 0.0)
    monkeypatch.setattr(module, "LINE_INTERVAL", 0.0)
    reading, writing = pty.openpty()
    three = runs()
    stream = os.fdopen(writing, "w")
    with Progress(three, stream) as shown:
        os.close(reading)
        for run in three:
            shown.show(finished(run))
        shown.tell("a line")
    assert shown.share == 1
    with suppress(OSError):
        stream.close()


def test_a_notebook_with_widgets_gets_a_bar(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """IPython's kernel, ipywidgets and rich's display in it are stood in for."""
    drawn: list[str] = []
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
    monkeypatch.setattr(Live, "refresh", lambda self: drawn.append(str(self)))
    three = runs()
    with Progress(three, sys.stderr) as shown:
        assert shown._live is not None
        shown.show(finished(three[0]))
    assert len(drawn) >= 2


def written(reading: int) -> str:
    """All that was written to a pseudo-terminal whose other end is closed."""
    parts = []
    with suppress(OSError):  # Linux says so at the end
        while part := os.read(reading, 4096):
            parts.append(part)
    os.close(reading)
    return b"".join(parts).decode()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (60, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.6, "1 h 00 min"),
        (7620, "2 h 07 min"),
    ],
)
def test_clock(seconds: float, text: str) -> None:
    assert module.clock(seconds) == text


def test_names_tell_runs_apart() -> None:
    optimizers = [{"name": "adam", "lr": 0.1}, {"name": "adam", "lr": 0.01}]
    named = module.names([config(3, optimizer=optimizer) for optimizer in optimizers])
    assert named[0] == "cell=rnn init=pytorch task=recall task.length=10 seed=3 optimizer.lr=0.1"
    assert len(set(named)) == 2


def test_summary() -> None:
    made = module.Report(9, skipped=3, duplicates=1, seconds=61)
    for seed in (0, 1, DIVERGES):
        made.count("name", outcome(config(seed)))
    failed = outcome(config(5))
    failed.verdict, failed.reason = "failed", "why"
    made.count("name", failed)
    assert made.summary() == (
        "9 runs: trained 4 (1 solved, 1 unsolved, 1 diverged, 1 failed), 3 recorded already, 1 duplicate; 1 min 01 s"
    )
    assert (made.done, made.failures, made.exit_code) == (3, [("name", "why")], 1)
