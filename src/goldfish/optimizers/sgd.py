"""SGD (stochastic gradient descent, with optional momentum)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt


def sgd(
    groups: Iterable[dict[str, Any]],
    *,
    lr: Annotated[float, Gt(0)] = 1e-2,
    momentum: Annotated[float, Ge(0)] = 0.0,
    weight_decay: Annotated[float, Ge(0)] = 0.0,
) -> torch.optim.Optimizer:
    """torch.optim.SGD over a pack's parameter groups, each with its own lr."""
    return torch.optim.SGD(list(groups), lr=lr, momentum=momentum, weight_decay=weight_decay, fused=True)
