"""What a sequence model costs: time and memory of a training step, and time of a generated token, by sequence length.

All are language models of one text, with about equally many parameters; a training step is forward, backward and Adam.
A recurrent network generates a token from its state. A convolutional network and a Transformer are run over the whole
context again: no cache of theirs is kept here.
"""

from __future__ import annotations

import ctypes
import gc
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from goldfish.config import registry
from goldfish.config.config import resolve
from goldfish.training.data import TrainingStream
from goldfish.training.module import PackModule

NETWORKS: dict[str, dict[str, Any]] = {
    "rnn": {"cell": {"name": "rnn", "hidden_size": 256}, "model": {"embedding_size": 128}},
    "lstm": {"cell": {"name": "lstm", "hidden_size": 116}, "model": {"embedding_size": 128}},
    "gru": {"cell": {"name": "gru", "hidden_size": 136}, "model": {"embedding_size": 128}},
    "tcn": {"model": {"name": "tcn", "channels": 44, "levels": 8, "embedding_size": 128}},
    "transformer": {"model": {"name": "transformer", "model_size": 64, "layers": 2, "feedforward_size": 256}},
}
TRAINING, GENERATION = "training step", "generated token"
Step = Callable[[], object]


def measure(settings: Mapping[str, Any], out: Path) -> pd.DataFrame:
    """Measure every network at every length and batch size, recurrent ones in packs too, on all threads of torch.

    Args:
        settings: lengths, batches, packs, device, rounds, seconds (that a measurement takes at least) and, where only
            some are asked for, networks.
        out: not used; nothing but the table is left.

    Returns:
        A row for each network, `what` (training step, generated token), length T, batch B, replicas R: seconds and
        memory per step of one replica (MB, the peak above what was there before; NaN where it cannot be told), the
        interquartile range of the seconds over rounds as a fraction, parameters of one replica, device.
    """
    networks, device = settings.get("networks", tuple(NETWORKS)), settings["device"]
    for name in networks:
        _Built(name, 2, 1, 1, device).train()  # compiles kernels, loads libraries: no memory of the steps below
    gc.freeze()  # what is there stays: to look through it before every measurement takes longer than to measure
    rows: list[dict[str, Any]] = []
    for replicas in settings["packs"]:
        for batch in settings["batches"]:
            for length in settings["lengths"]:
                print(f"achilles_heel: T = {length}, B = {batch}, R = {replicas}", file=sys.stderr, flush=True)
                # the others run their replicas one after another: there is nothing that a pack could win
                chosen = [name for name in networks if replicas == 1 or "cell" in NETWORKS[name]]
                built = {name: _Built(name, length, batch, replicas, device) for name in chosen}
                for kind in [TRAINING] if replicas > 1 else [TRAINING, GENERATION]:
                    rows += _timed(built, kind, settings["rounds"], settings["seconds"])
    gc.unfreeze()
    return pd.DataFrame(rows)


class _Built:
    """One network, ready to train and to generate."""

    def __init__(self, name: str, length: int, batch: int, replicas: int, device: str) -> None:
        task = {"name": "characters", "dataset": "python_docs", "length": length}
        common = {"task": task, "trainer": {"batch_size": batch, "max_steps": 1}, "optimizer": {"name": "adam"}}
        configs = [resolve({**common, **NETWORKS[name], "seed": seed}) for seed in range(replicas)]
        built = registry.load("task", "characters")(dataset="python_docs", length=length)
        self.name, self.length, self.batch_size, self.replicas = name, length, batch, replicas
        self.device = torch.device(device)
        self.module: PackModule = PackModule(configs, built, torch.float32, self.device)
        self.batch = next(iter(TrainingStream(built, configs, self.device, torch.float32)))
        self.memory = peak(self.train, self.device.type)

    def train(self) -> None:
        """Forward, backward, optimiser."""
        module = self.module
        losses = module.task.losses(module(self.batch), self.batch)
        module.weights.backward(losses.mean(-1).sum())
        module.optimizer.step()

    def generator(self) -> Step:
        """One more token after a context of the given length."""
        module = self.module
        if not module.recurrents:
            return torch.no_grad()(lambda: module(self.batch)[..., -1, :].argmax(-1))
        with torch.no_grad():
            words = module.model.embedding(self.batch.inputs)
            _, state = module.model.recurrent(words)
            last = module.model.embedding(self.batch.inputs[..., -1:])

        @torch.no_grad()
        def token() -> object:
            outputs, _ = module.model.recurrent(last, state)
            return module.model.readout(outputs[:, :, 0]).argmax(-1)

        return token

    def row(self, kind: str, rounds: Sequence[float]) -> dict[str, Any]:
        """What was measured; rounds: seconds of a step of one replica."""
        ordered, median = sorted(rounds), statistics.median(rounds)
        quarter = len(ordered) // 4
        spread = (ordered[-1 - quarter] - ordered[quarter]) / median
        return {
            "network": self.name,
            "what": kind,
            "length": self.length,
            "batch": self.batch_size,
            "replicas": self.replicas,
            "seconds": median,
            "spread": spread,
            "memory": self.memory / self.replicas if kind == TRAINING else float("nan"),
            "parameters": self.module.weights.rows[0].numel(),
            "device": self.device.type,
        }


def _timed(built: Mapping[str, _Built], kind: str, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """The networks take turns, round after round, so that whatever the machine does meanwhile hits all of them."""
    steps = {name: network.train if kind == TRAINING else network.generator() for name, network in built.items()}
    counts = {name: _count(built[name], step, seconds) for name, step in steps.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, step in steps.items():
                times[name].append(_clock(built[name], step, counts[name]) / counts[name] / built[name].replicas)
    finally:
        gc.enable()
    return [built[name].row(kind, taken) for name, taken in times.items()]


def _count(network: _Built, step: Step, seconds: float) -> int:
    """How many steps take so many seconds, once it is warm."""
    count, taken = 1, _clock(network, step, 1)
    while taken < seconds / 4:
        count *= 2
        taken = _clock(network, step, count)
    return max(1, math.ceil(count * seconds / taken))


def _clock(network: _Built, step: Step, count: int) -> float:
    """Seconds of so many steps."""
    wait = torch.cuda.synchronize if network.device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    for _ in range(count):
        step()
    wait()
    return time.perf_counter() - start


def peak(step: Step, device: str) -> float:
    """Most memory that a step needs above what is in use before it, in MB; NaN where the system does not tell."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        torch.cuda.synchronize()
        return float(torch.cuda.max_memory_allocated() - before) / 1e6
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what was freed is given back, so that it is not taken for what is in use
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak begins anew
    except (OSError, AttributeError):
        step()
        return float("nan")
    before = _status("VmRSS")
    step()
    return (_status("VmHWM") - before) / 1e6


def _status(key: str) -> int:
    """What Linux knows of this process's memory, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{key}:")).split()[1])
