"""Bounds on a number, written into a signature: `lr: Annotated[float, above(0)] = 1e-3`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bound:
    """An interval; `open_low` excludes its lower end."""

    low: float | None = None
    high: float | None = None
    open_low: bool = False

    def holds(self, value: float) -> bool:
        """True when the value lies in the interval; NaN lies in none."""
        if self.low is not None and not (value > self.low if self.open_low else value >= self.low):
            return False
        return self.high is None or value <= self.high

    def __str__(self) -> str:
        low = "" if self.low is None else f"{'>' if self.open_low else '≥'} {self.low:g}"
        high = "" if self.high is None else f"≤ {self.high:g}"
        return " and ".join(part for part in (low, high) if part)


def at_least(low: float) -> Bound:
    """Bound: value ≥ low."""
    return Bound(low=low)


def above(low: float) -> Bound:
    """Bound: value > low."""
    return Bound(low=low, open_low=True)


def between(low: float, high: float) -> Bound:
    """Bound: low ≤ value ≤ high."""
    return Bound(low=low, high=high)
