"""What the harness adds to training: Lightning, evaluation and probes; recording; composing; starting."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.bench import Bench, Job
from benchmarks.interleave import Contestant, NotRun, Timed, ratio, spread
from benchmarks.problem import CELLS
from benchmarks.rows import Row, Target, judged, row
from goldfish.config import registry
from goldfish.config.config import Config, resolve

NAME = "harness"
TITLE = "The harness around training"
NEEDS = ("hydra", "mlflow", "pytorch_lightning", "torchmetrics")
RUNS, ADDED, MILLISECONDS = 16, 1.05, 0.5e-3  # a step may take 5 % and half a millisecond longer
BARE, EVERYTHING = "bare loop of the pack", "goldfish.train: loop, evaluation, probes"
LOOP = "goldfish.train: loop alone"  # what one more step costs: evaluation and probes cancel
EMPTY = "bare loop + Lightning's, with nothing in it"  # the least that a loop in Lightning comes to
COMPOSED = 1000
SWEEP_OF_COMPOSED = ("cell=rnn,lstm,gru", "init=pytorch,orthogonal", "task.length=10,20,40,80")


def jobs(bench: Bench) -> list[Job]:
    """A job for each thing that is timed."""
    return [
        *(_training(bench, cell) for cell in CELLS),
        Job("recording", lambda: [_recording(bench)]),
        Job("composing", lambda: [_composing(bench)]),
        Job("--help", lambda: [_help(bench)]),
        Job("first step", lambda: [_first_step(bench)]),
    ]


def _configs(bench: Bench, cell: str, steps: int, **trainer: Any) -> list[Config]:
    chosen = {"max_steps": steps, "accelerator": "cpu" if bench.device == "cpu" else "gpu", **trainer}
    task = {"name": "adding", "length": 50}
    return [resolve({"cell": cell, "task": task, "trainer": chosen, "seed": seed}) for seed in range(RUNS)]


def _training(bench: Bench, cell: str) -> Job:
    steps, more, fewer = (20, 20, 10) if bench.quick else (1000, 300, 100)

    def measure() -> list[Row]:
        unwatched = {count: _configs(bench, cell, count, validate_every=10**6) for count in (more, fewer)}
        results = bench.time(
            {
                BARE: Contestant(_bare(_configs(bench, cell, steps), steps)),
                EVERYTHING: Contestant(_trained(_configs(bench, cell, steps))),
                **{str(count): Contestant(_trained(configs)) for count, configs in unwatched.items()},
                EMPTY: Contestant(_empty(steps)),
            },
            rounds=2 if bench.quick else 5,
        )
        seconds = {name: _rounds(result) for name, result in results.items()}
        per_step = {name: Timed(tuple(taken / steps for taken in seconds[name])) for name in (BARE, EVERYTHING)}
        differences = zip(seconds[str(more)], seconds[str(fewer)], strict=True)
        per_step[LOOP] = Timed(tuple((a - b) / (more - fewer) for a, b in differences))
        both = zip(seconds[BARE], seconds[EMPTY], strict=True)
        per_step[EMPTY] = Timed(tuple((bare + empty) / steps for bare, empty in both))
        return _per_step(bench, cell, per_step)

    return Job(f"{cell} training", measure)


def _rounds(result: Timed | NotRun) -> tuple[float, ...]:
    """Its times. Raises RuntimeError with the reason when this project's own training did not run."""
    if isinstance(result, NotRun):
        raise RuntimeError(result.reason)
    return result.rounds


def _per_step(bench: Bench, cell: str, times: dict[str, Timed]) -> list[Row]:
    """A row for each, over the bare loop."""
    bare = times[BARE]
    case = f"{cell} H=32 B=32 T=50, pack of {RUNS}, per step"
    rows = [
        row(NAME, case, peer, found.median, ratio=ratio(found, bare), rounds=len(found.rounds))
        for peer, found in times.items()
    ]
    target = Target("≤", ADDED + MILLISECONDS / bare.median)
    return [judged(item, target) if item.peer == EVERYTHING and not bench.quick else item for item in rows]


def _trained(configs: Sequence[Config]) -> Callable[[int], None]:
    from goldfish.training.train import train_pack

    def run(n: int) -> None:
        for _ in range(n):
            train_pack(configs)

    return run


