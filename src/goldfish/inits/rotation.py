"""Recurrent weights that rotate pairs of units (Henaff, Szlam, LeCun 2016)."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Interval

from goldfish.inits.base import Layer


def rotation(
    layer: Layer,
    generator: torch.Generator,
    *,
    max_angle: Annotated[float, Interval(ge=0, le=3.141592653589793)] = 3.141592653589793,
) -> None:
    """W_hh block-diagonal: units 2k and 2k+1 turn by an angle θ_k ~ U(±max_angle).

    Henaff, Szlam, LeCun, ICML 2016, "Recurrent orthogonal networks and long-memory tasks": pairs of units as the hands
    of clocks. The blocks are exp([[0, -θ], [θ, 0]]) = [[cos θ, -sin θ], [sin θ, cos θ]], drawn as Lezcano-Casado and
    Martínez-Rubio (ICML 2019) do under Henaff's name: orthogonal, determinant 1, eigenvalues e^{±iθ_k}. max_angle=0 is
    the identity. With odd H the last unit, left alone, keeps its value: a 1×1 block of 1.

    Replaces W_hh, gate by gate with angles of its own; W_ih and the biases stay PyTorch's.
    """
    G, H, _ = layer.weight_hh.shape
    angles = (2 * torch.rand(G, H // 2, generator=generator, dtype=torch.float64) - 1) * max_angle
    blocks = torch.eye(H, dtype=torch.float64).repeat(G, 1, 1)
    first = torch.arange(0, H - 1, 2)
    blocks[:, first, first] = blocks[:, first + 1, first + 1] = angles.cos()
    blocks[:, first + 1, first] = angles.sin()
    blocks[:, first, first + 1] = -angles.sin()
    layer.weight_hh.copy_(blocks)
