"""Whether this process computes with subnormal numbers; a library built with -ffast-math can have switched them off.

A gradient that vanishes passes through them: where they are flushed to zero, it would seem to vanish too early.
"""

from __future__ import annotations

import ctypes

import torch

from goldfish.errors import ConfigError


def check() -> None:
    """Refuse to measure under flush-to-zero. Raises ConfigError."""
    single = torch.full((64,), 1e-40)  # vectors and single numbers take different instructions
    flushed = [name for name, zero in (("float32", bool((single * 1 == 0).any())), ("float64", _double() == 0)) if zero]
    if flushed:
        raise ConfigError(
            f"{' and '.join(flushed)} numbers below the normal range are flushed to zero in this process (a library "
            "built with -ffast-math, or torch.set_flush_denormal): vanishing gradients cannot be measured"
        )


def _double() -> float:
    smallest = ctypes.c_double(5e-324).value  # not a constant that the compiler folds
    return smallest * 1.0
