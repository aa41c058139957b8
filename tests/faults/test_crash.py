"""One run of six ends its worker, or exhausts its memory: the other five finish, and one line names run and reason.

Milder ways are those of tests/sweep/test_run.py.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.faults import crashing, sweeps

from goldfish.config.config import Config, resolve
from goldfish.tracking.store import Store

HERE = Path(__file__).parent
SCRIPT = """
import json, sys
sys.path.insert(0, {here!r})
from goldfish.config.config import resolve
from goldfish.sweep.launch import FailedRunsError, launch
try:
    launch(list(map(resolve, json.loads(sys.argv[1]))), workers=2, pack_size=3, trainer="crashing:train_pack")
except FailedRunsError as error:
    print(f"goldfish: {{error}}", file=sys.stderr)
    raise SystemExit(1)
"""
REASONS = {
    "kills itself": r"worker died: exit code -9 \(Killed\)",
    "exhausts memory": r"MemoryError \(crashing\.py:\d+\)",
}


def configs() -> list[Config]:
    trainer = {"max_steps": 20, "batch_size": 4, "validate_every": 10, "evaluation_size": 8, "accelerator": "cpu"}
    shared = {"cell": {"name": "gru", "hidden_size": 8}, "task": {"name": "recall", "length": 6}, "trainer": trainer}
    return [resolve(shared | {"seed": seed}) for seed in range(6)]


@pytest.mark.parametrize("how", crashing.CRASHES)
@pytest.mark.slow
def test_one_of_six(how: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(here=str(HERE)), json.dumps([config.plain() for config in configs()])],
        cwd=tmp_path,
        env=environment | {crashing.HOW: how},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "6 runs: trained 6 (" in done.stdout
    assert ", 1 failed)" in done.stdout
    reason = rf"cell=gru init=pytorch task=recall task\.length=6 seed={crashing.BAD}: {REASONS[how]}"
    assert re.search(rf"^goldfish: 1 of 6 runs failed\n +{reason}$", done.stderr, re.MULTILINE), done.stderr
    assert sweeps.statuses(tmp_path) == {"FINISHED": 5, "FAILED": 1}
    runs = Store(root=tmp_path).runs()
    assert set(runs.loc[runs["outcome"] == "failed", "seed"]) == {crashing.BAD}
    assert not list((Store(root=tmp_path).state / "claims").glob("*.claim"))
