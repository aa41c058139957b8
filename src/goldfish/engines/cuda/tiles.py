"""The choice of a tile's rows, timed at first use: which is fastest depends on the GPU, and none changes a bit."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

STEPS = 256  # of a sequence that is timed, at most
BYTES = 2**26  # of its gates, at most
_timed: dict[Hashable, int] = {}


def fastest(problem: Hashable, tiles: Sequence[int], seconds: Callable[[int], float]) -> int:
    """The tile that takes the fewest seconds for a problem, timed once a process; the first of equals."""
    if problem not in _timed:
        _timed[problem] = min(tiles, key=seconds) if len(tiles) > 1 else tiles[0]
    return _timed[problem]


def steps(T: int, bytes_of_a_step: int) -> int:
    """How many of T steps to time."""
    return max(1, min(T, STEPS, BYTES // bytes_of_a_step))


def forget() -> None:
    """Time everything anew."""
    _timed.clear()
