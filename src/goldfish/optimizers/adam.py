"""Adam (Kingma & Ba 2015)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Interval


def adam(
    groups: Iterable[dict[str, Any]],
    *,
    lr: Annotated[float, Gt(0)] = 1e-3,
    beta1: Annotated[float, Interval(ge=0, le=1)] = 0.9,
    beta2: Annotated[float, Interval(ge=0, le=1)] = 0.999,
    eps: Annotated[float, Gt(0)] = 1e-8,
    weight_decay: Annotated[float, Ge(0)] = 0.0,
) -> torch.optim.Optimizer:
    """torch.optim.Adam over a pack's parameter groups, each with its own lr."""
    rows = list(groups)
    on_gpu = rows[0]["params"][0].is_cuda  # there a step may be recorded in a graph
    return torch.optim.Adam(
        rows, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay, fused=True, capturable=on_gpu
    )
