"""Progress: how far runs are, weighted by cost, and what a terminal and a log file show of it."""

from __future__ import annotations

import io
import os
import pty
from contextlib import suppress

import pytest
from tests.sweep.stand_ins import DIVERGES, config, outcome

from goldfish.config.config import Config
from goldfish.sweep import progress as module
from goldfish.sweep import report
from goldfish.sweep.progress import Progress
from goldfish.sweep.workers import Advanced, Event, Finished, Restarted


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


def runs() -> list[Config]:
    """Three runs of 20 steps; the last costs twice as much as each of the others."""
    return [config(0), config(1), config(2, task={"name": "recall", "length": 20})]


def finished(run: int, verdict: str = "solved") -> Finished:
    made = outcome(runs()[run])
    made.verdict = verdict  # type: ignore[assignment]
    return Finished(run, made)


def test_share_is_weighted_by_cost(clock: Clock) -> None:
    shown = Progress(runs(), io.StringIO())
    shares = []
    events: list[Event] = [
        Advanced((0, 1), 20),  # both of them half way
        Advanced((2,), 5),
        Advanced(),
        finished(0),
        finished(1),
        Restarted((2,)),
        Advanced((2,), 10),
        Advanced((2,), 1000),  # never more than all of it
        finished(2),
    ]
    for event in events:
        shown.show(event)
        shares.append(shown.share)
    assert shares == pytest.approx([0.25, 0.375, 0.375, 0.5, 0.625, 0.5, 0.75, 1, 1])


def test_time_left_is_the_time_spent_on_each_share(clock: Clock) -> None:
    shown = Progress(runs(), io.StringIO())
    assert shown.line() == "0 done, 0 failed, 3 total, starting"
    clock.now += 50  # imports do not count
    shown.show(Advanced((0, 1), 1))
    assert shown.line().endswith("starting")
    clock.now += 30
    shown.show(Advanced((0, 1), 19))
    assert shown.line() == "0 done, 0 failed, 3 total, 1 min 30 s left"
    for run, verdict in enumerate(["failed", "diverged", "solved"]):
        shown.show(finished(run, verdict))
    assert shown.line() == "2 done, 1 failed, 3 total, nothing left"


def test_a_log_file_gets_a_line_now_and_then(clock: Clock) -> None:
    stream = io.StringIO()
    with Progress(runs(), stream) as shown:
        for _ in range(40):
            clock.now += 1
            shown.show(Advanced((0,), 0))
        for run in range(3):
            shown.show(finished(run))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 5
    assert lines[0] == "goldfish: 0 done, 0 failed, 3 total, starting"
    assert lines[-1] == "goldfish: 3 done, 0 failed, 3 total, nothing left"


def test_a_terminal_gets_one_line_that_changes(clock: Clock) -> None:
    """A pseudo-terminal of no stated width, as some have."""
    reading, writing = pty.openpty()
    with os.fdopen(writing, "w") as stream, Progress(runs(), stream) as shown:
        for run, verdict in enumerate(["solved", "failed", "unsolved"]):
            shown.show(finished(run, verdict))
            clock.now += 1
    text = written(reading)
    assert text.count("\n") == 1
    states = [state.strip() for state in text.split("\r") if state.strip()]
    assert states[0].startswith("0% |")
    assert "0 done, 0 failed, 3 total, starting" in text
    assert "1 done, 1 failed, 3 total" in text
    assert states[-1].startswith("100% |██")
    assert states[-1].endswith("2 done, 1 failed, 3 total, nothing left")
    assert max(map(len, states)) <= 80


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
    assert report.clock(seconds) == text


def test_names_tell_runs_apart() -> None:
    optimizers = [{"name": "adam", "lr": 0.1}, {"name": "adam", "lr": 0.01}]
    named = report.names([config(3, optimizer=optimizer) for optimizer in optimizers])
    assert named[0] == "cell=rnn init=pytorch task=recall task.length=10 seed=3 optimizer.lr=0.1"
    assert len(set(named)) == 2


def test_summary() -> None:
    made = report.Report(9, skipped=3, duplicates=1, seconds=61)
    for seed in (0, 1, DIVERGES):
        made.count("name", outcome(config(seed)))
    failed = outcome(config(5))
    failed.verdict, failed.reason = "failed", "why"
    made.count("name", failed)
    assert made.summary() == (
        "9 runs: trained 4 (1 solved, 1 unsolved, 1 diverged, 1 failed), 3 recorded already, 1 duplicate; 1 min 01 s"
    )
    assert (made.done, made.failures, made.exit_code) == (3, [("name", "why")], 1)
