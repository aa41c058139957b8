"""What a sequence model costs: time and memory of a training step, and time of a generated token, by sequence length.

All are language models of one text, with about equally many parameters; a training step is forward, backward and Adam.
A recurrent network generates a token from its state. A convolutional network and a Transformer are run over the whole
context again: no cache of theirs is kept here.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from goldfish.bench import resident
from goldfish.bench.interleave import Contestant, NotRun, Timed, interleave

if TYPE_CHECKING:
    import pandas as pd

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


def measure(
    *,
    lengths: Sequence[int],
    batches: Sequence[int],
    packs: Sequence[int],
    device: str = "cpu",
    rounds: int = 5,
    seconds: float = 0.2,
    networks: Sequence[str] = tuple(NETWORKS),
    progress: Callable[[str], None] = lambda line: None,
) -> pd.DataFrame:
    """Measure every network at every length and batch size, recurrent ones in packs too; on all threads of torch.

    Networks take turns.

    Returns:
        A row for each network, `what` (training step, generated token), length T, batch B, replicas R: seconds and
        memory per step of one replica (MB, the peak above what was there before; NaN where it cannot be told), the
        interquartile range of the seconds over rounds as a fraction, parameters of one replica, device.
    """
    import pandas as pd

    for name in networks:
        _Built(name, 2, 1, 1, device).train()  # compiles kernels, loads libraries: no memory of the steps below
    rows: list[dict[str, Any]] = []
    for replicas in packs:
        for batch in batches:
            for length in lengths:
                progress(f"T = {length}, B = {batch}, R = {replicas}")
                # the others run their replicas one after another: there is nothing that a pack could win
                chosen = [name for name in networks if replicas == 1 or "cell" in NETWORKS[name]]
                built = {name: _Built(name, length, batch, replicas, device) for name in chosen}
                kinds = [TRAINING] if replicas > 1 else [TRAINING, GENERATION]
                for kind in kinds:
                    rows += _timed(built, kind, rounds, seconds)
    return pd.DataFrame(rows)


class _Built:
    """One network, ready to train and to generate."""

    def __init__(self, name: str, length: int, batch: int, replicas: int, device: str) -> None:
        import torch

        from goldfish.config import registry
        from goldfish.config.config import resolve
        from goldfish.training.data import TrainingStream
        from goldfish.training.module import PackModule

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
        import torch

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

    def row(self, kind: str, timed: Timed) -> dict[str, Any]:
        """What was measured."""
        ordered = sorted(timed.rounds)
        quarter = len(ordered) // 4
        spread = (ordered[-1 - quarter] - ordered[quarter]) / timed.median
        return {
            "network": self.name,
            "what": kind,
            "length": self.length,
            "batch": self.batch_size,
            "replicas": self.replicas,
            "seconds": timed.median,
            "spread": spread,
            "memory": self.memory / self.replicas if kind == TRAINING else float("nan"),
            "parameters": self.module.weights.rows[0].numel(),
            "device": self.device.type,
        }


def _timed(built: Mapping[str, _Built], kind: str, rounds: int, seconds: float) -> list[dict[str, Any]]:
    steps = {name: own.train if kind == TRAINING else own.generator() for name, own in built.items()}
    entrants = {name: Contestant(_repeat(step), built[name].replicas) for name, step in steps.items()}
    found = interleave(entrants, rounds=rounds, seconds=seconds, synchronise=_synchronise(next(iter(built.values()))))
    for name, timed in found.items():
        if isinstance(timed, NotRun):
            raise RuntimeError(f"{name}: {timed.reason}")
    return [built[name].row(kind, timed) for name, timed in found.items() if isinstance(timed, Timed)]


def _repeat(step: Step) -> Callable[[int], None]:
    def run(n: int) -> None:
        for _ in range(n):
            step()

    return run


def _synchronise(built: _Built) -> Callable[[], None]:
    import torch

    return torch.cuda.synchronize if built.device.type == "cuda" else lambda: None


def peak(step: Step, device: str) -> float:
    """Most memory that a step needs above what is in use before it, in MB; NaN where the system does not tell."""
    import torch

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        torch.cuda.synchronize()
        return float(torch.cuda.max_memory_allocated() - before) / 1e6
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what was freed is given back, so that it is not taken for what is in use
        resident.forget()
    except (OSError, AttributeError):
        step()
        return float("nan")
    before = resident.now()
    step()
    return (resident.peak() - before) / 1e6
