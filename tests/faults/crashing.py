"""A trainer in which one run goes wrong, in a way that the environment names; imported by workers as a module."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Sequence
from typing import Any

from goldfish.config.config import Config
from goldfish.sweep import work
from goldfish.training.outcome import Outcome

BAD = 3  # the seed of the run
HOW = "GOLDFISH_TEST_CRASH"


def train_pack(configs: Sequence[Config], progress: Callable[[int], None], **options: Any) -> list[Outcome]:
    """Train, unless the bad run is among them."""
    if any(config["seed"] == BAD for config in configs):
        CRASHES[os.environ[HOW]]()
    return work.train_pack(configs, progress, **options)


def _exhaust_memory() -> None:
    """As under `ulimit -v`, for this run only."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, before[1]))
    try:
        kept = []
        while True:
            kept.append(bytearray(2**24))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


CRASHES: dict[str, Callable[[], object]] = {
    "kills itself": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exhausts memory": _exhaust_memory,
}
