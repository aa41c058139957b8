"""A check that this process computes with subnormal numbers: a library built with -ffast-math can switch them off.

A gradient that vanishes passes through them: where they are flushed to zero, it would seem to vanish too early.
"""

from __future__ import annotations

from goldfish.errors import ConfigError

_SUBNORMAL, _ONE = 1e-310, 1.0


def check() -> None:
    """Refuse to measure under flush-to-zero. Raises ConfigError."""
    # one scalar tells: a processor has one switch for scalars and vectors, float32 and float64
    if _SUBNORMAL * _ONE == 0.0:
        raise ConfigError(
            "numbers below the normal range are flushed to zero in this process (a library built with -ffast-math, or "
            "torch.set_flush_denormal): vanishing gradients cannot be measured"
        )
