"""What a worker runs: a pack is trained, and the test set that its runs share is described for the store.

Workers are forked from a server that has imported this module, and with it torch and Lightning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from goldfish.config import Config
from goldfish.data import describe_test_set
from goldfish.training import train
from goldfish.training.outcome import Outcome


def train_pack(configs: Sequence[Config], progress: Callable[[int], None]) -> list[Outcome]:
    """Train one pack: goldfish.training.train.train_pack, with `dataset` filled in."""
    dataset = describe_test_set(configs[0])
    return [replace(outcome, dataset=dataset) for outcome in train.train_pack(configs, progress)]
