"""Gaussian recurrent weights of a given σ_w, the setting of mean-field theory."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from annotated_types import Ge

from goldfish.inits.base import Layer


def gaussian(
    layer: Layer,
    generator: torch.Generator,
    *,
    sigma_w: Annotated[float, Ge(0)] = 1.0,
    sigma_u: Annotated[float, Ge(0)] | None = None,
    sigma_b: Annotated[float, Ge(0)] | None = None,
) -> None:
    """W_hh normal with std sigma_w/√H; W_ih and biases too where sigma_u and sigma_b are given.

    Chen, Pennington, Schoenholz, ICML 2018, "Dynamical isometry and a mean field theory of RNNs": whether gradients
    vanish (χ < 1) or explode (χ > 1) depends on sigma_w and on the variance R of W_ih x_t + b per unit.

    Replaces W_hh ~ N(0, variance sigma_w²/H), gate by gate. With sigma_u, W_ih ~ N(0, variance sigma_u²/D): inputs of
    mean square v contribute sigma_u² v to R. With sigma_b, the total bias ~ N(0, variance sigma_b²), all of it in b_ih
    and 0 in b_hh: it contributes sigma_b² to R. What is null stays PyTorch's (two biases of variance 1/(3H) each).
    """
    layer.weight_hh.copy_(_normal(layer.weight_hh.shape, generator) * (sigma_w / math.sqrt(layer.hidden_size)))
    if sigma_u is not None:
        layer.weight_ih.copy_(
            _normal(layer.weight_ih.shape, generator) * (sigma_u / math.sqrt(layer.weight_ih.shape[-1]))
        )
    if sigma_b is not None:
        layer.bias_ih.copy_(_normal(layer.bias_ih.shape, generator) * sigma_b)
        layer.bias_hh.zero_()


def _normal(shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)
