"""Turns, ratios and spreads, on a clock that the contestants move."""

from __future__ import annotations

import gc
import math

import pytest

from benchmarks import interleave as timing
from benchmarks.interleave import Contestant, Entrant, NotRun, Ratio, Timed, geomean, interleave, ratio


class Clock:
    """Stands in for time.perf_counter; a contestant moves it by its seconds per step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.calls: list[tuple[str, int]] = []
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)

    def contestant(self, name: str, seconds: float, models: int = 1) -> Contestant:
        def run(n: int) -> None:
            self.calls.append((name, n))
            self.now += n * seconds

        return Contestant(run, models)


def test_contestants_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    entrants = {"fast": clock.contestant("fast", 0.01), "slow": clock.contestant("slow", 0.5, models=4)}
    found = interleave(entrants, rounds=3, seconds=0.2)
    assert clock.calls[-6:] == [("fast", 20), ("slow", 1)] * 3
    fast, slow = found["fast"], found["slow"]
    assert isinstance(fast, Timed)
    assert isinstance(slow, Timed)
    assert fast.rounds == pytest.approx([0.01] * 3)
    assert slow.rounds == pytest.approx([0.125] * 3)


def test_what_takes_long_is_warmed_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    interleave({"long": clock.contestant("long", 30.0)}, rounds=2, seconds=0.2)
    assert len(clock.calls) == 1 + 2


def test_one_that_cannot_run_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)

    def fails(n: int) -> None:
        raise RuntimeError("no such kernel\nand a second line")

    entrants: dict[str, Entrant] = {
        "absent": NotRun("not installed"),
        "broken": Contestant(fails),
        "fine": clock.contestant("fine", 0.1),
    }
    found = interleave(entrants, rounds=1, seconds=0.1)
    assert list(found) == ["absent", "broken", "fine"]
    assert found["absent"] == NotRun("not installed")
    assert found["broken"] == NotRun("RuntimeError: no such kernel")
    assert isinstance(found["fine"], Timed)


def test_the_garbage_collector_rests_while_it_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    clock = Clock(monkeypatch)

    def run(n: int) -> None:
        seen.append(gc.isenabled())
        clock.now += n

    assert gc.isenabled()
    interleave({"a": Contestant(run)}, rounds=2, seconds=0.1)
    assert seen == [True, True, False, False]  # warmed up twice, measured twice
    assert gc.isenabled()


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    found = ratio(Timed((2.0, 40.0, 6.0)), Timed((1.0, 20.0, 2.0)))  # 2, 2, 3: a slow round hits both
    assert found.value == 2.0
    assert found.spread == pytest.approx(0.25)  # quartiles 2 and 2.5


def test_one_round_has_no_spread() -> None:
    assert ratio(Timed((3.0,)), Timed((2.0,))) == Ratio(1.5, 0.0)


def test_geometric_mean() -> None:
    found = geomean([Ratio(4.0, 0.1), Ratio(9.0, 0.1)])
    assert found.value == pytest.approx(6.0)
    assert found.spread == pytest.approx(0.1 / math.sqrt(2))
