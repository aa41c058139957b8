"""Fair timing: contestants take turns, A B C A B C …, so that whatever the machine does meanwhile hits all of them.

What is reported of two contestants is the median of the ratios within each round, and the spread of those ratios.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Contestant:
    """Something to be timed.

    Attributes:
        run: does n steps.
        models: networks that one step trains; times are told per network.
    """

    run: Callable[[int], None]
    models: int = 1


@dataclass(frozen=True)
class NotRun:
    """A contestant that cannot run here, and why."""

    reason: str


Entrant = Contestant | NotRun


@dataclass(frozen=True)
class Timed:
    """Seconds per step and network, one number for each round."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median over rounds, in seconds."""
        return statistics.median(self.rounds)


@dataclass(frozen=True)
class Ratio:
    """The median of the rounds' ratios, and their interquartile range as a fraction of it."""

    value: float
    spread: float


def repeated(step: Callable[[], object], models: int = 1) -> Contestant:
    """A contestant out of a function that does one step."""

    def run(n: int) -> None:
        for _ in range(n):
            step()

    return Contestant(run, models)


def interleave(
    entrants: Mapping[str, Entrant], *, rounds: int, seconds: float, synchronise: Callable[[], None] = lambda: None
) -> dict[str, Timed | NotRun]:
    """Time the contestants in turn, `rounds` times; each measurement lasts at least `seconds`.

    One that raises during the warm-up has not run, for the reason it gives. `synchronise` waits for the device.
    """
    results: dict[str, Timed | NotRun] = {}
    ready: dict[str, tuple[Contestant, int]] = {}
    for name, entrant in entrants.items():
        steps = entrant if isinstance(entrant, NotRun) else _warm_up(entrant, seconds, synchronise)
        if isinstance(entrant, Contestant) and isinstance(steps, int):
            ready[name] = entrant, steps
        elif isinstance(steps, NotRun):
            results[name] = steps
    times: dict[str, list[float]] = {name: [] for name in ready}
    with _without_collector():
        for _ in range(rounds):
            for name, (contestant, steps) in ready.items():
                times[name].append(_clock(contestant, steps, synchronise) / (steps * contestant.models))
    measured = {name: Timed(tuple(values)) for name, values in times.items()}
    return {name: (results | measured)[name] for name in entrants}


def ratio(over: Timed, under: Timed) -> Ratio:
    """How many times longer `over` takes than `under`."""
    return spread([a / b for a, b in zip(over.rounds, under.rounds, strict=True)])


def spread(values: Sequence[float]) -> Ratio:
    """Median, and interquartile range over median (0 for a single value)."""
    middle = statistics.median(values)
    if len(values) == 1:
        return Ratio(middle, 0.0)
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return Ratio(middle, (high - low) / middle)


def geomean(ratios: Sequence[Ratio]) -> Ratio:
    """The geometric mean of independent ratios; spreads add as relative errors do."""
    value = math.exp(statistics.fmean(math.log(item.value) for item in ratios))
    return Ratio(value, math.hypot(*(item.spread for item in ratios)) / len(ratios))


def reason(error: BaseException) -> str:
    """An exception in one line."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}"[:200]


def _warm_up(contestant: Contestant, seconds: float, synchronise: Callable[[], None]) -> int | NotRun:
    """Run it in, and find how many steps a measurement takes."""
    try:
        steps, taken = 1, _clock(contestant, 1, synchronise)  # compiles, allocates
        if taken < 20 * seconds:  # what takes longer is warm after once
            taken = _clock(contestant, 1, synchronise)
        while taken < seconds / 4:
            steps *= 2
            taken = _clock(contestant, steps, synchronise)
    except Exception as error:
        return NotRun(reason(error))
    return max(1, math.ceil(steps * seconds / taken))


def _clock(contestant: Contestant, steps: int, synchronise: Callable[[], None]) -> float:
    synchronise()
    start = time.perf_counter()
    contestant.run(steps)
    synchronise()
    return time.perf_counter() - start


@contextmanager
def _without_collector() -> Iterator[None]:
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
