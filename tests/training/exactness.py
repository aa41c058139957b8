"""What two equal outcomes share to the last bit, and how training is broken off at a step of choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from goldfish.config.config import Config
from goldfish.training.outcome import Outcome
from goldfish.training.state.checkpoint import Checkpointing, Interrupted
from goldfish.training.train import train_pack

TIMES = {"train/seconds", "train/steps_per_second"}


def essence(outcome: Outcome) -> dict[str, Any]:
    """Everything but times and the size of the pack, so that equal values have equal bits, types and order."""
    metrics = [(name, value) for name, value in outcome.metrics.items() if name not in TIMES]
    return {
        "verdict": outcome.verdict,
        "reason": outcome.reason,
        "steps": outcome.steps,
        "metrics": repr(metrics),
        "curves": repr([tuple(point) for point in outcome.curves]),
        "weights": {name: value.numpy().tobytes() for name, value in outcome.state_dict.items()},
    }


def interrupt(configs: Sequence[Config], checkpointing: Checkpointing | None, step: int) -> list[int]:
    """Train until a step is done, and stop there; return the steps that were reported, as they were."""
    seen: list[int] = []
    with pytest.raises(Interrupted) as caught:
        train_pack(configs, seen.append, checkpointing=checkpointing, stop=lambda: sum(seen) >= step * len(configs))
    assert caught.value.step == step
    return seen
