"""Checks that a run's data and initial weights are finite: only then may the run be called diverged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from goldfish.config.config import Config
from goldfish.errors import ConfigError
from goldfish.tasks.base import Batch

_AXES = ("sequence", "step", "feature")


def check_batch(batch: Batch, where: str) -> None:
    """Raise ConfigError where the inputs or targets of a batch without replica axis hold NaN or infinity."""
    for name in ("inputs", "targets"):
        value: Any = getattr(batch, name)
        bad = ~torch.isfinite(value)
        if bad.any():
            index = bad.nonzero()[0].tolist()
            place = ", ".join(f"{axis} {number}" for axis, number in zip(_AXES, index, strict=False))
            raise ConfigError(f"{where}: {name} hold {float(value[tuple(index)])} at {place}; expected finite numbers")


def check_weights(model: nn.Module, configs: Sequence[Config]) -> None:
    """Raise ConfigError where a run's initial weights, (R, …), hold NaN or infinity."""
    for name, value in model.named_parameters():
        fine = torch.isfinite(value.detach()).flatten(1).all(1)
        if not fine.all():
            config = configs[fine.tolist().index(False)]
            init, seed = config.init.name, config.seed
            raise ConfigError(
                f"init={init}: {name} of seed {seed} is not finite from the start; expected finite weights"
            )
