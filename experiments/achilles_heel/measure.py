"""What a training step and a generated token cost, by network, sequence length, batch and pack."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from goldfish.bench import cost


def measure(settings: Mapping[str, Any], out: Path) -> pd.DataFrame:
    """The table of goldfish.bench.cost, with what was asked of it."""
    return cost.measure(**settings, progress=lambda line: print(f"achilles_heel: {line}", file=sys.stderr, flush=True))
