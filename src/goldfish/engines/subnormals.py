"""Whether this process computes with subnormal numbers; a library built with -ffast-math can have switched them off.

A gradient that vanishes passes through them: where they are flushed to zero, it would seem to vanish too early.
"""

from __future__ import annotations

import numpy as np

from goldfish.errors import ConfigError

# numpy's arrays are computed with on this thread, whose mode torch sets; long enough for vectors
_SUBNORMAL = {"float32": np.full(64, 1e-40, np.float32), "float64": np.full(64, 1e-310)}


def check() -> None:
    """Refuse to measure under flush-to-zero. Raises ConfigError."""
    flushed = [name for name, tiny in _SUBNORMAL.items() if not (tiny * 1).all()]
    if flushed:
        raise ConfigError(
            f"{' and '.join(flushed)} numbers below the normal range are flushed to zero in this process (a library "
            "built with -ffast-math, or torch.set_flush_denormal): vanishing gradients cannot be measured"
        )
