"""Runs and packs: which runs are trained together, how many at once, and in which order the packs are started."""

from __future__ import annotations

import heapq
import itertools
import math
import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from goldfish.config.config import Config
from goldfish.sweep import machine
from goldfish.sweep.claims import Key
from goldfish.training.pack import pack_key

Size = int | Literal["auto"]
GATES = {"rnn": 1, "gru": 3, "lstm": 4}

# Measured on one core with AVX-512 at 2.6 GHz: cells rnn, lstm, gru, H = 16 … 128, T = 50, 200, B = 32, R = 1 … 64.
# The model below is within 10 % of the measurement (root mean square). A slower core stretches all alike.
STEP = 1.0e-3  # seconds that a training step of a pack takes, however small
RUN = 0.08e-3  # seconds of a step for each run: its optimiser's part, its batch
GATE = 2.1e-9  # seconds for each gate of each hidden unit, sequence and time step: exp, division, memory
FLOP = 9.2e-12  # seconds for each floating-point operation of the recurrent products
PACK = 0.1  # seconds to set up and measure a pack

LASTING = 60e-3  # seconds that a pack's step should take on that core: what it takes however small is then under 2 %
SMALLEST, LARGEST = 4, 64
SMALL_GPU = 8 * 2**30  # bytes, of a GPU that does not tell its memory
_NUMBERS, _DRAWN = 24, 2**21  # kept for each hidden state of a step; in a block that is drawn for each run
_BLOCKS = 3  # on a GPU: one computed on, one launched, one drawn ahead
_LIMITS = (2.0, 1.5, 1.2, 1.0, 0.8, 0.65, 0.5, 0.35, 0.25, 0.125)  # longest pack that is tried, in workers' shares
_WORTH = 0.98  # packs are split further where the sweep then takes less than this


@dataclass(frozen=True, eq=False)
class Run:
    """A run that is to be trained, with all that is recorded beside its outcome; no two are equal.

    Attributes:
        config: resolved.
        key: experiment name and fingerprint.
        source_hash: of the code that trains it.
        content: the hash of its real data, "" of synthetic data.
        label: what a person calls it.
        sweep: the name of the sweep.
        repeated: the id of the record that this run repeats, if it repeats one.
        since: unix time; a result that another process has recorded later stands for this run's. 0 for any time.
    """

    config: Config
    key: Key
    source_hash: str
    content: str
    label: str
    sweep: str
    repeated: str | None = None
    since: float = 0.0

    @property
    def name(self) -> str:
        """Its name in a checkpoint."""
        return "/".join(self.key)


Pack = tuple[Run, ...]


def group(configs: Sequence[Config], size: Size, workers: int = 1, *, gpu: bool = False) -> list[list[int]]:
    """Return packs of indices into `configs`, the costliest first, so that no core waits long at the end.

    Runs share a pack when their `pack_key` is equal: they differ in seed, initialisation and learning rate only. No
    pack has more than `size` runs, "auto" being `replicas`; packs of equal key are of equal size, give or take one.
    They are split further where the sweep, whose packs the workers take one by one, then ends earlier.
    """
    members: dict[Hashable, list[int]] = {}
    for index, config in enumerate(configs):
        members.setdefault(pack_key(config), []).append(index)
    kinds = [(configs[runs[0]], runs) for runs in members.values()]
    largest = [replicas(config, workers, gpu=gpu) if size == "auto" else size for config, _ in kinds]
    fewest = [math.ceil(len(runs) / most) for (_, runs), most in zip(kinds, largest, strict=True)]
    parts = _balanced(kinds, fewest, workers)
    packs = [pack for (_, runs), n in zip(kinds, parts, strict=True) for pack in _split(runs, n)]
    return sorted(packs, key=lambda pack: (-_seconds(configs[pack[0]], len(pack)), pack[0]))