def _empty(steps: int) -> Callable[[int], None]:
    """Lightning's loop over a module that does nothing."""
    import pytorch_lightning as pl

    from goldfish.training.train import lightning_trainer

    class Nothing(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD([self.weight])

        def training_step(self, batch: object, batch_idx: int) -> None:
            """Nothing."""

    def run(n: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(n):
                lightning_trainer(torch.device("cpu"), [], steps).fit(Nothing(), range(steps))

    return run


def _bare(configs: Sequence[Config], steps: int) -> Callable[[int], None]:
    """The same pack, data, clipping and optimiser in a plain loop on one thread: nothing checked, nothing measured."""
    from goldfish.threads import one_thread
    from goldfish.training.data import TrainingStream
    from goldfish.training.module import PackModule

    task = registry.load("task", configs[0]["task"]["name"])(length=configs[0]["task"]["length"])
    device = torch.device("cpu" if configs[0]["trainer"]["accelerator"] == "cpu" else "cuda")

    def train() -> None:
        module = PackModule(configs, task, torch.float32, device)
        for batch in itertools.islice(TrainingStream(task, configs, device, torch.float32), steps):
            losses = task.losses(module(batch), batch)
            module.weights.backward(losses.mean(-1).sum())
            module.weights.clip_norm(1.0, module.weights.norms())
            module.optimizer.step()

    def run(n: int) -> None:
        with one_thread():
            for _ in range(n):
                train()

    return run


def _recording(bench: Bench) -> Row:
    """One finished run with its curves, probes and weights into an SQLite store; the median of many."""
    import io
    from dataclasses import replace

    from goldfish.sweep.identity import fingerprint
    from goldfish.tracking import provenance
    from goldfish.tracking.store import Store
    from goldfish.training.train import train_pack

    config = _configs(bench, "rnn", 50, validate_every=10)[0]
    outcome, weights = train_pack([config])[0], io.BytesIO()
    torch.save(outcome.state_dict, weights)
    outcome = replace(outcome, state_dict={"weights.pt": weights.getvalue()})  # as a worker sends it
    about, times = provenance.collect(), []
    with tempfile.TemporaryDirectory() as folder:
        store = Store(root=Path(folder))
        store.prepare()
        for seed in range(5 if bench.quick else 30):
            named = config | {"seed": seed}
            start = time.perf_counter()
            store.record(
                replace(outcome, config=named), experiment_name="bench", sweep="bench",
                fingerprint=fingerprint(named), source_hash="0" * 64, provenance=about,
            )  # fmt: skip
            times.append(time.perf_counter() - start)
    points = len(outcome.curves) + len(outcome.metrics)
    case = f"recording a finished run with {points} points"
    return row(NAME, case, "goldfish", median(times), rounds=len(times), target=Target("≤", 0.060))


def _composing(bench: Bench) -> Row:
    """A thousand runs composed and checked, from the words of a command to resolved configurations."""
    from goldfish.composing.compose import Composer, loader

    seeds = COMPOSED // 24 + 1
    choices = [[f"{line.partition('=')[0]}={value}" for value in line.partition("=")[2].split(",")]
               for line in (*SWEEP_OF_COMPOSED, f"seed={','.join(map(str, range(seeds)))}")]  # fmt: skip
    points = list(itertools.product(*choices))[: 48 if bench.quick else COMPOSED]
    start = time.perf_counter()
    composer = Composer(loader())
    found = composer.distinct([[composer.setting(line) for line in point] for point in points])
    seconds = time.perf_counter() - start
    assert len(found) == len(points)
    return row(NAME, f"composing and validating {len(points)} runs", "goldfish", seconds, target=Target("≤", 5.0))


def _help(bench: Bench) -> Row:
    times = []
    for _ in range(2 if bench.quick else 7):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "goldfish", "--help"], capture_output=True, check=True)
        times.append(time.perf_counter() - start)
    found = spread(times).value
    return row(NAME, "goldfish --help", "goldfish", found, rounds=len(times), target=Target("≤", 1.0))


def _first_step(bench: Bench) -> Row:
    """Seconds from starting the program to the end of its first training step."""
    times = []
    for _ in range(1 if bench.quick else 3):
        with tempfile.TemporaryDirectory() as folder:
            file, start = Path(folder) / "first_step", time.time()
            environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.first_step", str(file)],
                cwd=folder, env=environment, capture_output=True, text=True,
            )  # fmt: skip
            if done.returncode:
                raise RuntimeError(f"benchmarks.first_step: {done.stderr.strip()[-500:]}")
            times.append(float(file.read_text()) - start)
    found = median(times)
    return row(NAME, "a sweep's first training step", "goldfish", found, rounds=len(times), target=Target("≤", 10.0))


def summary(bench: Bench, rows: Sequence[Row]) -> list[Row]:
    """Nothing beyond the cases."""
    return []
