"""A pack trained as a sweep does, which writes down when its first step was done: see benchmarks.first_step.

Imported by the server that workers are forked from, as goldfish.sweep.work is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from goldfish.config.config import Config
from goldfish.sweep import work
from goldfish.training.outcome import Outcome

FILE = "GOLDFISH_BENCH_FIRST_STEP"  # environment variable: where the time is written


def train_pack(configs: Sequence[Config], progress: Callable[[int], None], **options: Any) -> list[Outcome]:
    """Train a pack; the time of the first step goes into the file."""
    file = Path(os.environ[FILE])

    def timed(steps: int) -> None:
        if not file.exists():
            file.write_text(repr(time.time()))
        progress(steps)

    return work.train_pack(configs, timed, **options)
