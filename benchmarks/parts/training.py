"""train_pack of adding, 64 runs at once: the time of a step, and what of it is drawing, replay and waiting."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch

from benchmarks.parts.part import Part, told

if TYPE_CHECKING:
    from goldfish.config.config import Config

_WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "aten::_local_scalar_dense")


@dataclass
class Times:
    """Seconds, step by step; what a step is is seen at its end."""

    drawing: list[float] = field(default_factory=list)
    replay: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)


def main(part: Part) -> None:
    """At two lengths: undisturbed; once more, waiting for the device after each draw and each step; and profiled."""
    for length, steps in ((10, 24),) if part.quick else ((50, 384), (1000, 160)):
        case = f"adding T={length} R={2 if part.quick else 64}"
        configs = _configs(part, length, steps)
        engine, whole = _trained(part, configs, every=False)
        part.row(f"{case}: a step", _milliseconds(_between(whole.ends)), note=f"engine {engine}; undisturbed")
        if part.time_left < 0:
            return
        _, split = _trained(part, configs, every=True)
        part.row(f"{case}: drawing", _milliseconds(split.drawing), note="until the batch is on the device")
        part.row(f"{case}: replay", _milliseconds(split.replay), note="until the device has done the step")
        if part.device == "cuda" and part.time_left > 0:
            _profiled(part, case, configs[0].trainer.max_steps, configs)


def _configs(part: Part, length: int, steps: int) -> list[Config]:
    from goldfish.config.config import resolve

    trainer: dict[str, Any] = {"max_steps": steps, "validate_every": steps, "evaluation_size": 32}
    trainer |= {"accelerator": "gpu" if part.device == "cuda" else "cpu"}
    shared = {"cell": {"name": "gru", "hidden_size": 32}, "task": {"name": "adding", "length": length}}
    return [resolve(shared | {"trainer": trainer, "seed": seed}) for seed in range(2 if part.quick else 64)]


def _trained(part: Part, configs: Sequence[Any], every: bool) -> tuple[str, Times]:
    """Train a pack and note its times: after every draw and step the device is waited for, or twice in all.

    Those two times are where `_milliseconds` begins and ends: the host may be ahead of the device by many steps.
    """
    from goldfish.training.data import PackData
    from goldfish.training.module import PackModule
    from goldfish.training.train import train_pack

    times, steps = Times(), configs[0].trainer.max_steps
    wait = torch.cuda.synchronize if part.device == "cuda" else lambda: None
    load, step = PackData.train_dataloader, PackModule.training_step

    class Drawn:
        """The training stream; what it takes to go on is noted."""

        def __init__(self, stream: Any) -> None:
            self.stream = stream

        def __len__(self) -> int:
            return len(self.stream)

        def __iter__(self) -> Iterator[Any]:
            stream = iter(self.stream)
            for _ in range(len(self)):
                before = time.perf_counter()
                batch = next(stream)
                if every:
                    wait()
                times.drawing.append(time.perf_counter() - before)
                yield batch

    def stepped(module: Any, batch: Any, batch_idx: int) -> None:
        before = time.perf_counter()
        step(module, batch, batch_idx)
        if every or len(times.ends) in (steps // 2 + 1, steps - 1):
            wait()
        now = time.perf_counter()
        times.replay.append(now - before)
        times.ends.append(now)

    with (
        patch.object(PackData, "train_dataloader", lambda data: Drawn(load(data))),
        patch.object(PackModule, "training_step", stepped),
    ):
        (first, *_) = train_pack(configs)
    return first.engine, times


def _profiled(part: Part, case: str, steps: int, configs: Sequence[Any]) -> None:
    """What the host spends waiting for the device, by its profiler: in all calls that wait, over all of training."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        _trained(part, configs, every=False)
    waits = [event for event in found.key_averages() if event.key in _WAITS]
    seconds = sum(event.self_cpu_time_total for event in waits) * 1e-6
    calls = ", ".join(f"{event.key} {event.count}×" for event in waits)
    note = f"{calls or 'no call that waits'} in {steps} steps, validation and measuring included"
    part.row(f"{case}: sync", f"{1e3 * seconds / steps:.3g} ms", note=note)


def _between(ends: Sequence[float]) -> list[float]:
    return [0.0, *(after - before for before, after in itertools.pairwise(ends))]


def _milliseconds(seconds: Sequence[float]) -> str:
    """The mean of the second half: first steps compile and are recorded, in the middle gradient flow is measured.

    No median: batches are drawn in blocks, and what a block takes shows in one step alone.
    """
    return f"{1e3 * statistics.fmean(seconds[len(seconds) // 2 + 2 :]):.3g} ms"


if __name__ == "__main__":
    main(told())
