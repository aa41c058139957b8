"""How long a sweep takes until it trains: `python -m goldfish.bench.first_step <file>` runs a small one through
composing, launching and recording, and its worker writes the time of its first training step into the file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from goldfish.config import Config
from goldfish.training.outcome import Outcome

FILE = "GOLDFISH_BENCH_FIRST_STEP"
OVERRIDES = ("task=adding", "task.length=50", "trainer.max_steps=2", "trainer.evaluation_size=8")


def train_pack(configs: Sequence[Config], progress: Callable[[int], None]) -> list[Outcome]:
    """Train a pack as a sweep does; the time of the first step is written down."""
    from goldfish.sweep import described

    file = Path(os.environ[FILE])

    def watched(steps: int) -> None:
        if not file.exists():
            file.write_text(repr(time.time()))
        progress(steps)

    return described.train_pack(configs, watched)


def main(file: str) -> None:
    """Compose and run the sweep."""
    os.environ[FILE] = file
    from goldfish.sweep.compose import Composer, loader
    from goldfish.sweep.run import run_sweep
    from goldfish.tracking.store import Store

    composer = Composer(loader())
    settings = [composer.setting(line) for line in OVERRIDES]
    configs = [composer.config([*settings, composer.setting(f"seed={seed}")]) for seed in range(16)]
    run_sweep(configs, store=Store(), trainer="goldfish.bench.first_step:train_pack")


if __name__ == "__main__":
    main(sys.argv[1])
