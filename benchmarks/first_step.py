"""How long a sweep takes until it trains: `python -m benchmarks.first_step <file>` runs a small one through
composing, launching and recording, and its worker writes the time of its first training step into the file."""

from __future__ import annotations

import os
import sys

FILE = "GOLDFISH_BENCH_FIRST_STEP"  # as in benchmarks.timed_pack, which only the workers' server may import
OVERRIDES = ("task=adding", "task.length=50", "trainer.max_steps=2", "trainer.evaluation_size=8")


def main(file: str) -> None:
    """Compose and run the sweep."""
    os.environ[FILE] = file
    from goldfish.composing.compose import Composer, loader
    from goldfish.sweep.run import run_sweep
    from goldfish.tracking.store import Store

    composer = Composer(loader())
    settings = [composer.setting(line) for line in OVERRIDES]
    configs = [composer.config([*settings, composer.setting(f"seed={seed}")]) for seed in range(16)]
    run_sweep(configs, store=Store(), trainer="benchmarks.timed_pack:train_pack")


if __name__ == "__main__":
    main(sys.argv[1])
