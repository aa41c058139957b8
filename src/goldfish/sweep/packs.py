"""Packs: which runs are trained together, and in which order the packs are started."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Sequence

from goldfish.config import Config
from goldfish.training.pack import pack_key

GATES = {"rnn": 1, "gru": 3, "lstm": 4}
_OVERHEAD = 32  # below this hidden size a step's cost is that of starting its operations


def group(configs: Sequence[Config], size: int, workers: int = 1) -> list[list[int]]:
    """Return packs of indices into `configs`, the costliest first, so that no core waits long at the end.

    Runs share a pack when their `pack_key` is equal: they differ in seed, initialisation and learning rate only. No
    pack has more than `size` runs; packs of equal key are of equal size, give or take one. Where there would be fewer
    packs than workers, the costliest are split further.
    """
    members: dict[Hashable, list[int]] = {}
    for index, config in enumerate(configs):
        members.setdefault(pack_key(config), []).append(index)
    parts = _parts(configs, list(members.values()), size, workers)
    packs = [pack for runs, n in zip(members.values(), parts, strict=True) for pack in _split(runs, n)]
    return sorted(packs, key=lambda pack: (-sum(cost(configs[index]) for index in pack), pack[0]))


def cost(config: Config) -> float:
    """Estimated cost of training one run, in arbitrary units: steps × batch × T × layers × gates × hidden²."""
    cell, task, trainer = config["cell"], config["task"], config["trainer"]
    width = max(cell["hidden_size"], _OVERHEAD)
    step = trainer["batch_size"] * task["length"] * cell["num_layers"] * GATES.get(cell["name"], 3) * width**2
    return float(trainer["max_steps"] * step)


def _parts(configs: Sequence[Config], members: list[list[int]], size: int, workers: int) -> list[int]:
    """The number of packs for each group of runs that may share one."""
    parts = [math.ceil(len(runs) / size) for runs in members]
    costs = [sum(cost(configs[index]) for index in runs) for runs in members]
    while sum(parts) < workers:
        splittable = [i for i, runs in enumerate(members) if parts[i] < len(runs)]
        if not splittable:
            break
        parts[max(splittable, key=lambda i: costs[i] / parts[i])] += 1
    return parts


def _split(runs: list[int], parts: int) -> list[list[int]]:
    """Split into consecutive parts whose sizes differ by at most one."""
    bounds = [len(runs) * part // parts for part in range(parts + 1)]
    return [runs[start:stop] for start, stop in itertools.pairwise(bounds)]
