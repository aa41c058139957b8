"""A whole sweep by the command line, everything recorded, against bare loops over torch.nn.* one after another."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from benchmarks.bench import Bench, Job
from benchmarks.interleave import Ratio
from benchmarks.peers import alone
from benchmarks.problem import CELLS
from benchmarks.rows import Row, Target, row
from goldfish.tasks.adding import Adding

NAME = "sweep"
TITLE = "96 runs of the adding task (T=50, H=32, 300 steps): a recorded sweep against bare loops without any harness"
NEEDS = ("hydra", "mlflow")
LENGTH, HIDDEN, BATCH, STEPS = 50, 32, 32, 300
SEEDS = 32  # by three cells


def jobs(bench: Bench) -> list[Job]:
    """One job: half of the bare loops, the sweep, the other half."""
    return [Job("the whole sweep", lambda: _measure(bench))]


def _measure(bench: Bench) -> list[Row]:
    seeds, steps = (2, 20) if bench.quick else (SEEDS, STEPS)
    runs = seeds * len(CELLS)
    half = seeds // 2
    bare = [_bare(cell, seed, steps, bench.device) for cell in CELLS for seed in range(half)]
    sweep = command(seeds, steps, bench.device)
    bare += [_bare(cell, seed, steps, bench.device) for cell in CELLS for seed in range(half, seeds)]
    target = None if bench.quick else Target("≥", 3 if bench.device == "cpu" else 15)
    case = f"{runs} runs, {steps} steps"
    times = Ratio(sum(bare) / sweep, 0.0)
    return [
        row(NAME, case, "goldfish train -m, recorded", sweep, ratio=Ratio(1.0, 0.0)),
        row(
            NAME, case, "bare torch.nn loops in turn", sum(bare), ratio=times, target=target, note="every loop was run"
        ),
    ]


def command(seeds: int, steps: int, device: str) -> float:
    """Seconds of the command, in a fresh folder with a fresh store. Raises RuntimeError when it fails."""
    line = [
        *(sys.executable, "-m", "goldfish", "train", "-m", f"cell={','.join(CELLS)}", f"seed=range(0,{seeds})"),
        *("task=adding", f"task.length={LENGTH}", f"cell.hidden_size={HIDDEN}", f"trainer.max_steps={steps}"),
        *(f"trainer.batch_size={BATCH}", f"trainer={'cpu' if device == 'cpu' else 'gpu'}"),
    ]
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True)
        seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(line[1:])}: {done.stderr.strip()[-500:]}")
    return seconds


class _Bare(nn.Module):
    def __init__(self, cell: str) -> None:
        super().__init__()
        self.recurrent: nn.RNNBase = alone.MODULES[cell](2, HIDDEN, batch_first=True)
        self.readout = nn.Linear(HIDDEN, 1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(B, T, 2) → (B,)."""
        outputs: Any = self.recurrent(inputs)[0]
        found: torch.Tensor = self.readout(outputs[:, -1]).squeeze(-1)
        return found


def _bare(cell: str, seed: int, steps: int, device: str) -> float:
    """Seconds of one run as one writes it down: no evaluation, no measuring, nothing recorded."""
    start = time.perf_counter()
    torch.manual_seed(seed)
    data = Adding(length=LENGTH).sample(steps * BATCH, LENGTH, torch.Generator().manual_seed(seed))
    inputs, targets = data.inputs.to(device), data.targets.to(device)
    model = _Bare(cell).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(steps):
        rows = slice(step * BATCH, (step + 1) * BATCH)
        optimizer.zero_grad(set_to_none=True)
        nn.functional.mse_loss(model(inputs[rows]), targets[rows]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def summary(bench: Bench, rows: Sequence[Row]) -> list[Row]:
    """Nothing beyond the cases."""
    return []