def replicas(config: Config, workers: int = 1, *, gpu: bool = False, memory: int | None = None) -> int:
    """How many runs like this one a pack should hold at most.

    On a CPU, as many as make a training step last 60 ms by the model of `cost`, at least 4 and at most 64: what a step
    takes however small is then shared by enough runs. A larger pack was never slower, up to 64 runs: the compiled
    engine takes each tile of eight sequences through all its steps alone, so a pack's buffers need not fit a cache. The
    measured time per run is within 7 % of that of the best size. On a GPU, 64: they fill its multiprocessors.

    In any case no more than memory has room for: the buffers of all packs that share the machine's memory, or a GPU's,
    take half of it at most.

    Args:
        config: a resolved configuration.
        workers: packs that are trained side by side.
        gpu: whether they are trained on GPUs, which share the workers among them.
        memory: bytes of the machine, by default what this process may use; or free on the GPU that has the least.
    """
    if gpu:
        most, devices = LARGEST, machine.gpu_memory()
        share = -(-workers // max(1, len(devices)))
        room = (memory or min(devices, default=SMALL_GPU)) // 2 // share
        return max(1, min(most, room // _bytes(config, _BLOCKS)))
    most = min(LARGEST, max(SMALLEST, math.ceil(LASTING / _per_step(config))))
    return max(1, min(most, (memory or _memory()) // 2 // workers // _bytes(config)))


def cost(config: Config) -> float:
    """Estimated seconds that training one run takes in a large pack.

    Steps × (0.08 ms + B·T·L·G·H · 2.1 ns + 6·B·T·L·G·H² · 9.2 ps), G = gates, and twice as much in float64. An estimate
    to order packs and to weigh progress by: T is task.length, and evaluation is left out.
    """
    return float(config.trainer.max_steps * _per_step(config))


def _per_step(config: Config) -> float:
    hidden, gates = config.cell["hidden_size"], GATES.get(config.cell.name, 3)
    units = _states(config) * gates
    return float(RUN + (units * GATE + 6 * units * hidden * FLOP) * _words(config))


def _seconds(config: Config, runs: int) -> float:
    """Estimated seconds that a pack of so many runs takes."""
    return float(PACK + config.trainer.max_steps * STEP + runs * cost(config))


def _bytes(config: Config, blocks: int = 1) -> int:
    """Memory that a run needs in a pack, at most about twice what was measured on a CPU."""
    return 4 * _words(config) * (_NUMBERS * _states(config) + blocks * _DRAWN)


def _states(config: Config) -> int:
    """Numbers in the hidden states of a training step: B·T·L·H."""
    cell, task = config.cell, config.task
    return int(config.trainer.batch_size * task["length"] * cell["num_layers"] * cell["hidden_size"])


def _words(config: Config) -> int:
    """32-bit words in a number."""
    return 2 if config.trainer.precision == "64-true" else 1


def _memory() -> int:
    """Bytes this process may use: the machine's, or its control group's where that is less."""
    limit, all_of_it = Path("/sys/fs/cgroup/memory.max"), os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    granted = limit.read_text().strip() if limit.is_file() else "max"
    return all_of_it if granted == "max" else min(all_of_it, int(granted))


def _balanced(kinds: Sequence[tuple[Config, list[int]]], fewest: list[int], workers: int) -> list[int]:
    """The number of packs of each kind with which the sweep ends first; the fewer packs where it hardly matters."""
    costs = [cost(config) * len(runs) for config, runs in kinds]
    share = sum(costs) / workers
    best, shortest = fewest, _ends(kinds, fewest, workers)
    for limit in _LIMITS:
        wanted = [math.ceil(all_runs / (limit * share) - 1e-9) for all_runs in costs]
        parts = [min(max(n, m), len(runs)) for n, m, (_, runs) in zip(fewest, wanted, kinds, strict=True)]
        seconds = _ends(kinds, parts, workers)
        if seconds < _WORTH * shortest:
            best, shortest = parts, seconds
    return best


def _ends(kinds: Sequence[tuple[Config, list[int]]], parts: Sequence[int], workers: int) -> float:
    """Estimated seconds until the last pack ends, when each free worker takes the longest that is left."""
    packs = [
        _seconds(config, size)
        for (config, runs), n in zip(kinds, parts, strict=True)
        for size in map(len, _split(runs, n))
    ]
    busy = [0.0] * workers
    for seconds in sorted(packs, reverse=True):
        heapq.heapreplace(busy, busy[0] + seconds)
    return max(busy)


def _split(runs: list[int], parts: int) -> list[list[int]]:
    """Split into consecutive parts whose sizes differ by at most one."""
    bounds = [len(runs) * part // parts for part in range(parts + 1)]
    return [runs[start:stop] for start, stop in itertools.pairwise(bounds)]
