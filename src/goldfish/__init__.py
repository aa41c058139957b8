"""goldfish: how far back can a recurrent network remember, and why does it forget?

>>> import goldfish
>>> recurrent = goldfish.Recurrent("lstm", input_size=3, hidden_size=32, replicas=4)   # (4, B, T, 3) → (4, B, T, 32)
>>> outcomes = goldfish.train([goldfish.resolve({"cell": "lstm", "init": "chrono", "task": "recall"})])
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# MKL chooses its code path by memory alignment unless told not to; runs must not depend on the pack they are in.
os.environ.setdefault("MKL_CBWR", "AVX2,STRICT")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS may give other bits the next time

if TYPE_CHECKING:
    from goldfish.config.config import resolve as resolve
    from goldfish.instrument.callback import GradientFlow as GradientFlow
    from goldfish.instrument.watch import watch as watch
    from goldfish.probes.gradient_flow import gradient_flow as gradient_flow
    from goldfish.recurrent import Recurrent as Recurrent
    from goldfish.training.train import train as train
    from goldfish.training.trained import trained as trained

__version__ = "0.1.0"
__all__ = ["GradientFlow", "Recurrent", "gradient_flow", "resolve", "train", "trained", "watch"]

_HOMES = {
    "GradientFlow": "goldfish.instrument.callback",
    "Recurrent": "goldfish.recurrent",
    "gradient_flow": "goldfish.probes.gradient_flow",
    "resolve": "goldfish.config.config",
    "train": "goldfish.training.train",
    "trained": "goldfish.training.trained",
    "watch": "goldfish.instrument.watch",
}


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used: `goldfish --help` must not import torch."""
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'goldfish' has no attribute '{name}'")
