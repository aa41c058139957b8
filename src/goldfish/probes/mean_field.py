"""Mean-field theory of the vanilla tanh RNN with Gaussian weights: how fast its gradient vanishes or explodes."""

from __future__ import annotations

import math
from typing import NamedTuple

from goldfish.inits.critical import tanh_moments

_TOLERANCE, _ROUNDS = 1e-13, 100_000


class MeanField(NamedTuple):
    """The fixed point q of the pre-activations' variance, and χ, the mean square of a step's gain there."""

    q: float
    chi: float

    @property
    def slope(self) -> float:
        """Change of the gradient's ln norm per step, ½ ln χ."""
        return math.log(self.chi) / 2

    @property
    def depth(self) -> float:
        """ξ = -1/ln χ, the depth scale in steps; infinite from the critical line χ = 1 on."""
        return -1 / math.log(self.chi) if self.chi < 1 else math.inf


def mean_field(sigma_w: float, input_variance: float) -> MeanField:
    """q = σ_w² E[tanh²(√q z)] + R and χ = σ_w² E[(1 - tanh²(√q z))²], z ~ N(0, 1).

    Chen, Pennington, Schoenholz, ICML 2018, "Dynamical isometry and a mean field theory of RNNs". By iteration from
    q = σ_w² + R, which falls monotonically to the largest fixed point.

    Args:
        sigma_w: W_hh has variance σ_w²/H.
        input_variance: R, that of W_ih x_t + b per unit.
    """
    q = sigma_w**2 + input_variance
    for _ in range(_ROUNDS):
        before, q = q, sigma_w**2 * tanh_moments(q)[0] + input_variance
        if abs(before - q) <= _TOLERANCE * max(q, 1e-300):
            break
    return MeanField(q, sigma_w**2 * tanh_moments(q)[1])
