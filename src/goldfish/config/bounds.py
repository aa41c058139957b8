"""Bounds on a number, written in a signature with annotated-types: `lr: Annotated[float, Gt(0)] = 1e-3`."""

from __future__ import annotations

import operator
from collections.abc import Callable

from annotated_types import Ge, Gt, Interval, Le, Lt

Bound = Ge | Gt | Le | Lt | Interval
KINDS: dict[str, Callable[..., Bound]] = {kind.__name__: kind for kind in (Ge, Gt, Le, Lt, Interval)}
_SIGNS = {"ge": ("≥", operator.ge), "gt": (">", operator.gt), "le": ("≤", operator.le), "lt": ("<", operator.lt)}


def holds(bound: Bound, value: float) -> bool:
    """True when the value lies within; NaN lies within nothing."""
    return all(_SIGNS[name][1](value, limit) for name, limit in _limits(bound).items())


def told(bound: Bound) -> str:
    """Return the bounds in words, such as "≥ 0 and ≤ 1"."""
    return " and ".join(f"{_SIGNS[name][0]} {limit:g}" for name, limit in _limits(bound).items())


def _limits(bound: Bound) -> dict[str, float]:
    return {name: getattr(bound, name) for name in _SIGNS if getattr(bound, name, None) is not None}
