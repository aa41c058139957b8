"""The moments at which a run is probed, `trainer.probe_at`: before, halfway through and after training, or at steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from goldfish.errors import ConfigError, nearest

NAMED = ("before", "half", "after")
Moment = str | int | dict[str, int]
Moments = Sequence[Moment]


def checked(key: str, value: Any) -> list[Moment]:
    """Return the moments as a list, each once, in one order. Raises ConfigError for what names no moment."""
    given = [value] if isinstance(value, (str, int)) else value
    if not isinstance(given, Sequence):
        raise ConfigError(f"{key}={value}: expected a list of {', '.join(NAMED)}, training steps and {{every: int}}")
    moments = [_moment(key, item) for item in given]
    steps = sorted({item for item in moments if isinstance(item, int)})
    every = sorted({item["every"] for item in moments if isinstance(item, dict)})
    return [*(name for name in NAMED if name in moments), *steps, *({"every": step} for step in every)]


def _moment(key: str, value: Any) -> Moment:
    if isinstance(value, str):
        if value not in NAMED:
            raise ConfigError(f"{key}={value}: {nearest(value, NAMED)}, or a training step, or {{every: int}}")
        return value
    if isinstance(value, Mapping) and list(value) != ["every"]:
        raise ConfigError(f"{key}={dict(value)}: expected {{every: int}}")
    step = value["every"] if isinstance(value, Mapping) else value
    if not isinstance(step, int) or isinstance(step, bool) or step < 1:
        raise ConfigError(f"{key}={value}: expected int ≥ 1")
    return {"every": step} if isinstance(value, Mapping) else step


def due(moments: Moments, step: int, last: int) -> list[str]:
    """The moments that come right after a training step: "half", "step100"; `every` leaves the last step to "after"."""
    names = ["half"] if "half" in moments and last > 1 and step == last // 2 else []
    numbered = any(
        step % item["every"] == 0 and step < last if isinstance(item, dict) else item == step for item in moments
    )
    return [*names, f"step{step}"] if numbered else names
