"""A finished sweep of a thousand runs, said again: nothing is trained, and neither torch nor MLflow is imported."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.stores import copy_store

from goldfish.config.config import resolve
from goldfish.sweep.identity import fingerprint, source_hash
from goldfish.training.outcome import Outcome

RUNS = 1000
OVERRIDES = ["cell=rnn,lstm", "task=recall", "task.length=6,8", f"seed=range({RUNS // 4})"]
SCRIPT = """
import sys
from goldfish.cli import main
code = main(sys.argv[1:])
print(code, sorted({"torch", "mlflow", "pytorch_lightning"} & set(sys.modules)))
"""


@pytest.mark.slow
def test_a_thousand_finished_runs(template: Path, tmp_path: Path) -> None:
    store = copy_store(template, tmp_path)
    for cell in ("rnn", "lstm"):
        for length in (6, 8):
            for seed in range(RUNS // 4):
                config = resolve({"cell": cell, "task": {"name": "recall", "length": length}, "seed": seed})
                store.record(
                    Outcome(config, "solved", started=1.0, seconds=1.0),
                    experiment_name=config["tracking"]["experiment_name"],
                    sweep="study",
                    fingerprint=fingerprint(config),
                    source_hash=source_hash(config),
                    provenance={},
                )
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "train", "-m", *OVERRIDES],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    print(f"{RUNS} finished runs answer in {time.monotonic() - begun:.2f} s")
    said, last = done.stdout.splitlines()[-2:]
    assert said.startswith(f"{RUNS} runs: trained 0 (0 solved, 0 unsolved, 0 diverged, 0 failed), {RUNS} recorded"), (
        said
    )
    assert last == "0 []", done.stderr
