"""Gaussian recurrent weights on the critical line χ = 1 of the vanilla RNN."""

from __future__ import annotations

import math
from functools import cache
from typing import Annotated

import torch
from annotated_types import Interval

from goldfish.errors import ConfigError
from goldfish.inits.base import Layer

CELLS = ("rnn",)
_STEP, _REACH = 1 / 64, 9.0  # of the grid over z; the normal density beyond 9 is below 1e-17


def critical(
    layer: Layer,
    generator: torch.Generator,
    *,
    input_variance: Annotated[float, Interval(ge=0, le=100)] | None = None,
) -> None:
    """W_hh normal with the std σ_w/√H at which gradients neither vanish nor explode (vanilla RNN only).

    Poole et al. 2016; Schoenholz et al. 2017; Chen, Pennington, Schoenholz, ICML 2018, "Dynamical isometry and a mean
    field theory of RNNs": χ = σ_w² E[φ'(√q z)²] = 1 at the fixed point q = σ_w² E[φ(√q z)²] + R, z ~ N(0, 1).
    R = input_variance is the variance of W_ih x_t + b_ih + b_hh per unit; the gradient's norm changes by √χ per step.
    null takes R = 1/H, which PyTorch's W_ih and two biases give for inputs of norm 1, such as one-hot symbols. ReLU has
    σ_w = √2 and the identity 1 at any R (with R > 0 their q grows without limit).

    Replaces W_hh; W_ih and the biases stay PyTorch's: R is stated, not enforced.

    Raises:
        ConfigError: for a cell other than rnn, and for sigmoid units.
    """
    if layer.cell not in CELLS:
        raise ConfigError(f"init=critical: does not suit cell={layer.cell}, only {', '.join(CELLS)}")
    if layer.nonlinearity == "sigmoid":
        raise ConfigError("init=critical: does not suit cell.nonlinearity=sigmoid, only identity, relu, tanh")
    variance = 1 / layer.hidden_size if input_variance is None else input_variance
    std = critical_sigma(layer.nonlinearity, variance) / math.sqrt(layer.hidden_size)
    layer.weight_hh.copy_(std * torch.randn(layer.weight_hh.shape, generator=generator, dtype=torch.float64))


@cache
def critical_sigma(nonlinearity: str, input_variance: float) -> float:
    """σ_w with χ = 1. For tanh: σ_w² = 1/E[φ'(√q z)²] at every q, so that only q is to be found, by bisection."""
    if nonlinearity == "relu":
        return math.sqrt(2)
    if nonlinearity == "identity" or input_variance == 0:
        return 1.0
    low, high = 0.0, 1.0
    while _input_variance(high) < input_variance:
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if _input_variance(middle) < input_variance else (low, middle)
    return 1 / math.sqrt(tanh_moments(high)[1])


def _input_variance(q: float) -> float:
    """The R at which q is the fixed point of the critical network: q - σ_w² E[φ²]; it grows with q."""
    square, slope = tanh_moments(q)
    return q - square / slope


def tanh_moments(q: float) -> tuple[float, float]:
    """E[φ(√q z)²] and E[φ'(√q z)²] for φ = tanh.

    By the trapezoidal rule, whose error falls exponentially for analytic integrands; it needs no eigenvalues, as
    Gauss–Hermite nodes do, so its bits depend on nothing but q.
    """
    root = math.sqrt(q)
    grid = [k * _STEP for k in range(1, round(_REACH / _STEP) + 1)]
    weights = [2 * _STEP * math.exp(-z * z / 2) / math.sqrt(2 * math.pi) for z in grid]
    squares = [math.tanh(root * z) ** 2 for z in grid]
    at_zero = _STEP / math.sqrt(2 * math.pi)
    square = math.fsum(w * s for w, s in zip(weights, squares, strict=True))
    slope = at_zero + math.fsum(w * (1 - s) ** 2 for w, s in zip(weights, squares, strict=True))
    return square, slope
