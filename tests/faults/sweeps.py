"""A sweep of 24 tiny runs, started as a process of its own, and what it has left in its store."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from goldfish.config.config import Config, resolve
from goldfish.sweep.run import run_sweep
from goldfish.tracking.store import Store

RUNS = 24
LIMIT = 30.0  # seconds after which an end is no end; what is promised is 5, on a machine that is not overloaded
OVERRIDES = [
    *("cell=rnn,lstm", "cell.hidden_size=8", "init=pytorch,orthogonal", "seed=range(6)"),
    *("task=recall", "task.length=6", "trainer.accelerator=cpu", "trainer.max_steps=480", "trainer.batch_size=4"),
    *("trainer.validate_every=120", "trainer.evaluation_size=8"),
    *("hydra.launcher.workers=2", "hydra.launcher.pack_size=3", "hydra.launcher.checkpoint_steps=60"),
]
TIMES = ("train/seconds", "train/steps_per_second", "seconds", "packed")  # differ from one training to the next


HASTY = """
import sys
from goldfish.cli import main
from goldfish.sweep import recorder
recorder.PATIENCE = 2.0  # seconds that a sweep waits at its end for a store that is away
sys.exit(main())
"""


def configs() -> list[Config]:
    """The same runs, as Python has them."""
    task = {"name": "recall", "length": 6}
    trainer = {"accelerator": "cpu", "max_steps": 480, "batch_size": 4, "validate_every": 120, "evaluation_size": 8}
    return [
        resolve(
            {"cell": {"name": cell, "hidden_size": 8}, "init": init, "task": task, "trainer": trainer, "seed": seed}
        )
        for cell in ("rnn", "lstm")
        for init in ("pytorch", "orthogonal")
        for seed in range(6)
    ]


def start(folder: Path, *more: str, uri: str = "", hasty: bool = False) -> subprocess.Popen[str]:
    """`goldfish train -m …` in a folder, in a process group of its own; the store is that of the folder or at `uri`."""
    chosen = {line.partition("=")[0]: line for line in (*OVERRIDES, *more)}  # the later one counts
    program = ["-c", HASTY] if hasty else ["-m", "goldfish"]
    command = [sys.executable, *program, "train", "-m", *chosen.values()]
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    environment |= {"MLFLOW_TRACKING_URI": uri} if uri else {}
    pipe = subprocess.PIPE
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )


def finish(folder: Path, *more: str) -> str:
    """The same, until it ends; what it printed at last."""
    process = start(folder, *more)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "Traceback" not in err, err
    return out.strip().splitlines()[-1]


def contents(folder: Path) -> dict[str, Any]:
    """fingerprint → metrics, curves and weights of its one finished run, to the last bit; times aside."""
    store = Store(root=folder)
    runs = store.runs()
    curves = store.curves()
    found = {}
    for _, row in runs.iterrows():
        metrics = {name: repr(value) for name, value in row.items() if "/" in name and name not in TIMES}
        own = curves[curves["fingerprint"] == row["fingerprint"]]
        points = sorted(map(repr, own[["quantity", "phase", "x", "value"]].itertuples(index=False, name=None)))
        (file,) = (folder / "mlruns").glob(f"*/{row['run_id']}/artifacts/weights.pt")
        weights = {name: value.numpy().tobytes() for name, value in torch.load(file, weights_only=True).items()}
        assert row["fingerprint"] not in found, "recorded twice"
        found[row["fingerprint"]] = (row["outcome"], metrics, points, weights)
    return found


def statuses(folder: Path) -> Counter[str]:
    """How many MLflow runs have which status."""
    if not (folder / "mlflow.db").exists():
        return Counter()
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs'").fetchone():
            return Counter()  # a sweep that has just begun
        return Counter(status for (status,) in connection.execute("SELECT status FROM runs"))


def check_whole(folder: Path, expected: dict[str, Any]) -> None:
    """Everything is recorded once, is what it would have been, and nothing is left behind; a repeat trains none."""
    assert len(expected) == RUNS
    assert contents(folder) == expected
    found = statuses(folder)
    assert found["FINISHED"] == RUNS
    assert set(found) <= {"FINISHED", "KILLED"}
    state = Store(root=folder).state
    assert not list((state / "claims").glob("*.claim"))
    assert not list((state / "checkpoints").glob("*"))
    report = run_sweep(configs(), store=Store(root=folder))
    assert (report.done + report.failed, report.skipped) == (0, RUNS)
    assert statuses(folder) == found
