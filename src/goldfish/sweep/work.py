"""The work of a worker process: training a pack and describing, for the store, the test set that its runs share.

Workers are forked from a server that has imported this module, and with it torch, Lightning and the kernels of the CPU
engine that are compiled already. None of these starts a thread: a server that forks must have none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from goldfish.config.config import Config
from goldfish.data.sources import describe_test_set
from goldfish.engines import cpu
from goldfish.training import train
from goldfish.training.outcome import Outcome
from goldfish.training.state.checkpoint import Checkpointing

cpu.load_kept()


def train_pack(
    configs: Sequence[Config],
    progress: Callable[[int], None],
    *,
    checkpointing: Checkpointing | None = None,
    stop: Callable[[], bool] | None = None,
) -> list[Outcome]:
    """Train one pack: goldfish.training.train.train_pack, with `dataset` filled in."""
    outcomes = train.train_pack(configs, progress, checkpointing=checkpointing, stop=stop)
    dataset = describe_test_set(configs[0])  # imports what the first training step need not wait for
    return [replace(outcome, dataset=dataset) for outcome in outcomes]
